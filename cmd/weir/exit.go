package main

import (
	"context"
	"errors"
	"strings"

	weir "github.com/weir-go/weir"
)

// Exit codes; the package's comment and --help document them.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
	exitRefused  = 4
	exitWrong    = 5
)

// errWrong ends a command that has said itself what is wrong with the store.
var errWrong = errors.New("something is wrong")

// usage is an error of whoever typed the command.
type usage struct{ error }

func usageError(err error) error { return usage{err} }

func (u usage) Unwrap() error { return u.error }

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[usage](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*weir.HeldError](err); ok {
		return exitRefused
	}
	if _, ok := errors.AsType[*weir.FullError](err); ok {
		return exitRefused
	}
	switch {
	case errors.Is(err, errWrong):
		return exitWrong
	case errors.Is(err, weir.ErrNotFound):
		return exitNotFound
	case errors.Is(err, weir.ErrConflict):
		return exitRefused
	}
	return exitError
}

// explain is an error in one line for a person.
func explain(ctx context.Context, err error) string {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	if trimmed, ok := strings.CutPrefix(text, "weir: "); ok {
		text = trimmed
	}
	var lines []string // errors.Join has one each, and so has a driver that tried several addresses
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(strings.TrimSpace(line), ";"); line != "" {
			lines = append(lines, line)
		}
	}
	return safe(strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": "))
}
