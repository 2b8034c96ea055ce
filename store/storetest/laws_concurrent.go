package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func concurrentLaws() []Law {
	return []Law{
		{"concurrent/all", "All methods may be called at the same time: whatever senders, workers, people and the janitor do beside each other, each message is worked once, its effect is there once, and all counts are true.", concurrentAll},
		{"concurrent/closures", "Closures of concurrent commits do not get into each other's transactions.", concurrentClosures},
	}
}

const (
	crowdSenders = 3
	crowdEach    = 18
)

// crowd is everybody who uses a store at once.
type crowd struct {
	*scene
	mu     sync.Mutex
	faults []error
	worked map[store.Pos]int
	over   chan struct{} // closed when all is worked
}

func (c *crowd) fault(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

func concurrentAll(s *scene) {
	s.declareCook()
	c := &crowd{scene: s, worked: map[store.Pos]int{}, over: make(chan struct{})}
	other := s.open()
	var busy, idle sync.WaitGroup
	for i := range crowdSenders {
		st := s.store
		if i == 0 {
			st = other
		}
		busy.Go(func() { c.fault(c.sendAll(st, i)) })
	}
	for range 2 {
		busy.Go(func() { c.fault(c.workAll()) })
	}
	for _, act := range []func() error{c.read, c.beat, c.tidy, c.meddle} {
		idle.Go(func() {
			for {
				select {
				case <-c.over:
					return
				default:
					c.fault(act())
				}
			}
		})
	}
	busy.Wait()
	close(c.over)
	idle.Wait()
	for _, err := range c.faults {
		s.Errorf("a call beside others = %v, want nil", err)
	}
	if len(c.worked) != crowdSenders*crowdEach {
		s.Errorf("%d messages were worked, want %d", len(c.worked), crowdSenders*crowdEach)
	}
	for pos, n := range c.worked {
		if n != 1 {
			s.Errorf("the message at %d was worked %d times, want once", pos, n)
		}
	}
	if notes, err := s.h.Notes(s.ctx()); err != nil || len(notes) != crowdSenders*crowdEach {
		s.Errorf("the user's table holds %d effects, %v, want %d", len(notes), err, crowdSenders*crowdEach)
	}
	s.holds(cook, 0, 0)
	s.figures(cook, store.FigureMinute{Sent: crowdSenders * crowdEach, Done: crowdSenders * crowdEach})
	s.well()
}

// sendAll sends a sender's messages, every third in a transaction of its own.
func (c *crowd) sendAll(st store.Store, sender int) error {
	for n := range crowdEach {
		ms := []*store.Message{message(cook, fmt.Sprint([]string{"", "a", "b"}[n%3], sender*crowdEach+n))}
		if n%3 == 0 {
			if err := c.sendOwn(st, ms); err != nil {
				return err
			}
			continue
		}
		ch := &store.Change{Sends: ms, Outside: true}
		if err := errors.Join(st.Commit(c.ctx(), &store.Group{Changes: []*store.Change{ch}}), ch.Err); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) sendOwn(st store.Store, ms []*store.Message) error {
	own, err := c.h.Begin(c.ctx())
	if err != nil {
		return err
	}
	if err := st.AppendIn(c.ctx(), own.Tx, &store.Change{Sends: ms}); err != nil {
		return errors.Join(err, own.Rollback())
	}
	return own.Commit()
}

// workAll claims and acknowledges until all messages were worked. Workers share
// the queue without a thought for keys, since none fails.
func (c *crowd) workAll() error {
	for {
		c.mu.Lock()
		done := len(c.worked) == crowdSenders*crowdEach || len(c.faults) > 0
		c.mu.Unlock()
		if done {
			return nil
		}
		got, err := c.store.Claim(c.ctx(), store.ClaimRequest{Queue: c.ids[cook], Max: 5})
		if err != nil {
			return err
		}
		if got.Batch == nil {
			continue
		}
		g := &store.Group{}
		for _, d := range got.Batch.Deliveries {
			ch := change(c.verdict(got.Batch.BatchRef, d, store.Done))
			ch.Closures = []store.Closure{c.note(string(d.Message.Body))}
			g.Changes = append(g.Changes, ch)
		}
		if err := c.store.Commit(c.ctx(), g); err != nil {
			return err
		}
		c.mu.Lock()
		for i, d := range got.Batch.Deliveries {
			if g.Changes[i].Err == nil {
				c.worked[d.Message.Pos]++
			}
		}
		c.mu.Unlock()
	}
}

// read asks what people ask. A depth is what one moment's counters say.
func (c *crowd) read() error {
	r := c.store.Reader()
	queues, err := r.Queues(c.ctx())
	for _, q := range queues {
		if q.Depth < 0 || q.Leased < 0 || q.Depth > crowdSenders*crowdEach {
			err = errors.Join(err, fmt.Errorf("Queues(): depth %d, leased %d", q.Depth, q.Leased))
		}
	}
	_, traceErr := r.Trace(c.ctx(), "a", 5)
	_, listErr := r.Messages(c.ctx(), store.MessageQuery{Max: 5})
	_, changedErr := r.Changed(c.ctx())
	return errors.Join(err, traceErr, listErr, changedErr)
}

func (c *crowd) beat() error { return c.store.Heartbeat(c.ctx()) }

func (c *crowd) tidy() error {
	_, err := c.store.Prune(c.ctx(), store.Retention{Keep: time.Hour, Max: 10})
	return errors.Join(err, c.store.Commit(c.ctx(), &store.Group{Figures: []store.FigureDelta{{Queue: c.ids[cook]}}}))
}

// meddle pauses the queue and resumes it.
func (c *crowd) meddle() error {
	for _, verb := range []store.Verb{store.PauseQueue, store.ResumeQueue} {
		if _, err := c.store.Operate(c.ctx(), by(store.Act{Verb: verb, Queue: cook})); err != nil {
			return err
		}
	}
	return nil
}

func concurrentClosures(s *scene) {
	s.declareCook()
	const callers, each = 6, 10
	var all sync.WaitGroup
	fault := make(chan error, callers*each)
	for i := range callers {
		all.Go(func() {
			for n := range each {
				ch := &store.Change{Closures: []store.Closure{s.note(fmt.Sprint(i, "-", n))}}
				fails := n%3 == 1
				if fails {
					ch.Closures = append(ch.Closures, failing)
				}
				err := s.store.Commit(s.ctx(), &store.Group{Changes: []*store.Change{ch}})
				if err != nil || errors.Is(ch.Err, errClosure) != fails {
					fault <- fmt.Errorf("change %d of caller %d = %w, %w", n, i, err, ch.Err)
				}
			}
		})
	}
	all.Wait()
	close(fault)
	for err := range fault {
		s.Errorf("Commit() beside others: %v", err)
	}
	notes, err := s.h.Notes(s.ctx())
	seen := map[string]bool{}
	for _, n := range notes {
		seen[n] = true
	}
	want := 0
	for i := range callers {
		for n := range each {
			if n%3 == 1 {
				continue
			}
			want++
			if word := fmt.Sprint(i, "-", n); !seen[word] {
				s.Errorf("the user's table lacks %s", word)
			}
		}
	}
	if err != nil || len(notes) != want {
		s.Errorf("the user's table holds %d words, %v, want %d", len(notes), err, want)
	}
}
