package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// benchWorkflowCmd is weir bench workflow.
type benchWorkflowCmd struct {
	Runs       int     `default:"200000" help:"Runs of three steps in the throughput phase, 100 to 20,000,000."`
	Callers    int     `default:"2000" help:"Goroutines that each start a run and wait for its result, 1 to 50,000."`
	Sleeping   []int   `default:"100000,1000000" help:"Runs asleep at once, 100 to 10,000,000; comma-separated, ascending."`
	Steps      int     `default:"10000" help:"Steps of the run that is replayed, 10 to 10,000."`
	Messages   int     `default:"500000" help:"Messages of the raw limit, 10,000 to 20,000,000."`
	Latency    float64 `default:"5" help:"Seconds of each of the paces at which the latency of a run is measured, 0.1 to 600: 100 and 300 runs a second, and what the driver alone takes for four commits at these."`
	Smoke      bool    `help:"Small counts, to see that all works: no figures."`
	Dir        string  `help:"Where the files of SQLite are made, and removed again. Default: a temporary directory."`
	CPUProfile string  `name:"cpuprofile" help:"Write a CPU profile of the measured phase to this file; of each to FILE.PHASE, if there are several."`
	MemProfile string  `name:"memprofile" help:"The same for a profile of what was allocated."`
	Only       string  `help:"Only these phases: raw, runs, latency, sleep, replay; comma-separated. One alone runs in this process, else each has its own."`
}

// workflowResult is what weir bench workflow prints with --json. Each phase's process
// tells its part, so what was not measured is not there.
type workflowResult struct {
	RawLimit       float64 `json:"raw_limit_per_s,omitzero"`
	RunsPerS       float64 `json:"runs_per_s,omitzero"`
	RunsShare      float64 `json:"runs_share,omitzero"` // of the raw limit; 0.03 is 3 %
	RunsPeak       float64 `json:"runs_peak_rss_mb,omitzero"`
	RunIdleP50     float64 `json:"run_idle_p50_ms,omitzero"` // at idleRate
	RunIdleP99     float64 `json:"run_idle_p99_ms,omitzero"`
	FloorIdleP50   float64 `json:"floor_idle_p50_ms,omitzero"` // four commits of the driver alone, at the same pace
	RunP50         float64 `json:"run_p50_ms,omitzero"`        // at runRate
	RunP99         float64 `json:"run_p99_ms,omitzero"`
	FloorP50       float64 `json:"floor_p50_ms,omitzero"`
	Sleeping       int     `json:"sleeping_runs,omitzero"` // this and the next two: of the most in Sleep
	SleepingRSS    float64 `json:"sleeping_rss_mb,omitzero"`
	WokenPerS      float64 `json:"woken_per_s,omitzero"`
	ReplayMedian   float64 `json:"replay_10000_steps_ms,omitzero"`
	ReplayLongest  float64 `json:"replay_longest_ms,omitzero"`
	RecordedPerS   float64 `json:"steps_of_long_runs_per_s,omitzero"`
	CPUMicrosecond float64 `json:"cpu_us_per_run,omitzero"` // of the phase runs

	Sleep    []sleepResult     `json:"sleep,omitzero"`
	Settings *workflowSettings `json:"settings,omitempty"`
}

// sleepResult is the cost of so many sleeping runs.
type sleepResult struct {
	Runs         int     `json:"runs"`
	StartedPerS  float64 `json:"started_per_s"`
	StartPeak    float64 `json:"start_peak_rss_mb"` // the most while they were started and went to sleep
	RSS          float64 `json:"rss_mb"`            // all asleep, after a garbage collection
	File         float64 `json:"file_mb"`           // with its write-ahead log
	WokenPerS    float64 `json:"woken_per_s"`
	WokenSeconds float64 `json:"woken_seconds"` // from the time they were due until the last had ended
	WakePeak     float64 `json:"wake_peak_rss_mb"`
}

type workflowSettings struct {
	Command    string  `json:"command"`
	Store      string  `json:"store"`
	Runs       int     `json:"runs"`
	Callers    int     `json:"callers"`
	Sleeping   []int   `json:"sleeping"`
	Steps      int     `json:"steps"`
	Replays    int     `json:"replays"`
	Messages   int     `json:"messages"`
	IdleRate   int     `json:"idle_rate_per_s"`
	RunRate    int     `json:"latency_rate_per_s"`
	LatencyFor float64 `json:"latency_seconds"`
	InputBytes int     `json:"input_bytes"`
	Go         string  `json:"go"`
	CPUs       int     `json:"cpus"`
	LoadBefore float64 `json:"load_before"` // the machine's, of the last minute; 0 where /proc does not say
	Seconds    float64 `json:"seconds"`
}

func (c *benchWorkflowCmd) check() error {
	if c.Smoke {
		c.Runs, c.Callers, c.Sleeping, c.Steps, c.Messages, c.Latency = 1_000, 100, []int{300, 600}, 200, 10_000, 0.2
	}
	for _, f := range []struct {
		name      string
		v         int
		low, high int
	}{
		{"--runs", c.Runs, 100, 20_000_000}, {"--callers", c.Callers, 1, 50_000}, {"--steps", c.Steps, 10, 10_000},
		{"--messages", c.Messages, 10_000, 20_000_000}, {"--sleeping: counts", len(c.Sleeping), 1, 10},
	} {
		if f.v < f.low || f.v > f.high {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.v, f.low, f.high)
		}
	}
	if !slices.IsSorted(c.Sleeping) || c.Sleeping[0] < 100 || c.Sleeping[len(c.Sleeping)-1] > 10_000_000 {
		return fmt.Errorf("--sleeping is %v, want 100 to 10,000,000, ascending", c.Sleeping)
	}
	if c.Latency < 0.1 || c.Latency > 600 {
		return fmt.Errorf("--latency is %v, want 0.1 to 600 seconds", c.Latency)
	}
	for _, p := range c.phases() {
		if !slices.Contains(workflowPhases(), p) {
			return fmt.Errorf("--only has %q, want some of %s", p, strings.Join(workflowPhases(), ", "))
		}
	}
	return nil
}

func workflowPhases() []string { return []string{"raw", "runs", "latency", "sleep", "replay"} }

// phases are those asked for. The raw limit is taken before and after the others.
func (c *benchWorkflowCmd) phases() []string {
	if c.Only == "" {
		return append(workflowPhases(), "raw")
	}
	return strings.Split(c.Only, ",")
}

// Run measures and prints.
func (c *benchWorkflowCmd) Run(a *app) (err error) {
	if err := c.check(); err != nil {
		return usageError(err)
	}
	g, release, err := benchGround(a, c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	b := newWorkflowBench(*c, a, g)
	load := loadAverage()
	if phases := c.phases(); len(phases) == 1 && (phases[0] != "sleep" || len(c.Sleeping) == 1) {
		err = b.profiled(a.ctx, phases[0])
	} else {
		err = b.children(a.ctx, phases)
	}
	if err != nil {
		return err
	}
	b.conclude(load)
	return a.print(&b.result, b.result.table)
}

// conclude works out what follows from the phases.
func (b *workflowBench) conclude(load float64) {
	r := &b.result
	if r.RawLimit > 0 {
		r.RunsShare = r.RunsPerS / r.RawLimit
	}
	for _, s := range r.Sleep {
		r.Sleeping, r.SleepingRSS, r.WokenPerS = s.Runs, s.RSS, s.WokenPerS
	}
	r.Settings = &workflowSettings{
		Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "), Store: b.ground.kind(),
		Runs: b.Runs, Callers: b.Callers, Sleeping: b.Sleeping, Steps: b.Steps, Replays: replays, Messages: b.Messages,
		IdleRate: idleRate, RunRate: runRate, LatencyFor: b.Latency, InputBytes: len(b.queue.body),
		Go: runtime.Version(), CPUs: runtime.NumCPU(), LoadBefore: load, Seconds: b.queue.seconds(),
	}
}

func (r *workflowResult) table(w *tabwriter.Writer) {
	if r.RawLimit > 0 {
		fmt.Fprintf(w, "raw limit\t%s/s\tthe driver alone, %d rows a commit\n", grouped(r.RawLimit), rawPerCommit)
	}
	if r.RunsPerS > 0 {
		share := ""
		if r.RunsShare > 0 {
			share = fmt.Sprintf("%.1f %% of the raw limit, ", 100*r.RunsShare)
		}
		fmt.Fprintf(w, "runs of 3 steps\t%s/s\t%s%.0f MB at most\n", grouped(r.RunsPerS), share, r.RunsPeak)
	}
	if r.RunP50 > 0 {
		latencyRow(w, "an idle machine", idleRate, percentiles{r.RunIdleP50, r.RunIdleP99}, r.FloorIdleP50)
		latencyRow(w, "low load", runRate, percentiles{r.RunP50, r.RunP99}, r.FloorP50)
	}
	for _, s := range r.Sleep {
		fmt.Fprintf(w, "%s asleep\t%.0f MB\t%.0f MB at most while started, at %s/s; %.0f MB of file\n",
			grouped(float64(s.Runs)), s.RSS, s.StartPeak, grouped(s.StartedPerS), s.File)
		fmt.Fprintf(w, "all woken\t%.1f s\t%s/s, %.0f MB at most\n", s.WokenSeconds, grouped(s.WokenPerS), s.WakePeak)
	}
	if r.ReplayMedian > 0 {
		fmt.Fprintf(w, "replay of %s steps\t%.0f ms\t%.0f ms the longest of %d\n",
			grouped(float64(r.Settings.Steps)), r.ReplayMedian, r.ReplayLongest, replays)
	}
}

// loadAverage is the machine's load of the last minute; 0 where /proc does not say.
func loadAverage() float64 {
	var load float64
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &load)
	}
	if err != nil {
		return 0
	}
	return load
}

// errAwake is a sleep phase that was overtaken by its own alarm.
var errAwake = errors.New("the first were due before all slept")
