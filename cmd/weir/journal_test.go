package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// The journal of the tests: a kitchen that cooks what a bar and wait staff order.
type ticket struct {
	Order string `json:"order"`
	Dish  string `json:"dish"`
}

var (
	cook  = weir.NewCommand("kitchen.cook", weir.KeyedBy(func(t ticket) string { return t.Order }))
	ready = weir.NewEvent("kitchen.ready", weir.KeyedBy(func(t ticket) string { return t.Order }))
)

// hostile is what an attacker would like an operator's terminal to read: a title,
// a cleared screen, a C1 control sequence, text that runs backwards, and a line of its own.
const hostile = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202egnp.exe\r\nforged line"

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// journal is a store in a test's directory, and the service that works it.
type journal struct {
	t    *testing.T
	file string
}

func newJournal(t *testing.T) journal {
	t.Helper()
	return journal{t, filepath.Join(t.TempDir(), "kitchen.db")}
}

// service opens the engine; it runs when start is called.
func (j journal) service() *weir.Engine {
	j.t.Helper()
	e, err := weir.Open(context.Background(), sqlite.File(j.file), weir.Config{
		Owns: []string{"kitchen", "staff"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { e.Close() })
	weir.Handle(e, cook, func(ctx context.Context, m *weir.Message[ticket]) error {
		switch {
		case m.Body.Dish == "slow" && m.Attempt == 1:
			return errors.New("not hot yet")
		case m.Body.Dish == "later":
			return weir.NotYet("the oven is cold", time.Hour)
		case m.Body.Dish == "panic":
			panic("the oven exploded")
		case strings.HasPrefix(m.Body.Dish, "no "):
			return weir.Permanent(errors.New(`order "` + m.Body.Order + `": there is ` + m.Body.Dish))
		}
		return weir.Publish(ctx, m, ready, m.Body)
	}, weir.Queue{Capacity: 20_000, Retry: weir.Retry{Max: 2, Base: time.Millisecond, Cap: time.Millisecond}, OnDead: weir.Skip})
	weir.Subscribe(e, ready, "staff.serve", func(context.Context, *weir.Message[ticket]) error { return nil })
	return e
}

// start runs the service until stop is called.
func (j journal) start(e *weir.Engine) (stop func()) {
	j.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			j.t.Errorf("Run = %v", err)
		}
	}
	j.t.Cleanup(stop)
	return stop
}

// settled waits until all that is sent is done, dead or deferred for long.
func (j journal) settled(e *weir.Engine, dead, deferred int64) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		queues, err := e.Queues(ctx, 0)
		if err != nil {
			j.t.Fatalf("Queues = %v", err)
		}
		var depth, died int64
		for _, q := range queues {
			depth += q.Depth
			died += q.Dead
		}
		if len(queues) == 2 && depth == deferred && died == dead {
			return
		}
		select {
		case <-ctx.Done():
			j.t.Fatalf("depth %d and %d dead, want %d and %d", depth, died, deferred, dead)
		case <-tick.C:
		}
	}
}

// work sends the tickets, works them, and stops the service.
func (j journal) work(dead, deferred int64, tickets ...ticket) {
	j.t.Helper()
	e := j.service()
	stop := j.start(e)
	j.send(e, tickets...)
	j.settled(e, dead, deferred)
	stop()
	if err := e.Close(); err != nil {
		j.t.Fatal(err)
	}
}

func (j journal) send(e *weir.Engine, tickets ...ticket) {
	j.t.Helper()
	if err := weir.SendAll(context.Background(), e, cook, tickets); err != nil {
		j.t.Fatal(err)
	}
}

// said is what a command line ended with.
type said struct {
	t        *testing.T
	out, err string
	code     int
}

// weir runs a command line on the journal and expects an exit code.
func (j journal) weir(code int, args ...string) said {
	j.t.Helper()
	return cmdline(j.t, code, "", append(args, "--store", j.file)...)
}

func cmdline(t *testing.T, code int, stdin string, args ...string) said {
	t.Helper()
	var out, err bytes.Buffer
	got := run(context.Background(), args, streams{strings.NewReader(stdin), &out, &err})
	s := said{t, out.String(), err.String(), got}
	if got != code {
		t.Fatalf("weir %s = exit code %d, want %d\nout: %s\nerr: %s", strings.Join(args, " "), got, code, s.out, s.err)
	}
	for _, r := range s.out + s.err {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e) {
			t.Fatalf("weir %s printed %U:\n%q\n%q", strings.Join(args, " "), r, s.out, s.err)
		}
	}
	return s
}

// has expects texts in the output, in this order.
func (s said) has(texts ...string) said {
	s.t.Helper()
	rest := s.out
	for _, text := range texts {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			s.t.Fatalf("output has not %q (after what came before), it is:\n%s", text, s.out)
		}
		rest = after
	}
	return s
}

// lacks expects a text not to be in the output.
func (s said) lacks(text string) said {
	s.t.Helper()
	if strings.Contains(s.out, text) {
		s.t.Fatalf("output has %q, it is:\n%s", text, s.out)
	}
	return s
}

// complains expects texts in one line on standard error.
func (s said) complains(texts ...string) said {
	s.t.Helper()
	if strings.Count(s.err, "\n") != 1 || !strings.HasPrefix(s.err, "weir: ") {
		s.t.Fatalf("standard error is not one line of weir's: %q", s.err)
	}
	for _, text := range texts {
		if !strings.Contains(s.err, text) {
			s.t.Fatalf("standard error has not %q: %q", text, s.err)
		}
	}
	return s
}

// object reads the one line of JSON into v, whose fields must be all there are.
func (s said) object(v any) {
	s.t.Helper()
	if strings.Count(s.out, "\n") != 1 {
		s.t.Fatalf("--json printed %d lines, want 1:\n%s", strings.Count(s.out, "\n"), s.out)
	}
	d := json.NewDecoder(strings.NewReader(s.out))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		s.t.Fatalf("%v in %s", err, s.out)
	}
	if _, err := d.Token(); err != io.EOF {
		s.t.Fatalf("more than one JSON value: %s", s.out)
	}
}

// fields expects an object with exactly these fields, and gives it.
func fields(t *testing.T, v any, names ...string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%v is no object", v)
	}
	for _, name := range names {
		if _, ok := m[name]; !ok {
			t.Errorf("field %q is missing in %v", name, m)
		}
	}
	if len(m) != len(names) {
		t.Errorf("%d fields, want %d (%v): %v", len(m), len(names), names, m)
	}
	return m
}

// list is a field that is a list of n.
func list(t *testing.T, m map[string]any, name string, n int) []any {
	t.Helper()
	l, ok := m[name].([]any)
	if !ok || len(l) != n {
		t.Fatalf("%s is %v, want a list of %d", name, m[name], n)
	}
	return l
}
