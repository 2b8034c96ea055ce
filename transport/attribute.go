package transport

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Header is a packet's headers on the wire. Names are looked for in any case.
type Header map[string][]string

// notText says what keeps s from being a CloudEvents String; "" if it is one.
func notText(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain {
		return ""
	}
	if !utf8.ValidString(s) {
		return "bytes that are not UTF-8"
	}
	for _, r := range s {
		switch {
		case r < 0x20, r >= 0x7f && r <= 0x9f:
			return fmt.Sprintf("the control character %U", r)
		case r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return fmt.Sprintf("the noncharacter %U", r)
		}
	}
	return ""
}

// attributeName says whether CloudEvents allows name for an attribute.
func attributeName(name string) bool {
	return nameOf(name, MaxText, "") && name != "data"
}

const upperHex = "0123456789ABCDEF"

// escape percent-encodes an attribute's value for a header, as the NATS and HTTP bindings
// of CloudEvents want it: space, double quote, percent, and all that is not printable ASCII.
func escape(s string) string {
	n := 0
	for i := range len(s) {
		if escaped(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; escaped(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func escaped(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// unescape reads a header's value: a quoted string or plain text, percent-encoded once.
func unescape(s string) (string, error) {
	s = strings.Trim(s, " \t")
	if strings.HasPrefix(s, `"`) {
		text, err := unquote(s)
		if err != nil {
			return "", err
		}
		s = text
	}
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] != '%' {
				b = append(b, s[i])
				continue
			}
			if i+2 >= len(s) || unhex(s[i+1]) > 15 || unhex(s[i+2]) > 15 {
				return "", fmt.Errorf("is %q: want two hexadecimal digits after each %%", clip(s))
			}
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		}
		s = string(b)
	}
	if bad := notText(s); bad != "" {
		return "", fmt.Errorf("is %q: it has %s", clip(s), bad)
	}
	return s, nil
}

// unquote reads a quoted string of RFC 7230, which older senders write.
func unquote(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && i == len(s)-1:
			return string(b), nil
		case c == '"':
			return "", fmt.Errorf("is %q: nothing may follow the closing quote", clip(s))
		case c == '\\' && i+1 < len(s):
			i++
			b = append(b, s[i])
		default:
			b = append(b, c)
		}
	}
	return "", fmt.Errorf("is %q: the closing quote is missing", clip(s))
}

// unhex is a hexadecimal digit's value; 255 for anything else.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// clip shortens what is quoted in an error: it comes from strangers.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
