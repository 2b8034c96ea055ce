package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// benchCmd measures weir on this machine, beside the limit of its database.
type benchCmd struct {
	Queue    benchQueueCmd    `cmd:"" help:"Messages: sending, working, both at once, and latency, beside what the driver alone appends. --store postgres… for PostgreSQL."`
	Bridge   benchBridgeCmd   `cmd:"" help:"Messages through outbox, broker and inbox, beside what a publisher and a consumer of nats.go do alone; and replicas. --store postgres… for PostgreSQL."`
	Workflow benchWorkflowCmd `cmd:"" help:"Runs of workflows: short ones, a million asleep, a long one's replay, beside what the driver alone appends. --store postgres… for PostgreSQL."`
}

// benchQueueCmd is weir bench queue.
type benchQueueCmd struct {
	Messages    int     `default:"500000" help:"Messages of each throughput phase, 10,000 to 20,000,000."`
	Backlog     int     `default:"500000" help:"Messages waiting when draining begins, 10,000 to 20,000,000."`
	Senders     int     `default:"64" help:"Goroutines that each wait for their own durable commit, 1 to 10,000."`
	Batches     int     `default:"2" help:"Goroutines that send batches of 1,000, 1 to 64."`
	Concurrency int     `default:"8" help:"Handlers at once, 1 to 10,000."`
	Latency     float64 `default:"5" help:"Seconds of sending 100 a second to measure latency, 0.1 to 600."`
	Dir         string  `help:"Where the files of SQLite are made, and removed again. Default: a temporary directory."`
	CPUProfile  string  `name:"cpuprofile" help:"Write a CPU profile of the measured phases to this file."`
	Only        string  `help:"Only these phases: raw, send_batch, work, send, both, both_single, latency; comma-separated."`
}

// benchResult is what weir bench queue prints with --json. Rates are messages per second.
type benchResult struct {
	RawLimit   float64 `json:"raw_limit_per_s"`
	Send       float64 `json:"send_per_s"`
	SendBatch  float64 `json:"send_batch_per_s"`
	Work       float64 `json:"work_per_s"`
	Both       float64 `json:"both_per_s"`
	BothSingle float64 `json:"both_single_per_s"` // both, with the senders of send
	LatencyP50 float64 `json:"latency_p50_ms"`
	LatencyP99 float64 `json:"latency_p99_ms"`
	PeakRSS    float64 `json:"peak_rss_mb"`

	Settings benchSettings `json:"settings"`
}

type benchSettings struct {
	Store       string  `json:"store"`
	Messages    int     `json:"messages"`
	Backlog     int     `json:"backlog"`
	Senders     int     `json:"senders"`
	Batches     int     `json:"batches"`
	BatchSize   int     `json:"batch_size"`
	Concurrency int     `json:"concurrency"`
	LatencyRate int     `json:"latency_rate_per_s"`
	LatencyFor  float64 `json:"latency_seconds"`
	BodyBytes   int     `json:"body_bytes"`
	Go          string  `json:"go"`
	CPUs        int     `json:"cpus"`
	Seconds     float64 `json:"seconds"`
}

func (c *benchQueueCmd) check() error {
	for _, f := range []struct {
		name      string
		v         int
		low, high int
	}{
		{"--messages", c.Messages, 10_000, 20_000_000}, {"--backlog", c.Backlog, 10_000, 20_000_000},
		{"--senders", c.Senders, 1, 10_000}, {"--batches", c.Batches, 1, 64}, {"--concurrency", c.Concurrency, 1, 10_000},
	} {
		if f.v < f.low || f.v > f.high {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.v, f.low, f.high)
		}
	}
	if c.Latency < 0.1 || c.Latency > 600 {
		return fmt.Errorf("--latency is %v, want 0.1 to 600 seconds", c.Latency)
	}
	for _, p := range c.only() {
		if !slices.Contains(queuePhases(), p) {
			return fmt.Errorf("--only has %q, want some of %s", p, strings.Join(queuePhases(), ", "))
		}
	}
	return nil
}

func queuePhases() []string {
	return []string{"raw", "send_batch", "work", "send", "both", "both_single", "latency"}
}

// only are the phases asked for; none: all.
func (c *benchQueueCmd) only() []string {
	if c.Only == "" {
		return nil
	}
	return strings.Split(c.Only, ",")
}

// Run measures and prints.
func (c *benchQueueCmd) Run(a *app) (err error) {
	if err := c.check(); err != nil {
		return usageError(err)
	}
	g, release, err := benchGround(a, c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	b := &bench{benchQueueCmd: *c, ground: g, progress: a.err}
	stop, err := startProfile(c.CPUProfile)
	if err != nil {
		return err
	}
	err = b.run(a.ctx)
	stop()
	if err != nil {
		return err
	}
	r := &b.result
	r.PeakRSS = peakRSS()
	r.Settings = benchSettings{
		Store: g.kind(), Messages: c.Messages, Backlog: c.Backlog, Senders: c.Senders, Batches: c.Batches,
		BatchSize: batchSize, Concurrency: c.Concurrency, LatencyRate: latencyRate, LatencyFor: c.Latency,
		BodyBytes: len(b.body), Go: runtime.Version(), CPUs: runtime.NumCPU(), Seconds: b.seconds(),
	}
	return a.print(r, func(w *tabwriter.Writer) { r.table(w) })
}

func (r *benchResult) table(w *tabwriter.Writer) {
	row := func(name string, v float64) {
		share := ""
		if r.RawLimit > 0 {
			share = fmt.Sprintf("%.0f %% of the raw limit", 100*v/r.RawLimit)
		}
		fmt.Fprintf(w, "%s\t%s/s\t%s\n", name, grouped(v), share)
	}
	fmt.Fprintf(w, "raw limit\t%s/s\tthe driver alone, %d rows a commit\n", grouped(r.RawLimit), rawPerCommit)
	row("send_batch", r.SendBatch)
	row("work", r.Work)
	row("both", r.Both)
	row("both, single sends", r.BothSingle)
	row("send", r.Send)
	fmt.Fprintf(w, "latency at %d/s\tp50 %.2f ms\tp99 %.2f ms\n", r.Settings.LatencyRate, r.LatencyP50, r.LatencyP99)
	fmt.Fprintf(w, "peak memory\t%.0f MB\t\n", r.PeakRSS)
}

// grouped is v in whole thousands: 1,234,567.
func grouped(v float64) string {
	s := strconv.FormatInt(int64(v+0.5), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// peakRSS is the most memory this process has held, in MB; 0 where /proc does not say.
func peakRSS() float64 { return processMB("VmHWM:") }

// processMB is a figure of /proc/self/status in MB; 0 where there is none.
func processMB(name string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return 0
			}
			return kb * 1024 / 1e6
		}
	}
	return 0
}
