package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// crowd is several processes that work one schema.
type crowd struct {
	*harness
	stores []store.Store
}

const (
	crowdFlow = "orders.fulfil"
	// crowdLease is more than the slowest machine takes for a beat: who is to be lost is made so.
	crowdLease = time.Minute
)

func newCrowd(t *testing.T, processes int) *crowd {
	t.Helper()
	h := openHarness(t, time.Now).(*harness)
	c := &crowd{harness: h}
	open := DB(dsn(t)+" pool_max_conns=8", Schema(h.schema), Lease(crowdLease))
	for range processes {
		s, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		c.stores = append(c.stores, patient{s})
	}
	return c
}

// patient is a store whose caller tries again what a busy server had no time for, as the
// engine does.
type patient struct{ store.Store }

func (p patient) again(call func() error) error {
	for {
		err := call()
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnresolved) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (p patient) Claim(ctx context.Context, r store.ClaimRequest) (c store.Claimed, err error) {
	err = p.again(func() error {
		c, err = p.Store.Claim(ctx, r)
		return err
	})
	return c, err
}

func (p patient) Commit(ctx context.Context, g *store.Group) error {
	return p.again(func() error { return p.Store.Commit(ctx, g) })
}

func (p patient) Heartbeat(ctx context.Context) error {
	return p.again(func() error { return p.Store.Heartbeat(ctx) })
}

// begin has a process work, and beat until the function returned is called.
func (c *crowd) begin(s store.Store) (still func()) {
	c.t.Helper()
	if err := s.Begin(c.t.Context(), &store.Process{Host: "h", Version: "v"}); err != nil {
		c.t.Fatal(err)
	}
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if err := s.Heartbeat(context.Background()); err != nil {
					c.t.Errorf("Heartbeat() = %v, want nil", err)
				}
			}
		}
	}()
	return func() {
		close(over)
		<-gone
	}
}

func (c *crowd) commit(s store.Store, changes ...*store.Change) error {
	if err := s.Commit(context.Background(), &store.Group{Changes: changes}); err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Err != nil {
			return ch.Err
		}
	}
	return nil
}

func (c *crowd) start(s store.Store, n int) {
	c.t.Helper()
	var list []*store.Change
	for i := range n {
		list = append(list, &store.Change{Runs: []*store.RunStart{{Workflow: crowdFlow, ID: fmt.Sprint("r", i), Version: 1}}})
	}
	if err := c.commit(s, list...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) note(word string) store.Closure {
	return func(ctx context.Context, tx store.Tx) error { return c.Note(ctx, tx, word) }
}

// stepOf is the update of a run that writes its next record, or ends it after the third.
func (c *crowd) stepOf(r *store.Run, n int) *store.Change {
	u := &store.RunUpdate{RunRef: r.RunRef, Records: []*store.Record{{N: n, Kind: store.KindStep, State: store.StepDone, Name: fmt.Sprint("s", n)}}}
	if n == 3 {
		u.Verdict, u.Outcome = store.Ended, store.Completed
	}
	return &store.Change{Run: u, Closures: []store.Closure{c.note(fmt.Sprintf("%s %d %d", r.ID, n, r.Epoch))}}
}

// work works claimed runs, a group for each step of all of them, until the process is lost.
// between is called before each.
func (c *crowd) work(s store.Store, list []*store.Run, between func(n int)) (lost bool) {
	for n := 1; n <= 3; n++ {
		between(n)
		var changes []*store.Change
		for _, r := range list {
			if len(r.Records) < n {
				changes = append(changes, c.stepOf(r, n))
			}
		}
		err := s.Commit(context.Background(), &store.Group{Changes: changes})
		if errors.Is(err, store.ErrLeaseLost) {
			return true
		}
		if err != nil {
			c.t.Errorf("Commit() = %v, want nil", err)
			return true
		}
		for _, ch := range changes {
			if ch.Err != nil {
				c.t.Errorf("Commit(step %d of a run leased) = %v, want nil", n, ch.Err)
			}
		}
	}
	return false
}

func TestRunsOfAProcessThatStopsBeating(t *testing.T) {
	t.Parallel()
	const runs = 2000
	c := newCrowd(t, 4)
	for _, s := range c.stores[:3] {
		defer c.begin(s)()
	}
	silent := c.stores[3]
	c.begin(silent)() // it works on, and does not know
	c.start(c.stores[0], runs)
	midst, over := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { c.workSilently(silent, midst) })
	for i, s := range c.stores[:3] {
		all.Go(func() {
			<-midst
			for {
				select {
				case <-over:
					return
				default:
				}
				got, err := s.Claim(context.Background(), store.ClaimRequest{Workflow: crowdFlow, Max: 5 + 10*i, Suspects: rand.IntN(3) == 0})
				if err != nil {
					t.Errorf("Claim() = %v, want nil", err)
					return
				}
				if len(got.Runs) > 0 && c.work(s, got.Runs, func(int) {}) {
					t.Error("a process that beats is taken for lost")
					return
				}
			}
		})
	}
	c.await(func() bool {
		counts, err := c.stores[0].Reader().Runs().Counts(t.Context())
		if err != nil {
			t.Error(err)
			return true
		}
		return len(counts) == 1 && counts[0].State == "completed" && counts[0].Count == runs
	})
	close(over)
	all.Wait()
	c.judgeSteps(runs)
}

// workSilently has a process that does not beat work runs, and be taken for lost in the midst of it.
func (c *crowd) workSilently(s store.Store, midst chan struct{}) {
	got, err := s.Claim(context.Background(), store.ClaimRequest{Workflow: crowdFlow, Max: 35})
	if err != nil || len(got.Runs) == 0 {
		c.t.Errorf("Claim() = %d runs, %v, want some", len(got.Runs), err)
		close(midst)
		return
	}
	process := s.(patient).Store.(*Store).process.Load()
	lost := c.work(s, got.Runs, func(n int) {
		if n != 2 {
			return
		}
		if _, err := c.db.Exec(context.Background(), inSchema("update weir.processes set beat_us = beat_us - $2 where id = $1", c.schema),
			process, 2*crowdLease.Microseconds()); err != nil {
			c.t.Error(err)
		}
		close(midst)
		c.await(func() bool {
			var lost bool
			err := c.db.QueryRow(context.Background(), inSchema("select lost_us is not null from weir.processes where id = $1", c.schema), process).Scan(&lost)
			return err != nil || lost
		})
	})
	if !lost {
		c.t.Error("a process that does not beat is not taken for lost")
	}
}

// await waits until done says so.
func (c *crowd) await(done func() bool) {
	c.t.Helper()
	limit := time.After(4 * time.Minute)
	for !done() {
		select {
		case <-limit:
			c.t.Error("it does not come to an end")
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// judgeSteps wants each run's steps once, in order, under epochs that ascend.
func (c *crowd) judgeSteps(runs int) {
	c.t.Helper()
	notes, err := c.Notes(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	steps, epochs, later := map[string][]string{}, map[string]string{}, 0
	for _, line := range notes {
		w := strings.Fields(line)
		steps[w[0]] = append(steps[w[0]], w[1])
		if w[2] < epochs[w[0]] {
			c.t.Errorf("%s: a step under epoch %s after one under %s", w[0], w[2], epochs[w[0]])
		}
		if epochs[w[0]] = w[2]; w[2] > "1" {
			later++
		}
	}
	for id, got := range steps {
		if strings.Join(got, " ") != "1 2 3" {
			c.t.Errorf("%s: the steps written are %q, want 1 2 3", id, got)
		}
	}
	if len(steps) != runs || later == 0 {
		c.t.Errorf("%d runs were worked, %d of their steps after a take-over, want %d, and some", len(steps), later, runs)
	}
}

func TestWaitsAgainstMessages(t *testing.T) {
	t.Parallel()
	const runs, tellers, waiters = 320, 4, 4
	c := newCrowd(t, 2)
	for _, s := range c.stores {
		defer c.begin(s)()
	}
	refs := make([]store.RunRef, runs)
	for i := range runs {
		st := &store.RunStart{Workflow: crowdFlow, ID: fmt.Sprint("r", i), Version: 1, Lease: true}
		if err := c.commit(c.stores[i%2], &store.Change{Runs: []*store.RunStart{st}}); err != nil {
			t.Fatal(err)
		}
		refs[i] = store.RunRef{No: st.No, Epoch: st.Epoch}
	}
	event := func(i int) *store.Change {
		return &store.Change{Sends: []*store.Message{{Topic: "order.ready", Kind: store.KindEvent, Version: 1, Key: fmt.Sprint(i), Body: fmt.Append(nil, i)}}}
	}
	var all sync.WaitGroup
	for w := range waiters {
		all.Go(func() {
			for i := w; i < runs; i += waiters { // in pairs: groups of two
				u := &store.RunUpdate{RunRef: refs[i], Verdict: store.Waiting, Waits: []store.Wait{
					{N: 1, Topic: store.Topic{Name: "order.ready", Kind: store.KindEvent}, Key: fmt.Sprint(i)}}}
				if err := c.commit(c.stores[i%2], &store.Change{Run: u}); err != nil {
					t.Errorf("Commit(wait) = %v, want nil", err)
				}
			}
		})
	}
	for w := range tellers {
		all.Go(func() {
			for i := w; i < runs; i += tellers {
				if w%2 == 0 {
					if err := c.commit(c.stores[(i+w/2)%2], event(i)); err != nil {
						t.Errorf("Commit(event) = %v, want nil", err)
					}
					continue
				}
				own, err := c.Begin(t.Context())
				if err == nil {
					err = errors.Join(c.stores[i%2].AppendIn(t.Context(), own.Tx, event(i)), own.Commit())
				}
				if err != nil {
					t.Errorf("AppendIn(event) = %v, want nil", err)
				}
			}
		})
	}
	all.Wait()
	got := map[string]int{}
	c.await(func() bool {
		for _, s := range c.stores {
			claimed, err := s.Claim(t.Context(), store.ClaimRequest{Workflow: crowdFlow, Max: 50})
			if err != nil {
				t.Error(err)
			}
			for _, r := range claimed.Runs {
				if len(r.Mail) != 1 || r.Mail[0].Message == nil || "r"+string(r.Mail[0].Message.Body) != r.ID {
					t.Errorf("Claim(): %s has %d letters, want its event", r.ID, len(r.Mail))
				}
				got[r.ID]++
			}
		}
		return len(got) == runs
	})
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s was woken %d times, want once", id, n)
		}
	}
}

func TestLockAmongProcesses(t *testing.T) {
	t.Parallel()
	const runs = 60
	c := newCrowd(t, 3)
	for _, s := range c.stores {
		defer c.begin(s)()
	}
	c.start(c.stores[0], runs)
	over := make(chan struct{})
	var all sync.WaitGroup
	for _, s := range c.stores {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				got, err := s.Claim(context.Background(), store.ClaimRequest{Workflow: crowdFlow, Max: 3})
				if err != nil {
					t.Errorf("Claim() = %v, want nil", err)
					return
				}
				for _, r := range got.Runs {
					c.useLock(s, r)
				}
			}
		})
	}
	c.await(func() bool {
		notes, err := c.Notes(t.Context())
		return err != nil || len(notes) == runs
	})
	close(over)
	all.Wait()
	notes, err := c.Notes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	last := int64(0)
	for _, line := range notes {
		var id string
		var fence int64
		if _, err := fmt.Sscan(line, &id, &fence); err != nil || fence <= last || seen[id] {
			t.Errorf("%q held the lock after one with fence %d, want each once, with ascending fences", line, last)
		}
		seen[id], last = true, fence
	}
	locks, err := c.stores[0].Reader().Runs().Locks(t.Context(), 9)
	if err != nil || len(locks) != 0 || len(seen) != runs {
		t.Errorf("%d runs held the lock, and %d locks are left, %v, want %d, 0, nil", len(seen), len(locks), err, runs)
	}
}

// useLock has a run acquire the lock, or, when it has it, end.
func (c *crowd) useLock(s store.Store, r *store.Run) {
	fence := int64(0)
	if len(r.Mail) > 0 {
		fence = r.Mail[0].Fence
	} else {
		u := &store.RunUpdate{RunRef: r.RunRef, Locks: []store.LockAct{{N: 1, Name: "till"}}}
		if err := c.commit(s, &store.Change{Run: u}); err != nil {
			c.t.Errorf("Commit(acquire) = %v, want nil", err)
		}
		fence = u.Locks[0].Fence
	}
	ch := &store.Change{Run: &store.RunUpdate{RunRef: r.RunRef, Verdict: store.Waiting}}
	if fence > 0 {
		ch.Run.Verdict, ch.Run.Outcome = store.Ended, store.Completed
		ch.Closures = []store.Closure{c.note(fmt.Sprint(r.ID, " ", fence))}
	}
	if err := c.commit(s, ch); err != nil {
		c.t.Errorf("Commit(%v) = %v, want nil", ch.Run.Verdict, err)
	}
}

// BenchmarkRuns writes runs of three steps as an engine does: a group of starts, three of
// records, the last with the ends; on four connections.
func BenchmarkRuns(b *testing.B) {
	h := openHarness(b, time.Now).(*harness)
	s, err := DB(dsn(b), Schema(h.schema))(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Begin(b.Context(), &store.Process{Host: "h", Version: "v"}); err != nil {
		b.Fatal(err)
	}
	const each, writers = 250, 4
	var all sync.WaitGroup
	groups := make(chan int, b.N/each+1)
	for i := range b.N/each + 1 {
		groups <- i
	}
	close(groups)
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			for i := range groups {
				if err := benchRuns(s, i, each); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N/each+1)*each/b.Elapsed().Seconds(), "runs/s")
}

func benchRuns(s store.Store, group, each int) error {
	starts := make([]*store.RunStart, each)
	changes := make([]*store.Change, each)
	for i := range each {
		starts[i] = &store.RunStart{Workflow: crowdFlow, ID: fmt.Sprint("r", group, "-", i), Version: 1, Input: []byte(`{"order":"k7q2xw"}`), Lease: true}
		changes[i] = &store.Change{Runs: starts[i : i+1]}
	}
	if err := s.Commit(context.Background(), &store.Group{Changes: changes}); err != nil {
		return err
	}
	for n := 1; n <= 3; n++ {
		for i, st := range starts {
			u := &store.RunUpdate{RunRef: store.RunRef{No: st.No, Epoch: st.Epoch}, Records: []*store.Record{{N: n, Kind: store.KindStep,
				State: store.StepDone, Name: "step", Attempt: 1, StartedAt: time.Now(), Took: time.Millisecond, Value: []byte(`"done"`)}}}
			if n == 3 {
				u.Verdict, u.Outcome, u.Result = store.Ended, store.Completed, []byte(`"ok"`)
			}
			changes[i] = &store.Change{Run: u}
		}
		if err := s.Commit(context.Background(), &store.Group{Changes: changes}); err != nil {
			return err
		}
		for _, ch := range changes {
			if ch.Err != nil {
				return ch.Err
			}
		}
	}
	return nil
}
