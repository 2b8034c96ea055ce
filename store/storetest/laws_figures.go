package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

func figureLaws() []Law {
	return []Law{
		{"figures/counted", "Sent, done and died are counted from the store: what any process sent is in them, what was refused is not.", figuresCounted},
		{"figures/merged", "Figures of several commits of one minute are added up, and minutes are apart.", figuresMerged},
		{"figures/reopened", "Figures are true after crashes and restarts: nothing is counted twice, nothing is lost.", figuresReopened},
		{"figures/since", "Figures are listed from the minute asked for, by queue and minute.", figuresSince},
		{"figures/histogram", "Histograms come back as they were measured.", figuresHistogram},
	}
}

// figures commits a measurement of nothing, which takes in what the store itself
// has counted up to now, and wants a queue's minutes to add up to the counts.
func (s *scene) figures(queue string, want store.FigureMinute) {
	s.Helper()
	s.group(&store.Group{Figures: []store.FigureDelta{{Queue: s.ids[queue]}}})
	var sum store.FigureMinute
	for _, m := range s.minutes(queue, time.Time{}) {
		sum.Sent += m.Sent
		sum.Done += m.Done
		sum.Died += m.Died
		sum.Failed += m.Failed
		sum.Rejected += m.Rejected
	}
	if sum.Sent != want.Sent || sum.Done != want.Done || sum.Died != want.Died || sum.Failed != want.Failed || sum.Rejected != want.Rejected {
		s.Errorf("Figures() of %s = %d sent, %d done, %d died, %d failed, %d rejected, want %d, %d, %d, %d, %d", queue,
			sum.Sent, sum.Done, sum.Died, sum.Failed, sum.Rejected, want.Sent, want.Done, want.Died, want.Failed, want.Rejected)
	}
}

func (s *scene) minutes(queue string, since time.Time) []store.FigureMinute {
	s.Helper()
	all, err := s.store.Reader().Figures(s.ctx(), since)
	if err != nil {
		s.Fatalf("Figures(%s) = %v, want nil", since, err)
	}
	var of []store.FigureMinute
	for i, m := range all {
		if i > 0 && (all[i-1].Queue > m.Queue || all[i-1].Queue == m.Queue && !all[i-1].Minute.Before(m.Minute)) {
			s.Errorf("Figures(): minute %d is not after the one before, want them by queue and minute", i)
		}
		if m.Queue == s.ids[queue] {
			of = append(of, m)
		}
	}
	return of
}

func figuresCounted(s *scene) {
	s.send(cook, "0")
	s.declare(store.Queue{Name: cook, Capacity: 5}, subscriber(waiter))
	s.send(cook, "1 2 3")
	if err := s.open().Commit(s.ctx(), &store.Group{Changes: []*store.Change{{Sends: messages(cook, "4")}}}); err != nil {
		s.Fatalf("Commit by another process = %v, want nil", err)
	}
	s.full(cook, 5, 5, outside(cook, "5"))
	s.send(ready, "1")
	b := s.claim(cook, 9, "0 1 2 3 4")
	s.done(b, "0 1")
	s.refuse(change(s.settle(b, "1", store.Done)), store.ErrFenced)
	s.fail(b, "2", store.Dead)
	s.fail(b, "3", store.Retry)
	s.fail(b, "4", store.Discarded)
	s.figures(cook, store.FigureMinute{Sent: 5, Done: 2, Died: 1})
	s.figures(waiter, store.FigureMinute{Sent: 1})
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "2 3")
	s.done(b, "3")
	s.fail(b, "2", store.Dead)
	s.figures(cook, store.FigureMinute{Sent: 5, Done: 3, Died: 2})
}

func figuresMerged(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	for i := range 6 {
		s.group(&store.Group{Figures: []store.FigureDelta{
			{Queue: s.ids[cook], Failed: 2, Rejected: int64(i)}, {Queue: s.ids[serve], Failed: 1},
		}})
		s.clock.move(20 * time.Second)
	}
	got := s.minutes(cook, time.Time{})
	if len(got) != 2 || got[0].Failed != 6 || got[1].Failed != 6 || got[0].Rejected != 3 || got[1].Rejected != 12 ||
		got[1].Minute.Sub(got[0].Minute) != time.Minute || !got[0].Minute.Equal(got[0].Minute.Truncate(time.Minute)) {
		s.Errorf("Figures() of two minutes = %d minutes, want 6 failed in each, 3 and 12 rejected", len(got))
	}
	s.figures(serve, store.FigureMinute{FigureDelta: store.FigureDelta{Failed: 6}})
}

func figuresReopened(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	s.done(s.claim(cook, 1, "1"), "1")
	s.figures(cook, store.FigureMinute{Sent: 3, Done: 1})
	s.crash()
	s.figures(cook, store.FigureMinute{Sent: 3, Done: 1})
	b := s.claim(cook, 9, "2 3")
	s.fail(b, "2", store.Dead)
	s.crash() // before it was measured
	s.send(cook, "4")
	s.clock.move(time.Hour)
	s.figures(cook, store.FigureMinute{Sent: 4, Done: 1, Died: 1})
	s.drain(cook, 9, "3 4")
	s.clock.move(10 * time.Minute)
	s.prune(store.Retention{Keep: 24 * time.Hour})
	s.restart()
	s.figures(cook, store.FigureMinute{Sent: 4, Done: 3, Died: 1})
}

func figuresSince(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	began := s.clock.Now().Truncate(time.Minute)
	for range 4 {
		s.group(&store.Group{Figures: []store.FigureDelta{{Queue: s.ids[serve], Failed: 1}, {Queue: s.ids[cook], Failed: 1}}})
		s.clock.move(time.Minute)
	}
	if got := s.minutes(cook, began.Add(2*time.Minute)); len(got) != 2 || !got[0].Minute.Equal(began.Add(2*time.Minute)) {
		s.Errorf("Figures(since the third minute of four) = %d minutes, want 2", len(got))
	}
	if got := s.minutes(serve, began.Add(time.Hour)); len(got) != 0 {
		s.Errorf("Figures(since later) = %d minutes, want 0", len(got))
	}
}

func figuresHistogram(s *scene) {
	s.declareCook()
	var want store.FigureDelta
	for i := range 3 {
		d := store.FigureDelta{Queue: s.ids[cook]}
		for _, h := range []struct{ part, all *store.Histogram }{{&d.Wait, &want.Wait}, {&d.Work, &want.Work}, {&d.Lead, &want.Lead}} {
			h.part.Add(time.Duration(i+1) * time.Millisecond)
			h.part.Add(time.Duration(i) * time.Hour)
			h.all.Merge(h.part)
		}
		d.Work.Add(time.Second)
		want.Work.Add(time.Second)
		s.group(&store.Group{Figures: []store.FigureDelta{d}})
	}
	s.crash()
	got := s.minutes(cook, time.Time{})
	if len(got) != 1 || got[0].Wait != want.Wait || got[0].Work != want.Work || got[0].Lead != want.Lead {
		s.Errorf("Figures() = %d minutes, want 1 with the measured histograms", len(got))
	}
}
