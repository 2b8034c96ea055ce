package storetest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/weir-go/weir/store"
)

func exchangeConcurrentLaws() []Law {
	return []Law{
		{"arrival/concurrent", "Of several who bring the same at once, in whichever process, one is taken: everything comes once, in the order of its lane.", arrivalConcurrent},
		{"origin/concurrent", "Of several who bring a message with the same origin at once, on whichever lanes, one is taken.", originConcurrent},
		{"state/concurrent", "While others write, in groups and in transactions of their own, who follows Changes from mark to mark misses nothing, and the newest version of each key stays.", stateConcurrent},
	}
}

func arrivalConcurrent(s *scene) {
	s.declareCook()
	const last = 24
	var all sync.WaitGroup
	faults := make(chan error, 3)
	for i := range 3 {
		st := s.store
		if i > 0 {
			st = s.open()
		}
		all.Go(func() { faults <- s.bring(st, last) })
	}
	all.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			s.Errorf("bringing the same beside others: %v, want nil", err)
		}
	}
	var want []string
	for n := 1; n <= last; n++ {
		want = append(want, fmt.Sprint(n))
	}
	s.listed(cook, strings.Join(want, " "))
	s.arrived(fmt.Sprintf("%s 1/%d", lane, last))
	rows, err := s.store.Reader().Exchange().Arrivals(s.ctx(), "")
	if err != nil || rows[0].Arrived != last {
		s.Errorf("Arrivals() = %+v, %v, want %d arrived", rows, err, last)
	}
}

// bring brings what a lane holds, one by one, and goes on beyond what has come.
func (s *scene) bring(st store.Store, last int) error {
	for n := 1; n <= last; {
		at := fmt.Sprintf("1/%d", n)
		c := arrival(lane, at, at, message(cook, fmt.Sprint(n)))
		if err := st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil {
			return err
		}
		misplaced, ok := errors.AsType[*store.MisplacedError](c.Err)
		switch {
		case c.Err == nil:
			n++
		case !ok || misplaced.Have.Index < n:
			return fmt.Errorf("%d: %w", n, c.Err)
		default:
			n = misplaced.Have.Index + 1
		}
	}
	return nil
}

func originConcurrent(s *scene) {
	s.declareCook()
	const each = 11
	var all sync.WaitGroup
	places := make([]map[string]store.Pos, 3)
	for i := range places {
		places[i] = map[string]store.Pos{}
		st := s.store
		if i > 0 {
			st = s.open()
		}
		all.Go(func() {
			for n := range each {
				word := fmt.Sprint((n*(2*i+1) + i) % each) // each in another order
				m := s.foreign(cook, word)
				c := arrival(fmt.Sprint("lane", i), fmt.Sprint("1/", n), fmt.Sprint("1/", n), m)
				if err := errors.Join(st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err); err != nil {
					s.Errorf("Commit(%s beside others) = %v, want nil", word, err)
				}
				places[i][word] = m.Pos
			}
		})
	}
	all.Wait()
	for word, pos := range places[0] {
		if places[1][word] != 0 && places[1][word] != pos || places[2][word] != 0 && places[2][word] != pos {
			s.Errorf("message %s is at %d, %d and %d, want one place", word, pos, places[1][word], places[2][word])
		}
	}
	s.holds(cook, each, 0)
	if st := s.look(cook, 99).Batch; len(st.Deliveries) != each {
		s.Errorf("Claim() = %q, want %d messages", words(st), each)
	}
}

func stateConcurrent(s *scene) {
	const writers, each = 3, 20
	var all sync.WaitGroup
	over := make(chan struct{})
	for i := range writers {
		st := s.store
		if i > 0 {
			st = s.open()
		}
		all.Go(func() {
			for n := range each {
				c := &store.Change{States: []store.State{state("a", int64(1+n*writers+i)), state(fmt.Sprint("w", i, "n", n%5), int64(n+1))}}
				err := error(nil)
				if n%3 == 0 {
					err = s.appendOwn(st, c)
				} else {
					err = errors.Join(st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err)
				}
				if err != nil {
					s.Errorf("writing states beside others: %v, want nil", err)
				}
			}
		})
	}
	told := make(chan map[string]string)
	go func() {
		got, mark := map[string]string{}, ""
		for ended := false; ; {
			select {
			case <-over:
				ended = true
			default:
			}
			news, next, err := s.store.Reader().Exchange().Changes(s.ctx(), guest, mark, 3)
			if err != nil {
				s.Errorf("Changes(%q) beside others = %v, want nil", mark, err)
			}
			if mark = next; ended && len(news) == 0 || err != nil {
				told <- got
				return
			}
			for _, st := range news {
				got[st.Key] = fmt.Sprint(st.Version)
			}
		}
	}()
	all.Wait()
	close(over)
	got, want := <-told, map[string]string{}
	have, err := s.store.Reader().Exchange().States(s.ctx(), store.StateQuery{Entity: guest, Max: store.MaxList})
	if err != nil {
		s.Fatalf("States() = %v, want nil", err)
	}
	for _, st := range have {
		want[st.Key] = fmt.Sprint(st.Version)
	}
	if !maps.Equal(got, want) {
		s.Errorf("who followed Changes beside writers has %v, want %v", got, want)
	}
	if want["a"] != fmt.Sprint(writers*each) || len(want) != 1+5*writers {
		s.Errorf("States() = %v, want a at %d, and %d more", want, writers*each, 5*writers)
	}
	s.entity(guest, 1+5*writers, 0, writers*each)
}

// appendOwn writes a change in a transaction of the caller's own.
func (s *scene) appendOwn(st store.Store, c *store.Change) error {
	own, err := s.h.Begin(s.ctx())
	if err != nil {
		return err
	}
	if err := st.AppendIn(s.ctx(), own.Tx, c); err != nil {
		return errors.Join(err, own.Rollback())
	}
	return own.Commit()
}
