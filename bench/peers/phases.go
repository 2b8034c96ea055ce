package main

import (
	"context"
	"fmt"
)

// phase measures one figure, or two, of a peer.
type phase struct {
	name     string
	figures  []string
	has      func(p *peer) bool
	settings func(p *peer) []string
	// try is how good a setting is; nil: there is none to choose from.
	try  func(ctx context.Context, p *peer, setting int) (float64, error)
	take func(ctx context.Context, p *peer, setting int) error
}

// worked is how large a backlog of a peer is when its work is measured: what it sends and works in
// the time of a phase, so that each works about as long.
func (b *bench) worked(p *peer) int64 {
	most := 0.0
	for _, v := range b.values[figBoth][p.name] {
		most = max(most, v)
	}
	if most == 0 { // the phase was not wanted
		most = 10_000
	}
	return max(int64(most*b.seconds)/batchSize*batchSize, batchSize)
}

func (b *bench) phases() []phase {
	hasQueue := func(p *peer) bool { return p.queue != nil }
	hasFlow := func(p *peer) bool { return p.flow != nil }
	variants := func(p *peer) []string { return p.variants }
	keep := func(figure string, p *peer, v float64, err error) error {
		if err == nil {
			b.record(figure, p, v)
		}
		return err
	}
	keepBoth := func(p50, p99 string, p *peer, l latencies, err error) error {
		if err == nil {
			b.record(p50, p, l.p50)
			b.record(p99, p, l.p99)
		}
		return err
	}
	return []phase{
		{"both", []string{figBoth}, hasQueue, variants,
			func(ctx context.Context, p *peer, v int) (float64, error) {
				return p.both(ctx, v, min(tryFor, b.seconds))
			},
			func(ctx context.Context, p *peer, v int) error {
				rate, err := p.both(ctx, v, b.seconds)
				return keep(figBoth, p, rate, err)
			}},
		{"single", []string{figSingle}, hasQueue, variants,
			func(ctx context.Context, p *peer, v int) (float64, error) {
				return p.single(ctx, v, min(tryFor, b.seconds))
			},
			func(ctx context.Context, p *peer, v int) error {
				rate, err := p.single(ctx, v, b.seconds)
				return keep(figSingle, p, rate, err)
			}},
		{"work", []string{figWork}, hasQueue, variants,
			func(ctx context.Context, p *peer, v int) (float64, error) {
				return p.work(ctx, v, b.worked(p), workAtMost)
			},
			func(ctx context.Context, p *peer, v int) error {
				rate, err := p.work(ctx, v, b.worked(p), workAtMost)
				return keep(figWork, p, rate, err)
			}},
		{"latency", []string{figP50, figP99}, hasQueue, variants,
			func(ctx context.Context, p *peer, v int) (float64, error) {
				l, err := p.latency(ctx, v, min(tryFor, b.seconds))
				return 1000 / max(l.p50, 0.001), err // how many in sequence a second
			},
			func(ctx context.Context, p *peer, v int) error {
				l, err := p.latency(ctx, v, b.seconds)
				return keepBoth(figP50, figP99, p, l, err)
			}},
		{"runs", []string{figRuns}, hasFlow, callerNames,
			func(ctx context.Context, p *peer, v int) (float64, error) {
				return p.runs(ctx, callersTried[v], min(tryFor, b.seconds))
			},
			func(ctx context.Context, p *peer, v int) error {
				rate, err := p.runs(ctx, callersTried[v], b.seconds)
				return keep(figRuns, p, rate, err)
			}},
		{"run_latency", []string{figRunP50, figRunP99}, hasFlow, oneSetting, nil,
			func(ctx context.Context, p *peer, _ int) error {
				l, err := p.runLatency(ctx, b.seconds)
				return keepBoth(figRunP50, figRunP99, p, l, err)
			}},
	}
}

// oneSetting is of a phase that has none to choose from.
func oneSetting(*peer) []string { return nil }

func callerNames(*peer) []string {
	var names []string
	for _, n := range callersTried {
		names = append(names, fmt.Sprintf("%d callers", n))
	}
	return names
}
