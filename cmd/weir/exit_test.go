package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk I/O error"), 1},
		{fmt.Errorf("parse: %w", usageError(errors.New("no such flag"))), 2},
		{fmt.Errorf("pause: %w", weir.ErrNotFound), 3},
		{usageError(weir.ErrNotFound), 2},
		{fmt.Errorf("pause: %w", weir.ErrConflict), 4},
		{fmt.Errorf("run: %w", &weir.HeldError{Store: "kitchen.db", Since: time.Unix(0, 0)}), 4},
		{fmt.Errorf("send: %w", &weir.FullError{Queue: "kitchen.cook"}), 4},
		{errWrong, 5},
		{errors.Join(errWrong, errors.New("and it cannot be written down")), 5},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

// An error is one line, said once by weir, and obeyed by no terminal.
func TestExplain(t *testing.T) {
	err := errors.Join(errors.New("weir: first\x1b[2J"), errors.New("second"))
	if got, want := explain(t.Context(), err), `first\x1b[2J; second`; got != want {
		t.Errorf("explain = %q, want %q", got, want)
	}
	err = errors.New("connect to `shop`:\n\ta: refused\n\tb: refused\n")
	if got, want := explain(t.Context(), err), "connect to `shop`: a: refused; b: refused"; got != want {
		t.Errorf("explain = %q, want %q", got, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := explain(ctx, context.Canceled); got != "interrupted" {
		t.Errorf("explain of an interrupted command = %q, want interrupted", got)
	}
}
