package main

import (
	"encoding/json"
	"testing"
)

type jsonNumber = json.Number

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"order-42":           "order-42",
		"Küche 🍳 \\n":        "Küche 🍳 \\n",
		"a\nb\tc\r":          `a\nb\tc\r`,
		"\x1b[2J":            `\x1b[2J`,
		"\u009b31m":          `\u009b31m`,
		"\x7f":               `\x7f`,
		"\u202egnp.exe":      `\u202egnp.exe`,
		"\xff\xfe":           `\xff\xfe`,
		"\u2028":             `\u2028`,
		"\U000e0041 hidden":  `\U000e0041 hidden`,
		"quote ' and \" too": "quote ' and \" too",
	} {
		if got := safe(in); got != want {
			t.Errorf("safe(%q) = %s, want %s", in, got, want)
		}
		if got := safe(safe(in)); got != want {
			t.Errorf("safe(safe(%q)) = %s, want %s", in, got, want)
		}
	}
	if got, want := safeLines("a\n\tb\x1b"), "a\n    b\\x1b"; got != want {
		t.Errorf("safeLines = %q, want %q", got, want)
	}
	if got, want := clip("abcdef", 4), "abc…"; got != want {
		t.Errorf("clip = %q, want %q", got, want)
	}
}

// What is escaped for the terminal's sake reads back as it was.
func TestEncodeJSON(t *testing.T) {
	in := hostile + "\x7f\u0080<&>\U000e0041 Küche 🍳"
	b, err := encodeJSON(map[string]string{"k": in})
	if err != nil {
		t.Fatal(err)
	}
	if !printable(string(b)) {
		t.Errorf("encodeJSON = %q, which is not printable", b)
	}
	var back map[string]string
	if err := json.Unmarshal(b, &back); err != nil || back["k"] != in {
		t.Errorf("decoded = %q, %v, want %q", back["k"], err, in)
	}
}

func FuzzSafe(f *testing.F) {
	f.Add(hostile)
	f.Add("\xc2\x9b\xff\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		if got := safe(s); !printable(got) {
			t.Errorf("safe(%q) = %q, which is not printable", s, got)
		}
	})
}
