package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

// words are those of a command line, as a shell has them that knows double quotes and comments only.
func words(line string) (all []string) {
	word, quoted, is := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted, is = !quoted, true
		case r == '#' && !quoted && !is:
			return all
		case (r == ' ' || r == '\t' || r == '\n') && !quoted:
			if is {
				all = append(all, word)
			}
			word, is = "", false
		default:
			word, is = word+string(r), true
		}
	}
	return all
}

// The commands in docs/boundaries.md and docs/replicas.md are of this program.
func TestDocsBoundaries(t *testing.T) {
	for file, least := range map[string]int{"boundaries": 10, "replicas": 3} {
		text, err := os.ReadFile("../../docs/" + file + ".md")
		if err != nil {
			t.Fatal(err)
		}
		commands := 0
		for i, block := range strings.Split(string(text), "```") {
			language, body, _ := strings.Cut(block, "\n")
			if i%2 == 0 || language == "go" {
				continue
			}
			for line := range strings.Lines(body) {
				line, shown := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				command := words(line)
				if len(command) == 0 || command[0] != "weir" || !shown && language != "sh" {
					continue
				}
				var c cli
				parser, err := newParser(&c, streams{nil, io.Discard, io.Discard}, func() {})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(command[1:]); err != nil {
					t.Errorf("docs/%s.md: %s: %v", file, line, err)
				}
				commands++
			}
		}
		if commands < least {
			t.Errorf("docs/%s.md has %d commands, want %d", file, commands, least)
		}
	}
}
