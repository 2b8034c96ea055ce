package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
	weirsqlite "github.com/weir-go/weir/store/sqlite"
)

// workflowBench is one run of weir bench workflow, or a phase of it in a process of its own.
type workflowBench struct {
	benchWorkflowCmd
	queue    *bench // of weir bench queue: its raw limit and its meter
	dir      string
	progress io.Writer
	result   workflowResult
}

func newWorkflowBench(c benchWorkflowCmd, a *app, dir string) *workflowBench {
	body, err := json.Marshal(newBenchBody())
	if err != nil {
		panic(err) // strings and numbers
	}
	return &workflowBench{
		benchWorkflowCmd: c, dir: dir, progress: a.err,
		queue: &bench{dir: dir, body: body, progress: a.err, began: time.Now()},
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
	args := []string{"bench", "workflow", "--json", "--only", phase, "--dir", b.dir, "--sleeping", strconv.Itoa(sleeping),
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

// flowRig is an engine on a fresh file that runs.
type flowRig struct {
	eng     *weir.Engine
	path    string
	stop    context.CancelFunc
	stopped chan error
}

// open makes a store and runs what register has registered.
func (b *workflowBench) open(ctx context.Context, register func(*weir.Engine)) (*flowRig, error) {
	dir, err := os.MkdirTemp(b.dir, "store-")
	if err != nil {
		return nil, err
	}
	f := &flowRig{path: filepath.Join(dir, "bench.db"), stopped: make(chan error, 1)}
	f.eng, err = weir.Open(ctx, weirsqlite.File(f.path), weir.Config{Owns: []string{"bench"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
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

// finish stops the engine and closes it: all that runs have written is committed then.
func (f *flowRig) finish() error {
	f.stop()
	err := <-f.stopped
	return errors.Join(err, f.eng.Close())
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

// latency is the time from a start's call to its result, at a steady low rate.
func (b *workflowBench) latency(ctx context.Context) error {
	w := threeStepsContract()
	f, err := b.open(ctx, func(e *weir.Engine) { weir.Register(e, w, threeSteps, b.places()) })
	if err != nil {
		return err
	}
	n := max(int(b.Latency*latencyRate), 10)
	took, errs := make([]time.Duration, n), make([]error, n)
	tick := time.NewTicker(time.Second / latencyRate)
	defer tick.Stop()
	var wg sync.WaitGroup
	for i := range n {
		<-tick.C
		wg.Go(func() {
			began := time.Now()
			errs[i] = runThree(ctx, f.eng, w, int64(i+1))
			took[i] = time.Since(began)
		})
	}
	wg.Wait()
	slices.Sort(took)
	b.result.RunP50, b.result.RunP99 = milliseconds(took[n/2]), milliseconds(took[n*99/100])
	b.tell("latency: p50 %.2f ms, p99 %.2f ms", b.result.RunP50, b.result.RunP99)
	return errors.Join(append(errs, f.finish())...)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
