package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const textWidth = 100 // columns that running text is laid out for

// writeWrapped writes a text, made safe before, in lines of textWidth broken at
// blanks; the first begins with lead, the others with as many blanks. A word that
// does not fit is not cut: it may be an ID that somebody copies.
func writeWrapped(w io.Writer, lead, text string) {
	for _, line := range wrapped(lead, text) {
		fmt.Fprintln(w, line)
	}
}

func wrapped(lead, text string) []string {
	width := utf8.RuneCountInString(lead)
	blank := strings.Repeat(" ", width)
	var lines []string
	line, used := lead, width
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+n > textWidth:
			lines = append(lines, strings.TrimRight(line, " "))
			line, used = blank, width
		default:
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	return append(lines, strings.TrimRight(line, " "))
}
