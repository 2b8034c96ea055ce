package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// The weirs that peers are compared with.
const (
	weirPostgres = "weir"
	weirSQLite   = "weir-sqlite"
)

func peerNames() []string {
	return []string{weirPostgres, weirSQLite, "pgx", "river", "river-default", "watermill", "asynq", "backlite", "restate", "dbos"}
}

// The figures, in the order in which they are measured.
const (
	figBoth    = "both_per_s"
	figSingle  = "single_per_s"
	figWork    = "work_per_s"
	figP50     = "latency_p50_ms"
	figP99     = "latency_p99_ms"
	figRuns    = "runs_per_s"
	figRunP50  = "run_p50_ms"
	figRunP99  = "run_p99_ms"
	tryFor     = 1.0 // seconds that a setting is tried, at most those of a phase
	workAtMost = 30 * time.Second
)

// figureNames are the phases' names for --figures.
func figureNames() []string {
	return []string{"both", "single", "work", "latency", "runs", "run_latency"}
}

// bench is one measurement.
type bench struct {
	*settings
	dir     string
	began   time.Time
	server  *server
	peers   []*peer
	closing []func() error // in reverse
	load    string         // the machine's, before

	measured []*peer                         // those of peers that have figures
	names    []string                        // of the figures
	values   map[string]map[string][]float64 // by figure and peer, of each round
	best     map[string]map[string]int       // the setting taken, by phase and peer
	skipped  []string
}

func newBench(s *settings, dir string) *bench {
	return &bench{
		settings: s, dir: dir, began: time.Now(), load: loadAverage(),
		values: map[string]map[string][]float64{}, best: map[string]map[string]int{},
	}
}

func (b *bench) close() error {
	var errs []error
	for _, f := range slices.Backward(b.closing) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (b *bench) tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// skip leaves a peer out, and says why.
func (b *bench) skip(name string, err error) {
	b.skipped = append(b.skipped, fmt.Sprintf("%s: %v", name, err))
	b.tell("left out: %s: %v", name, err)
}

// wanted reports whether a peer is to be measured.
func (b *bench) wanted(name string) bool {
	only := split(b.only)
	return len(only) == 0 || slices.Contains(only, name)
}

func (b *bench) figure(name string) bool {
	only := split(b.figures)
	return len(only) == 0 || slices.Contains(only, name)
}

// prepare makes the peers, and starts the servers that they need. A peer whose server cannot be
// had is left out.
func (b *bench) prepare(ctx context.Context) error {
	onServer := func() bool {
		return slices.ContainsFunc([]string{weirPostgres, "pgx", "river", "river-default", "watermill", "dbos", "asynq", "restate"}, b.wanted)
	}
	if onServer() {
		var err error
		if b.server, err = openServer(ctx, b.store); err != nil {
			return err
		}
		b.closing = append(b.closing, b.server.close)
		b.peers = append(b.peers, weirPeer(weirPostgres, weirOnServer(b.server)))
	}
	if b.wanted(weirSQLite) || b.wanted("backlite") {
		b.peers = append(b.peers, weirPeer(weirSQLite, weirOnFile(b.dir)))
	}
	if b.wanted("pgx") {
		b.peers = append(b.peers, driverPeer(b.server, weirPostgres))
	}
	if b.wanted("river") {
		b.peers = append(b.peers, riverPeer(b.server, weirPostgres))
	}
	if b.wanted("river-default") {
		b.peers = append(b.peers, riverDefaultPeer(b.server, weirPostgres))
	}
	if b.wanted("watermill") {
		b.peers = append(b.peers, watermillPeer(b.server, weirPostgres))
	}
	if b.wanted("backlite") {
		b.peers = append(b.peers, backlitePeer(b.dir, weirSQLite))
	}
	if b.wanted("dbos") {
		b.peers = append(b.peers, dbosPeer(b.server, weirPostgres))
	}
	b.withServers(ctx)
	return nil
}

// withServers makes the peers that have a server of their own.
func (b *bench) withServers(ctx context.Context) {
	if b.wanted("asynq") {
		if s, err := startRedis(ctx, b.dir); err != nil {
			b.skip("asynq", err)
		} else {
			b.closing = append(b.closing, s.close)
			b.peers = append(b.peers, asynqPeer(s, weirPostgres))
		}
	}
	if b.wanted("restate") {
		if p, shutdown, err := restatePeer(ctx, b.dir, weirPostgres); err != nil {
			b.skip("restate", err)
		} else {
			b.closing = append(b.closing, shutdown)
			b.peers = append(b.peers, p)
		}
	}
}

// record keeps a value of a figure.
func (b *bench) record(figure string, p *peer, v float64) {
	if b.values[figure] == nil {
		b.values[figure] = map[string][]float64{}
		b.names = append(b.names, figure)
	}
	if !slices.Contains(b.measured, p) {
		b.measured = append(b.measured, p)
	}
	b.values[figure][p.name] = append(b.values[figure][p.name], v)
	b.tell("%-18s %-12s %s", figure, p.name, number(v))
}

// all measures every figure of every peer, round after round.
func (b *bench) all(ctx context.Context) error {
	for round := range b.rounds {
		b.tell("round %d of %d", round+1, b.rounds)
		for _, phase := range b.phases() {
			if !b.figure(phase.name) {
				continue
			}
			for _, p := range b.order(round) {
				if b.needs(phase, p) {
					b.measure(ctx, phase, p)
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
	}
	return nil
}

// needs reports whether a phase of a peer is measured: weir's only where it is compared, unless there
// is nobody to compare it with.
func (b *bench) needs(phase phase, p *peer) bool {
	has := func(p *peer) bool { return phase.has(p) && (p.only == nil || slices.Contains(p.only, phase.name)) }
	if !has(p) {
		return false
	}
	alone := true
	for _, other := range b.peers {
		if other.against == p.name {
			alone = false
			if has(other) {
				return true
			}
		}
	}
	return alone
}

// order is the peers, each round from the other end.
func (b *bench) order(round int) []*peer {
	peers := slices.Clone(b.peers)
	if round%2 == 1 {
		slices.Reverse(peers)
	}
	return peers
}

// measure takes a phase's figures of a peer, with the best of its settings. A peer that fails is
// told about, and measured no more.
func (b *bench) measure(ctx context.Context, phase phase, p *peer) {
	v, err := b.variant(ctx, phase, p)
	if err == nil {
		err = phase.take(ctx, p, v)
	}
	if err != nil && ctx.Err() == nil {
		b.skip(p.name, fmt.Errorf("%s: %w", phase.name, err))
		b.peers = slices.DeleteFunc(b.peers, func(other *peer) bool { return other == p })
	}
}

// variant is the setting with which a peer does a phase best, tried once.
func (b *bench) variant(ctx context.Context, phase phase, p *peer) (int, error) {
	if phase.try == nil {
		return 0, nil
	}
	if v, ok := b.best[phase.name][p.name]; ok {
		return v, nil
	}
	best, most := 0, 0.0
	var errs []error
	names := phase.settings(p)
	for v, name := range names {
		if len(names) == 1 {
			break
		}
		rate, err := phase.try(ctx, p, v)
		if err != nil { // one that fails is not the best
			errs = append(errs, fmt.Errorf("with %s: %w", name, err))
			b.tell("%-18s %-12s %v", "try "+phase.name, p.name, errs[len(errs)-1])
			continue
		}
		b.tell("%-18s %-12s %s with %s", "try "+phase.name, p.name, number(rate), name)
		if rate > most {
			best, most = v, rate
		}
	}
	if len(errs) > 0 && len(errs) == len(names) {
		return 0, errors.Join(errs...)
	}
	if b.best[phase.name] == nil {
		b.best[phase.name] = map[string]int{}
	}
	b.best[phase.name][p.name] = best
	return best, nil
}
