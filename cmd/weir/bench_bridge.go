package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

// benchBridgeCmd is weir bench bridge.
type benchBridgeCmd struct {
	Messages    int     `default:"200000" help:"Messages of each throughput phase, 1,000 to 20,000,000."`
	Batches     int     `default:"2" help:"Goroutines that send batches of 1,000, 1 to 64."`
	Concurrency int     `default:"8" help:"Handlers at once, 1 to 10,000."`
	Latency     float64 `default:"5" help:"Seconds of sending 100 a second to measure latency, 0.1 to 600."`
	Entities    int     `default:"5000" help:"Entities that are owned on one side and followed on the other, 100 to 1,000,000."`
	Smoke       bool    `help:"Small counts, to see that all works: no figures."`
	Dir         string  `help:"Where the broker's data and the files of SQLite are made, and removed again. Default: a temporary directory."`
	CPUProfile  string  `name:"cpuprofile" help:"Write a CPU profile of the measured phases to this file."`
	WaitProfile string  `name:"waitprofile" help:"Write a profile of where goroutines wait to this file."`
	Only        string  `help:"Only these phases: bare, bridge, latency, replica; comma-separated."`
}

// bridgeResult is what weir bench bridge prints with --json. What was not measured is not there.
type bridgeResult struct {
	BarePerS      float64 `json:"bare_per_s,omitzero"`         // the better of before and after
	BareInFlight  int     `json:"bare_in_flight,omitzero"`     // publishes that are not acknowledged yet: the best number of these
	BareBatchPerS float64 `json:"bare_batch_per_s,omitzero"`   // the same in atomic batches, each synced once
	BridgePerS    float64 `json:"bridge_per_s,omitzero"`       // outbox, broker, inbox, handler, receipt
	BridgeShare   float64 `json:"bridge_share,omitzero"`       // of the bare one; 0.25 is 25 %
	BatchShare    float64 `json:"bridge_share_batch,omitzero"` // of bare_batch_per_s
	BareCPU       float64 `json:"bare_cpu_us,omitzero"`        // a message, with the broker's
	BridgeCPU     float64 `json:"bridge_cpu_us,omitzero"`      // a message, with the broker's
	BareP50       float64 `json:"bare_p50_ms,omitzero"`        // publish to consumer, at 100/s
	BareP99       float64 `json:"bare_p99_ms,omitzero"`        //
	BridgeP50     float64 `json:"bridge_p50_ms,omitzero"`      // send to handler's start, at 100/s
	BridgeP99     float64 `json:"bridge_p99_ms,omitzero"`      //
	ReplicaReads  float64 `json:"replica_reads_per_s,omitzero"`
	ReplicaApply  float64 `json:"replica_applies_per_s,omitzero"`
	ReplicaPutPer float64 `json:"replica_puts_per_s,omitzero"`

	Settings *bridgeSettings `json:"settings,omitempty"`
}

type bridgeSettings struct {
	Command     string  `json:"command"`
	Store       string  `json:"store"`
	Messages    int     `json:"messages"`
	Batches     int     `json:"batches"`
	BatchSize   int     `json:"batch_size"`
	Concurrency int     `json:"concurrency"`
	Entities    int     `json:"entities"`
	LatencyRate int     `json:"latency_rate_per_s"`
	LatencyFor  float64 `json:"latency_seconds"`
	BodyBytes   int     `json:"body_bytes"`
	Go          string  `json:"go"`
	CPUs        int     `json:"cpus"`
	LoadBefore  float64 `json:"load_before"`
	Seconds     float64 `json:"seconds"`
}

func bridgePhases() []string { return []string{"bare", "bridge", "latency", "replica"} }

func (c *benchBridgeCmd) check() error {
	if c.Smoke {
		c.Messages, c.Latency, c.Entities = 1_000, 0.1, 100
	}
	for _, f := range []struct {
		name      string
		v         int
		low, high int
	}{
		{"--messages", c.Messages, 1_000, 20_000_000}, {"--batches", c.Batches, 1, 64},
		{"--concurrency", c.Concurrency, 1, 10_000}, {"--entities", c.Entities, 100, 1_000_000},
	} {
		if f.v < f.low || f.v > f.high {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.v, f.low, f.high)
		}
	}
	if c.Latency < 0.1 || c.Latency > 600 {
		return fmt.Errorf("--latency is %v, want 0.1 to 600 seconds", c.Latency)
	}
	for _, p := range c.phases() {
		if !slices.Contains(bridgePhases(), p) {
			return fmt.Errorf("--only has %q, want some of %s", p, strings.Join(bridgePhases(), ", "))
		}
	}
	return nil
}

// phases are those asked for. The bare limit is taken before and after the others.
func (c *benchBridgeCmd) phases() []string {
	if c.Only == "" {
		return append(bridgePhases(), "bare")
	}
	return strings.Split(c.Only, ",")
}

// bridgeBench is one run of weir bench bridge.
type bridgeBench struct {
	benchBridgeCmd
	queue  *bench // what both measure with
	result bridgeResult
}

// Run measures and prints.
func (c *benchBridgeCmd) Run(a *app) (err error) {
	if err := c.check(); err != nil {
		return usageError(err)
	}
	g, release, err := benchGround(a, c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	b := &bridgeBench{benchBridgeCmd: *c, queue: &bench{ground: g, progress: a.err, began: time.Now()}}
	b.queue.Batches, b.queue.Concurrency = c.Batches, c.Concurrency
	if b.queue.body, err = json.Marshal(newBenchBody()); err != nil {
		return err
	}
	load := loadAverage()
	stop, err := startProfiles(c.CPUProfile, c.WaitProfile)
	if err != nil {
		return err
	}
	err = b.run(a.ctx)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	r := &b.result
	if r.BarePerS > 0 {
		r.BridgeShare, r.BatchShare = r.BridgePerS/r.BarePerS, r.BridgePerS/r.BareBatchPerS
	}
	r.Settings = &bridgeSettings{
		Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "), Store: g.kind(), Messages: c.Messages,
		Batches: c.Batches, BatchSize: batchSize, Concurrency: c.Concurrency, Entities: c.Entities, LatencyRate: latencyRate, LatencyFor: c.Latency,
		BodyBytes: len(b.queue.body), Go: runtime.Version(), CPUs: runtime.NumCPU(), LoadBefore: load, Seconds: b.queue.seconds(),
	}
	return a.print(r, r.table)
}

// run measures phase by phase, each with a broker and stores of its own.
func (b *bridgeBench) run(ctx context.Context) error {
	for _, phase := range b.phases() {
		err := b.withBroker(ctx, func(br *broker.Broker) error {
			switch phase {
			case "bare":
				return b.bare(ctx, br)
			case "bridge":
				return b.bridge(ctx, br)
			case "latency":
				return b.latency(ctx, br)
			}
			return b.replica(ctx, br)
		})
		if err != nil {
			return fmt.Errorf("bench %s: %w", phase, err)
		}
	}
	return nil
}

// withBroker runs f with a broker that syncs each write, whose data is removed afterwards.
func (b *bridgeBench) withBroker(ctx context.Context, f func(*broker.Broker) error) (err error) {
	dir, err := os.MkdirTemp(b.queue.ground.dir, "broker-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	br, err := broker.Start(ctx, broker.Config{Dir: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer br.Close()
	if b.WaitProfile != "" { // here, as the broker's start turns it off
		runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	}
	return f(br)
}

func (b *bridgeBench) say(format string, args ...any) {
	fmt.Fprintf(b.queue.progress, format+"\n", args...)
}

func (r *bridgeResult) table(w *tabwriter.Writer) {
	if r.BarePerS > 0 {
		fmt.Fprintf(w, "bare nats.go\t%s/s\t%d in flight, %.1f µs of CPU a message\n", grouped(r.BarePerS), r.BareInFlight, r.BareCPU)
		fmt.Fprintf(w, "bare, in batches\t%s/s\tatomic ones of %d, each synced once\n", grouped(r.BareBatchPerS), bareBatch)
	}
	if r.BridgePerS > 0 {
		share := ""
		if r.BridgeShare > 0 {
			share = fmt.Sprintf("%.0f %% of the bare one, %.0f %% of that in batches, ", 100*r.BridgeShare, 100*r.BatchShare)
		}
		fmt.Fprintf(w, "bridge\t%s/s\t%s%.1f µs of CPU a message\n", grouped(r.BridgePerS), share, r.BridgeCPU)
	}
	if r.BridgeP50 > 0 {
		fmt.Fprintf(w, "latency at %d/s\tp50 %.2f ms\tp99 %.2f ms; bare %.2f and %.2f ms\n", latencyRate, r.BridgeP50, r.BridgeP99, r.BareP50, r.BareP99)
	}
	if r.ReplicaReads > 0 {
		fmt.Fprintf(w, "replica reads\t%s/s\t\n", grouped(r.ReplicaReads))
		fmt.Fprintf(w, "replica applies\t%s/s\tof %s/s that the owner puts\n", grouped(r.ReplicaApply), grouped(r.ReplicaPutPer))
	}
}

// startProfiles begins the profiles for which a file is named.
func startProfiles(cpu, wait string) (stop func() error, err error) {
	stopCPU, err := startProfile(cpu)
	if err != nil || wait == "" {
		return func() error { stopCPU(); return nil }, err
	}
	return func() error {
		stopCPU()
		defer runtime.SetBlockProfileRate(0)
		f, err := os.Create(wait)
		if err != nil {
			return err
		}
		return errors.Join(pprof.Lookup("block").WriteTo(f, 0), f.Close())
	}, nil
}
