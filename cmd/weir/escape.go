package main

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// What senders wrote (keys, bodies, headers, errors) reaches an operator's
// terminal, which obeys escape sequences: it could rewrite what is on the screen,
// set the clipboard or the title. So nothing unprintable is printed, and nothing
// that turns the direction of writing round.

// safe is s in one line, with whatever is not printable escaped as in Go: \n, \x1b, \u202e.
func safe(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + hexByte(s[i]))
		case unicode.IsPrint(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

func printable(s string) bool {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			return false
		}
		i += size
	}
	return true
}

func hexByte(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// safeLines is safe for a text of lines; tabs become four spaces.
func safeLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = safe(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// clip is s, safe, in at most max runes; a cut shows as an ellipsis.
func clip(s string, max int) string {
	s = safe(s)
	if utf8.RuneCountInString(s) <= max {
		return s
	}
	runes := []rune(s)
	return string(runes[:max-1]) + "…"
}

// encodeJSON is v in one line of JSON in which whatever is not printable is
// escaped: encoding/json leaves DEL and the C1 controls (U+009B begins a terminal's
// escape sequences) as they are.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	line := strings.TrimSuffix(b.String(), "\n")
	if printable(line) {
		return []byte(line), nil
	}
	out := make([]byte, 0, len(line)+64)
	for _, r := range line {
		switch {
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
	}
	return out, nil
}

func appendEscape(b []byte, r rune) []byte {
	b = append(b, `\u`...)
	b = append(b, hexByte(byte(r>>8))...)
	return append(b, hexByte(byte(r))...)
}
