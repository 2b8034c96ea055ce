package leak_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-go/weir/examples/checkout/leak"
)

const secret = "6011737268"

func search(t *testing.T) *leak.Search {
	t.Helper()
	s, err := leak.For(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever stands around the text, it is found in each form, once.
func TestForms(t *testing.T) {
	s := search(t)
	for how, write := range map[string]func(string) string{
		"as it is":     func(text string) string { return text },
		"in JSON":      func(text string) string { b, _ := json.Marshal(map[string]string{"card": text}); return string(b) },
		"in hex":       func(text string) string { return hex.EncodeToString([]byte(text)) },
		"as HEX":       func(text string) string { return strings.ToUpper(hex.EncodeToString([]byte(text))) },
		"in base64":    func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
		"in URL64":     func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) },
		"in []byte":    func(text string) string { b, _ := json.Marshal([]byte(text)); return string(b) },
		"little UTF16": func(text string) string { return wide(text, 0) },
		"big UTF16":    func(text string) string { return wide(text, 1) },
	} {
		for _, before := range []string{"", "a", "ab", "abc", "no \xff"} {
			for _, after := range []string{"", "1234567", "z"} {
				text := write(before + secret + after)
				found, err := s.Read("it", strings.NewReader(text))
				if err != nil || leak.Times(found) != 1 {
					t.Errorf("%s: %q is found in %q: %v, %v, want once", how, secret, text, found, err)
				}
			}
		}
	}
	for _, groups := range []string{"6011 7372 68", "6011-7372-68", "6011.7372.68"} {
		if found, err := s.Read("it", strings.NewReader("of "+groups+"00 1234")); err != nil || leak.Times(found) != 1 {
			t.Errorf("%q is found: %v, %v, want once", groups, found, err)
		}
	}
	if found, err := s.Read("it", strings.NewReader("601173726 8 6011737286 ten")); err != nil || len(found) != 0 {
		t.Errorf("what is not there is found: %v, %v", found, err)
	}
}

func wide(text string, at int) string {
	b := make([]byte, 2*len(text))
	for i := range len(text) {
		b[2*i+at] = text[i]
	}
	return string(b)
}

// A text that lies across two of the chunks in which a file is read is found, once.
func TestChunks(t *testing.T) {
	s := search(t)
	for at := 1<<20 - 40; at < 1<<20+5; at++ {
		text := bytes.Repeat([]byte("x"), 1<<20+100)
		copy(text[at:], secret)
		if found, err := s.Read("it", bytes.NewReader(text)); err != nil || leak.Times(found) != 1 {
			t.Fatalf("at %d it is found: %v, %v, want once", at, found, err)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"good", "deep/bad", "deep/" + secret, "vault"} {
		text := "nothing"
		if name == "deep/bad" || name == "vault" {
			text = "card=" + secret + "1"
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, files, err := search(t).Files(dir, func(path string) bool { return filepath.Base(path) == "vault" })
	if err != nil || files != 3 || len(found) != 2 || leak.Times(found) != 2 {
		t.Errorf("Files = %v, %d, %v, want two finds in 3 files", found, files, err)
	}
}

func TestForRefuses(t *testing.T) {
	for _, text := range []string{"", "12345", "12345a"} {
		if _, err := leak.For(text); err == nil {
			t.Errorf("For(%q) = nil, want an error", text)
		}
	}
}
