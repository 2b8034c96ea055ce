package main

import (
	"time"

	weir "github.com/weir-go/weir"
)

// queueCmd is weir queue.
type queueCmd struct {
	Ls     queueLsCmd     `cmd:"" help:"All queues with their depth, rates and times."`
	Show   queueShowCmd   `cmd:"" help:"One queue with everything there is to say about it."`
	Pause  queuePauseCmd  `cmd:"" help:"Stop handing out a queue's messages until it is resumed. Senders go on until it is full."`
	Resume queueResumeCmd `cmd:"" help:"Let a paused or parked queue go on."`
}

// queueView is a queue in JSON.
type queueView struct {
	Name     string `json:"name"`
	Topic    string `json:"topic"` // what it gets: its own name, or the event subscribed to
	Kind     string `json:"kind"`
	Depth    int64  `json:"depth"`
	Capacity int    `json:"capacity"` // 0: unbounded
	// Fill is the share of the capacity in use; null when unbounded.
	Fill     *float64 `json:"fill"`
	Leased   int64    `json:"leased"`
	Deferred int64    `json:"deferred"`
	Dead     int64    `json:"dead"`
	OldestAt stamp    `json:"oldest_at"`
	Oldest   *millis  `json:"oldest_ms"`

	Window        millis  `json:"window_ms"` // what all figures below cover
	Sent          int64   `json:"sent"`
	Done          int64   `json:"done"`
	Died          int64   `json:"died"`
	Failed        int64   `json:"failed"`
	Rejected      int64   `json:"rejected"`
	SentPerSecond float64 `json:"sent_per_s"`
	DonePerSecond float64 `json:"done_per_s"`
	Drains        *millis `json:"drains_ms"` // null: never at these rates
	WaitP50       millis  `json:"wait_p50_ms"`
	WaitP99       millis  `json:"wait_p99_ms"`
	WorkP50       millis  `json:"work_p50_ms"`
	WorkP99       millis  `json:"work_p99_ms"`
	LeadP50       millis  `json:"lead_p50_ms"`
	LeadP99       millis  `json:"lead_p99_ms"`

	Paused   *pauseView `json:"paused"` // null: running
	Parked   bool       `json:"parked"`
	Gaps     int64      `json:"gaps"`
	OnDead   string     `json:"on_dead"`
	Required bool       `json:"required"`
	MaxLag   int        `json:"max_lag"` // 0: none
}

// pauseView is who stopped a queue, when and why.
type pauseView struct {
	At  stamp  `json:"at"`
	By  string `json:"by"`
	Why string `json:"why"`
}

func viewQueue(q weir.QueueFigures, now time.Time) queueView {
	v := queueView{
		Name: q.Name, Topic: q.Topic.Name, Kind: q.Topic.Kind.String(),
		Depth: q.Depth, Capacity: q.Capacity, Leased: q.Leased, Deferred: q.Deferred, Dead: q.Dead,
		OldestAt: stamp(q.Oldest), Oldest: millisIf(!q.Oldest.IsZero(), max(now.Sub(q.Oldest), 0)),
		Window: millis(q.Window), Sent: q.Sent, Done: q.Done, Died: q.Died, Failed: q.Failed, Rejected: q.Rejected,
		SentPerSecond: rounded(q.SentPerSecond), DonePerSecond: rounded(q.DonePerSecond), Drains: millisIf(q.Drains >= 0, q.Drains),
		WaitP50: millis(q.Wait.P50), WaitP99: millis(q.Wait.P99),
		WorkP50: millis(q.Work.P50), WorkP99: millis(q.Work.P99),
		LeadP50: millis(q.Lead.P50), LeadP99: millis(q.Lead.P99),
		Parked: q.Parked, Gaps: q.Gaps, OnDead: q.OnDead.String(), Required: q.Required, MaxLag: q.MaxLag,
	}
	if q.Capacity > 0 {
		fill := rounded(fillOf(q))
		v.Fill = &fill
	}
	if p := q.Paused; p != nil {
		v.Paused = &pauseView{At: stamp(p.At), By: p.By, Why: p.Why}
	}
	return v
}

func viewQueues(queues []weir.QueueFigures, now time.Time) []queueView {
	views := make([]queueView, len(queues))
	for i, q := range queues {
		views[i] = viewQueue(q, now)
	}
	return views
}

func fillOf(q weir.QueueFigures) float64 { return float64(q.Depth) / float64(q.Capacity) }

// full says whether the queue refuses sends from outside.
func full(q weir.QueueFigures) bool { return q.Capacity > 0 && q.Depth >= int64(q.Capacity) }
