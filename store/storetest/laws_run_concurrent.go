package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func runConcurrentLaws() []Law {
	return []Law{
		{"run-concurrent/all", "Whatever starters, tellers, workers, people and the janitor do beside each other, each run is worked to its end once, and its effects are there once.", runConcurrentAll},
	}
}

const throng = 14 // runs

// mill is a crowd that works runs: each pays, waits for an event and for a lock that
// all want, and ends.
type mill struct {
	*crowd
	ended map[string]int
}

func runConcurrentAll(s *scene) {
	m := &mill{crowd: &crowd{scene: s, over: make(chan struct{})}, ended: map[string]int{}}
	other := s.open()
	var busy, idle sync.WaitGroup
	for i, st := range []store.Store{s.store, other, s.store} {
		busy.Go(func() { m.fault(m.startAll(st, i)) })
		if i < 2 {
			busy.Go(func() { m.fault(m.tellAll(st, i)) })
		}
	}
	for range 2 {
		busy.Go(func() { m.fault(m.workAll()) })
	}
	for _, act := range []func() error{m.look, m.beat, m.sweep} {
		idle.Go(func() {
			for {
				select {
				case <-m.over:
					return
				default:
					m.fault(act())
				}
			}
		})
	}
	busy.Wait()
	close(m.over)
	idle.Wait()
	for _, err := range m.faults {
		s.Errorf("a call beside others = %v, want nil", err)
	}
	notes, err := s.h.Notes(s.ctx())
	if err != nil {
		s.Fatalf("the user's table = %v, want nil", err)
	}
	slices.Sort(notes)
	var want []string
	for i := range throng {
		want = append(want, fmt.Sprint("end-r", i), fmt.Sprint("pay-r", i))
	}
	slices.Sort(want)
	if !slices.Equal(notes, want) {
		s.Errorf("the user's table holds %q, want each effect once, %q", notes, want)
	}
	s.inLine("till", "")
	s.well()
}

// startAll starts all runs, as others do too; every third in a transaction of its own.
func (m *mill) startAll(st store.Store, who int) error {
	for i := range throng {
		r := starting(fmt.Sprint("r", (i+7*who)%throng))
		if (i+who)%3 == 0 {
			own, err := m.h.Begin(m.ctx())
			if err != nil {
				return err
			}
			if err := st.AppendIn(m.ctx(), own.Tx, begins(r)); err != nil {
				return errors.Join(err, own.Rollback())
			}
			if err := own.Commit(); err != nil {
				return err
			}
			continue
		}
		if err := m.write(st, begins(r)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mill) write(st store.Store, c *store.Change) error {
	return errors.Join(st.Commit(m.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err)
}

// tellAll sends what half of the runs wait for.
func (m *mill) tellAll(st store.Store, who int) error {
	for i := who; i < throng; i += 2 {
		e := message(ready, "told")
		e.Key = fmt.Sprint("r", i)
		if err := m.write(st, sends(e)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mill) done() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ended) == throng || len(m.faults) > 0
}

func (m *mill) workAll() error {
	for !m.done() {
		got, err := m.store.Claim(m.ctx(), store.ClaimRequest{Workflow: fulfil, Max: 3})
		if err != nil {
			return err
		}
		for _, r := range got.Runs {
			if err := m.work(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// work takes one claimed run as far as it goes.
func (m *mill) work(r *store.Run) error {
	have := map[int]bool{}
	for _, rec := range r.Records {
		have[rec.N] = true
	}
	u := updates(r.RunRef)
	if !have[1] {
		first := runs(&store.RunUpdate{
			RunRef: r.RunRef, Records: []*store.Record{step(1, "pay", store.StepDone)},
			Waits: []store.Wait{awaits(2, r.ID)}, Locks: []store.LockAct{acquires(3, "till")},
		})
		first.Closures = []store.Closure{m.note("pay-" + r.ID)}
		if err := m.write(m.store, first); err != nil {
			return err
		}
		if first.Run.Locks[0].Fence > 0 {
			u.Records, have[3] = append(u.Records, step(3, "lock", store.StepDone)), true
		}
	}
	for _, l := range r.Mail {
		u.Records, have[l.N] = append(u.Records, step(l.N, "mail", store.StepDone)), true
		u.Read = l.No
	}
	u.Verdict = store.Waiting
	c := runs(u)
	if have[2] && have[3] {
		u.Verdict, u.Outcome, u.Locks = store.Ended, store.Completed, []store.LockAct{releases(3, "till")}
		c.Closures = []store.Closure{m.note("end-" + r.ID)}
	}
	if err := m.write(m.store, c); err != nil {
		return err
	}
	if u.Verdict == store.Ended {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ended[r.ID]++
	}
	return nil
}

// look asks what people ask.
func (m *mill) look() error {
	r := m.store.Reader().Runs()
	rows, err := r.List(m.ctx(), store.RunQuery{Max: 5})
	for _, row := range rows {
		if _, storyErr := r.Story(m.ctx(), row.Workflow, row.ID); storyErr != nil {
			err = errors.Join(err, storyErr)
		}
	}
	locks, lockErr := r.Locks(m.ctx(), 9)
	if len(locks) > 1 {
		err = errors.Join(err, fmt.Errorf("Locks(): %d locks of one name", len(locks)))
	}
	_, countErr := r.Counts(m.ctx())
	return errors.Join(err, lockErr, countErr)
}

func (m *mill) sweep() error {
	_, err := m.store.Prune(m.ctx(), store.Retention{Keep: time.Hour, Max: 10})
	return err
}
