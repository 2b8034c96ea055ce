package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// boundaryCmd is weir boundary.
type boundaryCmd struct {
	Ls     boundaryLsCmd     `cmd:"" help:"What goes between this store's boundaries and others: lanes out and in."`
	Forget boundaryForgetCmd `cmd:"" help:"Forget how far a lane is here, whose sender is gone for good."`
}

// laneOutView is a lane out in JSON.
type laneOutView struct {
	Queue       string `json:"queue"`
	To          string `json:"to"` // a boundary; "*": everybody
	Topic       string `json:"topic"`
	Depth       int64  `json:"depth"`       // messages that the receiver does not have
	Unconfirmed int    `json:"unconfirmed"` // of them: under way
	Oldest      *stamp `json:"oldest"`      // when the oldest of them was sent; null: none
	Dead        int64  `json:"dead"`        // that could not be sent
	Limit       int    `json:"limit"`       // depth at which senders are refused, or an event's relay is parked; 0: none
	State       string `json:"state"`
	ReceiptAt   *stamp `json:"receipt_at"`  // null: the receiver has not said yet how far it is
	ReportedAt  *stamp `json:"reported_at"` // when the process that relays last said so; null: never
}

// laneInView is a lane in in JSON.
type laneInView struct {
	Lane       string `json:"lane"`
	From       string `json:"from"`  // empty: Lane is a boundary here whose inlet cannot be read, and State says why
	Batch      int64  `json:"batch"` // up to this batch of the sender's,
	Index      int    `json:"index"` // and this message of it, it is here
	At         stamp  `json:"at"`    // of the last arrival
	Arrived    int64  `json:"arrived"`
	Jumps      int64  `json:"jumps"`      // how often something was missing for good
	Duplicates int64  `json:"duplicates"` // since the process that takes in began
	Gaps       int64  `json:"gaps"`       // how often something came too early, since then
	Held       int    `json:"held"`       // read, and not kept yet
	State      string `json:"state"`
	ReportedAt *stamp `json:"reported_at"`
	DrainedAt  *stamp `json:"drained_at"` // when the sender last said that it has settled all that; null: not since it came
}

func stampOrNull(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

func viewLaneOut(l weir.LaneOut) laneOutView {
	return laneOutView{
		Queue: l.Queue, To: l.To, Topic: l.Topic, Depth: l.Depth, Unconfirmed: l.Unconfirmed, Oldest: stampOrNull(l.Oldest),
		Dead: l.Dead, Limit: l.Limit, State: l.State, ReceiptAt: stampOrNull(l.ReceiptAt), ReportedAt: stampOrNull(l.ReportedAt),
	}
}

func viewLaneIn(l weir.LaneIn) laneInView {
	return laneInView{
		Lane: l.Lane, From: l.From, Batch: l.Batch, Index: l.Index, At: stamp(l.At), Arrived: l.Arrived, Jumps: l.Jumps,
		Duplicates: l.Duplicates, Gaps: l.Gaps, Held: l.Held, State: l.State, ReportedAt: stampOrNull(l.ReportedAt), DrainedAt: stampOrNull(l.DrainedAt),
	}
}

// boundaryLsCmd is weir boundary ls.
type boundaryLsCmd struct{}

// Run lists lanes.
func (c *boundaryLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	out, in, err := e.Lanes(a.ctx)
	if err != nil {
		return err
	}
	view := struct {
		Out []laneOutView `json:"out"`
		In  []laneInView  `json:"in"`
	}{make([]laneOutView, len(out)), make([]laneInView, len(in))}
	for i, l := range out {
		view.Out[i] = viewLaneOut(l)
	}
	for i, l := range in {
		view.In[i] = viewLaneIn(l)
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(out)+len(in) == 0 {
			fmt.Fprintln(w, "Nothing goes between this store and others.")
			return
		}
		now := time.Now()
		laneOutGrid(out, now).write(w)
		if len(in) > 0 {
			fmt.Fprintln(w)
			laneInGrid(in, now).write(w)
		}
	})
}

func laneOutGrid(lanes []weir.LaneOut, now time.Time) *grid {
	g := newGrid("OUT", "TO", ">DEPTH", ">UNDER WAY", ">OLDEST", ">RECEIPT", ">DEAD", "STATE")
	for _, l := range lanes {
		g.row(clip(l.Queue, keyWidth), clip(l.To, keyWidth), thousands(l.Depth), thousands(int64(l.Unconfirmed)),
			ageOrNone(now, l.Oldest), ageOrNone(now, l.ReceiptAt), thousands(l.Dead), clip(l.State, reasonWidth))
	}
	return g
}

func laneInGrid(lanes []weir.LaneIn, now time.Time) *grid {
	g := newGrid("IN", ">UP TO", ">LAST", ">ARRIVED", ">TWICE", ">EARLY", ">LOST", ">HELD", "STATE")
	for _, l := range lanes {
		if l.From == "" {
			g.row(clip(l.Lane, keyWidth), "-", "-", "-", "-", "-", "-", "-", clip(l.State, reasonWidth))
			continue
		}
		g.row(clip(l.Lane, keyWidth), fmt.Sprintf("%d/%d", l.Batch, l.Index), age(now, l.At), thousands(l.Arrived),
			thousands(l.Duplicates), thousands(l.Gaps), thousands(l.Jumps), thousands(int64(l.Held)), clip(l.State, reasonWidth))
	}
	return g
}

func ageOrNone(now, t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return age(now, t)
}

// boundaryForgetCmd is weir boundary forget.
type boundaryForgetCmd struct {
	Lane string `arg:"" help:"The lane, as weir --json boundary ls names it: boundary/incarnation/queue."`
	becauseFlags
}

// boundaryForgetView is a forgotten lane in JSON.
type boundaryForgetView struct {
	Lane string `json:"lane"`
	By   string `json:"by"`
	Why  string `json:"why"`
}

// Run forgets a lane.
func (c *boundaryForgetCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.ForgetLane(a.ctx, c.Lane, c.because()); err != nil {
		return err
	}
	return a.print(boundaryForgetView{c.Lane, c.By, c.Why}, func(w *tabwriter.Writer) {
		writeWrapped(w, "", "Forgotten: lane "+safe(c.Lane)+". Should its sender come back, it begins the lane anew, with what it has not settled.")
	})
}
