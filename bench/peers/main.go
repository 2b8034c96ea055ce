// Command peers measures weir beside its peers on one machine in one run: the same bodies, handlers
// that do nothing, the same durability, and for those on PostgreSQL the same server. Phases alternate
// between the peers, so that a machine that drifts drifts for all; what counts are the ratios.
//
//	go run . --store postgres --only weir,river --json
//
// What is measured, and with which settings of each peer, is told in ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	store, only, figures, dir string
	seconds                   float64
	rounds                    int
	openTx                    time.Duration
	rate                      int
	backlog                   int64
	json                      bool
}

func (s *settings) flags() {
	flag.StringVar(&s.store, "store", ownServer, "the PostgreSQL `database`, postgres://…; or postgres: a throw-away server from the binaries found")
	flag.StringVar(&s.only, "only", "", "only these `peers`, comma-separated: "+strings.Join(peerNames(), ", ")+"; weir is measured wherever one is compared with it")
	flag.StringVar(&s.figures, "figures", "", "only these `figures`, comma-separated: "+strings.Join(figureNames(), ", "))
	flag.StringVar(&s.dir, "dir", "", "where files are made, and removed again; default: the temporary directory")
	flag.Float64Var(&s.seconds, "seconds", 2, "how long a phase sends, 0.2 to 60")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each phase is measured, 1 to 20; the median counts")
	flag.DurationVar(&s.openTx, "open-tx", 0, "instead: how long messages are sent at --rate and worked, once without and once beside an open REPEATABLE READ transaction, 5s to 1h")
	flag.IntVar(&s.rate, "rate", 2_000, "messages a second with --open-tx, 100 to 20,000")
	flag.Int64Var(&s.backlog, "backlog", 0, "instead: how many messages a second are worked of a backlog of so many, beside one of a tenth, 100,000 to 20,000,000")
	flag.BoolVar(&s.json, "json", false, "print one JSON object on the last line of standard output")
	flag.Parse()
}

func (s *settings) check() error {
	var errs []error
	within := func(name string, v, low, high float64) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("--%s is %v, want %v to %v", name, v, low, high))
		}
	}
	within("seconds", s.seconds, 0.2, 60)
	within("rounds", float64(s.rounds), 1, 20)
	within("rate", float64(s.rate), 100, 20_000)
	if s.openTx != 0 {
		within("open-tx seconds", s.openTx.Seconds(), 5, 3600)
	}
	if s.backlog != 0 {
		within("backlog", float64(s.backlog), 100_000, 20_000_000)
	}
	if s.store != ownServer && !strings.HasPrefix(s.store, "postgres://") && !strings.HasPrefix(s.store, "postgresql://") {
		errs = append(errs, fmt.Errorf("--store is %q, want postgres://…, or %s for a server of its own", s.store, ownServer))
	}
	if s.openTx != 0 && s.backlog != 0 {
		errs = append(errs, errors.New("--open-tx and --backlog are measurements of their own: one at a time"))
	}
	if flag.NArg() > 0 {
		errs = append(errs, fmt.Errorf("%q: there are only flags", flag.Args()))
	}
	for _, list := range []struct {
		flag, value string
		known       []string
	}{{"only", s.only, peerNames()}, {"figures", s.figures, figureNames()}} {
		for _, v := range split(list.value) {
			if !slices.Contains(list.known, v) {
				errs = append(errs, fmt.Errorf("--%s has %q, want some of %s", list.flag, v, strings.Join(list.known, ", ")))
			}
		}
	}
	return errors.Join(errs...)
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var s settings
	s.flags()
	err := s.check()
	code := 2
	if err == nil {
		code = 1
		err = run(ctx, &s)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(code)
	}
}

// run measures and prints.
func run(ctx context.Context, s *settings) (err error) {
	dir, remove, err := files(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	b := newBench(s, dir)
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	switch {
	case s.openTx > 0:
		err = b.besideOpen(ctx)
	case s.backlog > 0:
		err = b.behindBacklog(ctx)
	default:
		err = b.all(ctx)
	}
	if err != nil {
		return err
	}
	r := b.report()
	if !s.json {
		return r.print(os.Stdout)
	}
	if err := r.print(os.Stderr); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
