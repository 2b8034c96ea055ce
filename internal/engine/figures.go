package engine

import (
	"context"
	"time"

	"github.com/weir-go/weir/store"
)

// count adds a settled attempt to the queue's figures. The caller holds mu.
func (q *queue) count(a *Attempt, now time.Time) {
	s := &a.settle[0]
	f := &q.figure
	if s.Verdict == store.Retry || s.Verdict == store.Dead {
		f.Failed++
	}
	if s.Started.IsZero() {
		return
	}
	f.Work.Add(s.Took)
	if a.Number == 1 {
		f.Wait.Add(s.Started.Sub(waitsSince(a.Message)))
	}
	if s.Verdict == store.Done {
		q.done++
		f.Lead.Add(now.Sub(a.Message.SentAt))
	}
}

// waitsSince is when a message could first be worked.
func waitsSince(m *store.Message) time.Time {
	if m.Due.After(m.SentAt) {
		return m.Due
	}
	return m.SentAt
}

// figuresInterval is how often figures are written: what a crash may lose of the
// times and failures. Sent, done and dead are counted in the store itself.
const figuresInterval = time.Second

// figures writes what was measured until ctx is done, and once more at the end.
func (l *life) figures(ctx context.Context) error {
	tick := time.NewTicker(l.intervals.Figures)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := l.flushFigures(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func (l *life) flushFigures(ctx context.Context) error {
	g := store.Group{Figures: make([]store.FigureDelta, 0, len(l.queues))}
	for _, q := range l.queues {
		rejected := l.takeRejected(q.settings.Queue.Name)
		q.mu.Lock()
		q.figure.Queue = q.id
		q.figure.Rejected += rejected
		g.Figures = append(g.Figures, q.figure)
		q.figure = store.FigureDelta{}
		q.mu.Unlock()
	}
	g.Figures = append(g.Figures, l.exchange.figures()...)
	return l.patiently(ctx, func(ctx context.Context) error { return l.st.Commit(ctx, &g) })
}

// Times are the quantiles of one duration.
type Times struct{ P50, P99 time.Duration }

func times(h *store.Histogram) Times { return Times{h.Quantile(0.5), h.Quantile(0.99)} }

// QueueFigures is a queue's state with its rates and times over a window.
type QueueFigures struct {
	store.QueueState
	Window        time.Duration // what the figures cover
	SentPerSecond float64
	DonePerSecond float64
	Sent, Done    int64
	Died          int64 // deaths
	Failed        int64 // attempts that ended with an error
	Rejected      int64 // sends refused for want of room
	Wait          Times // time in queue: from the send, or its due time, to the first start
	Work          Times // processing time of one attempt
	Lead          Times // from the send to done
	// Drains is how long until the queue is empty at these rates; negative: never.
	Drains time.Duration
}

// ReadFigures reads all queues with their figures of the last window.
func ReadFigures(ctx context.Context, r store.Reader, window time.Duration) ([]QueueFigures, error) {
	states, err := r.Queues(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	since := now.Add(-window).Truncate(time.Minute)
	minutes, err := r.Figures(ctx, since)
	if err != nil {
		return nil, err
	}
	processes, err := r.Processes(ctx, processesMax)
	if err != nil {
		return nil, err
	}
	all := make([]QueueFigures, len(states))
	for i, s := range states {
		all[i] = summarise(s, minutes, span{since: since, now: now, began: earliest(processes)})
	}
	return all, nil
}

// processesMax bounds how many starts are looked at.
const processesMax = 100

// earliest is when the oldest of some processes started; zero for none.
func earliest(processes []store.Process) time.Time {
	var first time.Time
	for i := range processes {
		if at := processes[i].StartedAt; first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// span is what figures are asked of: since until now, on a store that nobody worked before began.
type span struct{ since, now, began time.Time }

// covered is the part of the span in which something could be counted, the minutes
// with figures beginning with first: a rate is per second of that.
func (s span) covered(first time.Time) time.Duration {
	if s.began.After(first) {
		first = s.began
	}
	return max(s.now.Sub(first), time.Second)
}

// summarise adds up a queue's minutes. It does no I/O.
func summarise(s store.QueueState, minutes []store.FigureMinute, asked span) QueueFigures {
	f := QueueFigures{QueueState: s, Window: asked.now.Sub(asked.since)}
	var sum store.FigureDelta
	first := asked.now
	for i := range minutes {
		m := &minutes[i]
		if m.Queue != s.ID {
			continue
		}
		if m.Minute.Before(first) {
			first = m.Minute
		}
		f.Sent += m.Sent
		f.Done += m.Done
		f.Died += m.Died
		sum.Failed += m.Failed
		sum.Rejected += m.Rejected
		sum.Wait.Merge(&m.Wait)
		sum.Work.Merge(&m.Work)
		sum.Lead.Merge(&m.Lead)
	}
	f.Failed, f.Rejected = sum.Failed, sum.Rejected
	f.Wait, f.Work, f.Lead = times(&sum.Wait), times(&sum.Work), times(&sum.Lead)
	covered := asked.covered(first).Seconds()
	f.SentPerSecond, f.DonePerSecond = float64(f.Sent)/covered, float64(f.Done)/covered
	f.Drains = drains(s.Depth, f.DonePerSecond-f.SentPerSecond)
	return f
}

// drains is how long a depth lasts at a net outflow per second; negative: for ever.
func drains(depth int64, outflow float64) time.Duration {
	switch {
	case depth == 0:
		return 0
	case outflow <= 0 || float64(depth)/outflow > (100*365*24*time.Hour).Seconds():
		return -1
	}
	return time.Duration(float64(depth) / outflow * float64(time.Second))
}
