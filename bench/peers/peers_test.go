package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// Every figure of weir and of River is measured, with its ratio.
func TestRiver(t *testing.T) {
	s := &settings{store: "postgres", only: "river", seconds: 0.2, rounds: 2, rate: 2_000}
	r := measured(t, s, (*bench).all)
	want := []string{figBoth, figSingle, figWork, figP50, figP99}
	if len(r.Figures) != len(want) {
		t.Fatalf("figures = %+v, want %v of river", r.Figures, want)
	}
	for i, f := range r.Figures {
		if f.Name != want[i] || f.Peer != "river" || f.Value <= 0 || f.Weir <= 0 || len(f.Values) != 2 || f.RatioLow > f.Ratio || f.Ratio > f.RatioHigh {
			t.Errorf("figure %d = %+v, want %s of river and weir in two rounds, with the ratio", i, f, want[i])
		}
	}
}

// measured is the report of a measurement.
func measured(t *testing.T, s *settings, measure func(*bench, context.Context) error) *report {
	t.Helper()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	b := newBench(s, t.TempDir())
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	err := b.prepare(t.Context())
	if errors.Is(err, pgtest.ErrNoBinaries) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err == nil {
		err = measure(b, t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	r := b.report()
	if len(r.LeftOut) > 0 {
		t.Errorf("left out: %v, want none", r.LeftOut)
	}
	return r
}

// A large backlog's work stands beside a small one's.
func TestBacklog(t *testing.T) {
	r := measured(t, &settings{store: "postgres", only: "weir", seconds: 0.2, rounds: 1, rate: 2_000, backlog: 100_000}, (*bench).behindBacklog)
	if len(r.Figures) != 3 || r.Figures[2].Name != "work_large_to_small" || r.Figures[2].Value <= 0 {
		t.Errorf("figures = %+v, want the work of both backlogs, and its ratio", r.Figures)
	}
}

// late is a queue whose workers take long to begin.
type late struct{ begin chan struct{} }

func (late) send(context.Context, int64, int) error { return nil }
func (late) close() error                           { return nil }

func (q late) work(_ context.Context, handled func(int64)) (func() error, error) {
	go func() {
		<-q.begin
		handled(firstID)
	}()
	return func() error { return nil }, nil
}

// A machine that is too slow for a phase's time gives a figure all the same.
func TestSlowMachine(t *testing.T) {
	q := late{make(chan struct{})}
	p := &peer{batch: 1, queue: func(context.Context, int) (queue, error) { return q, nil }}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newLoad(q, 1, 0).flood(over, newCounter(), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("flood, told to end = %v, want that", err)
	}
	if rate, err := p.single(t.Context(), 0, 0); err != nil || rate <= 0 {
		t.Errorf("single in no time = %v, %v, want a rate", rate, err)
	}
	close(q.begin)
	if rate, err := p.work(t.Context(), 0, 1, 0); err != nil || rate <= 0 {
		t.Errorf("work in no time = %v, %v, want a rate", rate, err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{7, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}
