package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// report is what the processes that worked a file say of what they did: a line
// each, written before the next thing is done. It outlives a killed process, since
// the operating system has it.
//
//	try staff.take-order o1      about to send these (o1,o2: in one call)
//	ack staff.take-order o1      sent: the call, or the caller's commit, has returned nil
//	void staff.take-order o1     sent in a transaction that was rolled back
//	refuse staff.take-order o1   the call returned an error
//	died before Commit 7         about to end itself
//	stopped <error>              Run has returned an error
//	count 83                     calls of the store in all
type report struct {
	path string
	file *os.File // to write to; nil for a reader
}

// reportOf is what was said of a file. It is kept beside the file's directory, lest
// a full disk silence it.
func reportOf(file string) report { return report{path: filepath.Dir(file) + ".report"} }

func openReport(file string) (report, error) {
	r := reportOf(file)
	var err error
	r.file, err = os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return r, err
}

// say adds a line. A child that cannot must not go on: nobody would know what it did.
func (r report) say(format string, args ...any) {
	if _, err := fmt.Fprintf(r.file, format+"\n", args...); err != nil {
		panic(err)
	}
}

// line is one thing that was said.
type line struct {
	verb, of string
	tags     []string
}

func (r report) lines() ([]line, error) {
	text, err := os.ReadFile(r.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []line
	for l := range strings.Lines(string(text)) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		of, tags, _ := strings.Cut(rest, " ")
		all = append(all, line{verb, of, strings.Split(tags, ",")})
	}
	return all, nil
}

// said are the lines with a verb.
func (r report) said(verb string) ([]line, error) {
	all, err := r.lines()
	var some []line
	for _, l := range all {
		if l.verb == verb {
			some = append(some, l)
		}
	}
	return some, err
}
