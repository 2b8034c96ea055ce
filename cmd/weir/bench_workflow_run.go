package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
)

// workflowBench is one run of weir bench workflow, or a phase of it in a process of its own.
type workflowBench struct {
	benchWorkflowCmd
	ground   ground
	queue    *bench // of weir bench queue: its raw limit and its meter
	progress io.Writer
	result   workflowResult
}

func newWorkflowBench(c benchWorkflowCmd, a *app, g ground) *workflowBench {
	body, err := json.Marshal(newBenchBody())
	if err != nil {
		panic(err) // strings and numbers
	}
	return &workflowBench{
		benchWorkflowCmd: c, ground: g, progress: a.err,
		queue: &bench{ground: g, body: body, progress: a.err, began: time.Now()},
	}
}

// children runs each phase in a process of its own: what one leaves in memory must
// not be counted with the next.
func (b *workflowBench) children(ctx context.Context, phases []string) error {
	for i, p := range phases {
		last := slices.Contains(phases[:i], p) // the raw limit again
		counts := b.Sleeping
		if p != "sleep" {
			counts = counts[:1]
		}
		for _, n := range counts {
			if err := b.child(ctx, p, n, last); err != nil {
				return fmt.Errorf("bench %s: %w", p, err)
			}
		}
	}
	return nil
}

// child runs one phase and takes over what it has measured.
func (b *workflowBench) child(ctx context.Context, phase string, sleeping int, again bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"bench", "workflow", "--store", cmp.Or(b.ground.database, "weir.db"), "--json",
		"--only", phase, "--dir", b.ground.dir, "--sleeping", strconv.Itoa(sleeping),
		"--runs", strconv.Itoa(b.Runs), "--callers", strconv.Itoa(b.Callers), "--steps", strconv.Itoa(b.Steps),
		"--messages", strconv.Itoa(b.Messages), "--latency", strconv.FormatFloat(b.Latency, 'f', -1, 64)}
	suffix := "." + phase
	if phase == "sleep" {
		suffix += "-" + strconv.Itoa(sleeping)
	}
	if again {
		suffix += "-again"
	}
	for flag, file := range map[string]string{"--cpuprofile": b.CPUProfile, "--memprofile": b.MemProfile} {
		if file != "" {
			args = append(args, flag, file+suffix)
		}
	}
	cmd := exec.CommandContext(ctx, self, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, b.progress
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, clearTime // it has a schema to drop
	if err := cmd.Run(); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	raw, slept := b.result.RawLimit, b.result.Sleep
	b.result.Sleep = nil
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &b.result); err != nil {
		return err
	}
	b.result.RawLimit, b.result.Sleep = max(raw, b.result.RawLimit), append(slept, b.result.Sleep...)
	return nil
}

// profiled measures one phase in this process.
func (b *workflowBench) profiled(ctx context.Context, phase string) error {
	stop, err := startProfile(b.CPUProfile)
	if err != nil {
		return err
	}
	err = b.phase(ctx, phase)
	stop()
	if err != nil {
		return fmt.Errorf("bench %s: %w", phase, err)
	}
	if b.MemProfile == "" {
		return nil
	}
	f, err := os.Create(b.MemProfile)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

func (b *workflowBench) phase(ctx context.Context, phase string) error {
	switch phase {
	case "raw":
		rate, err := b.queue.rawLimit(ctx, b.Messages/rawPerCommit*rawPerCommit)
		b.result.RawLimit = rate
		b.tell("raw: %s/s", grouped(rate))
		return err
	case "runs":
		return b.runs(ctx)
	case "latency":
		return b.latency(ctx)
	case "sleep":
		return b.sleep(ctx, b.Sleeping[0])
	}
	return b.replay(ctx)
}

func (b *workflowBench) tell(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// flowRig is an engine on a fresh store that runs.
type flowRig struct {
	eng     *weir.Engine
	plot    *plot
	stop    context.CancelFunc
	stopped chan error
}

// open makes a store and runs what register has registered.
func (b *workflowBench) open(ctx context.Context, register func(*weir.Engine)) (*flowRig, error) {
	f := &flowRig{plot: b.ground.plot(), stopped: make(chan error, 1)}
	var err error
	f.eng, err = weir.Open(ctx, f.plot.opener(), weir.Config{Owns: []string{"bench"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, f.plot.clear(ctx))
	}
	register(f.eng)
	ctx, f.stop = context.WithCancel(ctx)
	go func() { f.stopped <- f.eng.Run(ctx) }()
	select {
	case <-f.eng.Ready():
		return f, nil
	case err := <-f.stopped:
		f.stopped <- nil
		return nil, errors.Join(err, f.finish())
	}
}

// finish stops the engine, which commits all that runs have written, and removes its store.
func (f *flowRig) finish() error {
	f.stop()
	err := <-f.stopped
	return errors.Join(err, f.eng.Close(), f.plot.clear(context.Background()))
}

// waitCount waits until so many runs of a workflow are in a state. Counting a million
// takes its time, of which most is to be left to those who are counted.
func (f *flowRig) waitCount(ctx context.Context, workflow, state string, want int) error {
	for {
		began := time.Now()
		counts, err := f.eng.RunCounts(ctx)
		if err != nil {
			return err
		}
		n := int64(0)
		for _, c := range counts {
			if c.Workflow == workflow && string(c.State) == state {
				n += c.Count
			}
		}
		if n == int64(want) {
			return nil
		}
		select {
		case <-time.After(max(20*time.Millisecond, 5*time.Since(began))):
		case err := <-f.stopped:
			f.stopped <- nil
			return fmt.Errorf("the engine has stopped while %d of %d runs were %s: %w", n, want, state, err)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d runs were %s: %w", n, want, state, ctx.Err())
		}
	}
}

// places is how many runs may be in memory: those that callers wait for, and those
// that are on their way in and out.
func (b *workflowBench) places() weir.Runs {
	return weir.Runs{Concurrency: min(max(2*b.Callers, 1_000), 100_000)}
}

// threeSteps is the workflow of most figures: each step's result is durable before the next begins.
func threeSteps(r *weir.Run, in benchBody) (int64, error) {
	sum := in.ID
	for _, name := range [...]string{"reserve", "charge", "ship"} {
		n, err := weir.Step(r, name, func(context.Context) (int64, error) { return 1, nil })
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func threeStepsContract() weir.Workflow[benchBody, int64] {
	return weir.NewWorkflow[benchBody, int64]("bench.three-steps")
}

// runThree starts a run of three steps and waits for its result.
func runThree(ctx context.Context, e *weir.Engine, w weir.Workflow[benchBody, int64], n int64) error {
	body := newBenchBody()
	body.ID = n
	ref, err := weir.Start(ctx, e, w, "order-"+strconv.FormatInt(n, 10), body)
	if err != nil {
		return err
	}
	got, err := ref.Result(ctx)
	if err == nil && got != n+3 {
		err = fmt.Errorf("run %d resulted in %d, want %d", n, got, n+3)
	}
	return err
}

// runs is how many runs of three steps a second end, with many callers.
func (b *workflowBench) runs(ctx context.Context) error {
	w := threeStepsContract()
	f, err := b.open(ctx, func(e *weir.Engine) { weir.Register(e, w, threeSteps, b.places()) })
	if err != nil {
		return err
	}
	rate, err := b.throughput(ctx, f, w, b.Runs)
	b.result.RunsPerS, b.result.CPUMicrosecond, b.result.RunsPeak = rate, b.queue.cpu, peakRSS()
	b.tell("runs: %s/s, %.1f µs of CPU a run", grouped(rate), b.queue.cpu)
	return errors.Join(err, f.finish())
}

// throughput is n runs' rate, each waited for by its caller.
func (b *workflowBench) throughput(ctx context.Context, f *flowRig, w weir.Workflow[benchBody, int64], n int) (float64, error) {
	var number atomic.Int64
	return b.queue.meter(n, func() error {
		return b.queue.parallel(b.Callers, n, func() error { return runThree(ctx, f.eng, w, number.Add(1)) })
	})
}
