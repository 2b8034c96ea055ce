package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// LaneOut is what one relay sends to a boundary, or leaves waiting.
type LaneOut struct {
	Queue  string // the relay's; see [Settings]
	From   string // the boundary in whose name it sends
	To     string // a boundary, or transport.Everybody
	Topic  string
	Depth  int64     // messages that the receiver does not have, as far as is known here
	Oldest time.Time // when the oldest of them was sent; zero: none
	Dead   int64     // that could not be sent
	// Limit is how many may wait before senders are refused, or, of an event, before the relay is parked. 0: no limit.
	Limit int
	// State is a few words: "sends", "waiting: …" with what for, "parked", "paused", "stopped: …", "not wanted", "idle";
	// "nobody works it" where no process of the store relays.
	State       string
	Unconfirmed int       // of the depth: claimed by the relay, and mostly under way
	ReceiptAt   time.Time // when the receiver last said how far it is; zero: not since the relay began
	ReportedAt  time.Time // when its process last wrote State, Unconfirmed and ReceiptAt; zero: never
}

// LaneIn is how far what another store's relay sends has come here.
type LaneIn struct {
	Lane    string // "floor/k7q2xw/kitchen.prepare-food"; or a boundary here alone, whose inlet cannot be read: State says why
	From    string // the boundary that sends; empty for an inlet
	Batch   int64  // up to this batch of the relay's,
	Index   int    // and this message of it, it is here
	At      time.Time
	Arrived int64 // messages
	Jumps   int64 // how often something was missing that the sender did not have any more
	// DrainedAt is when it was last noted that the sender has settled all that, and is there; zero: not since it came. With
	// nothing new for as long as messages are kept the lane is forgotten: its sender begins it anew, should it come back.
	DrainedAt time.Time
	// Of the process that takes in, since it began; ReportedAt is when it last wrote them, zero: never.
	State      string // "" or "waiting: …", with what for
	Held       int    // read, and not kept yet
	Duplicates int64
	Gaps       int64 // how often something came too early
	ReportedAt time.Time
}

// laneReport is what a process that relays or takes in lets others of its store know, as JSON in a state.
type laneReport struct {
	State       string    `json:"state"`
	Unconfirmed int       `json:"unconfirmed,omitempty"`
	ReceiptAt   time.Time `json:"receipt_at,omitzero"`
	Held        int       `json:"held,omitempty"`
	Duplicates  int64     `json:"duplicates,omitempty"`
	Gaps        int64     `json:"gaps,omitempty"`
}

const (
	// lanesEntity has the reports. It is no contract's name.
	lanesEntity = "weir~lanes"
	outKey      = "out "
	inKey       = "in "
	inletKey    = "inlet "
	reportPause = 2 * time.Second
)

// report writes what is new about the lanes of this process.
func (x *exchange) report(ctx context.Context) error {
	now := time.Now()
	if now.Sub(x.reportedAt) < reportPause {
		return nil
	}
	x.reportedAt = now
	var states []store.State
	for key, r := range x.reports() {
		body, err := json.Marshal(r)
		if err != nil || x.reported[key] == string(body) || len(key) > maxReportKey || len(states) == store.MaxStates {
			continue
		}
		x.reported[key] = string(body)
		states = append(states, store.State{Entity: lanesEntity, Key: key, Version: now.UnixMicro(), Contract: 1, AsOf: now, Body: body})
	}
	if len(states) == 0 {
		return nil
	}
	slices.SortFunc(states, func(a, b store.State) int { return strings.Compare(a.Key, b.Key) })
	ch := &store.Change{States: states}
	if err := x.l.commit(ctx, []*store.Change{ch}); err != nil {
		return err
	}
	return ch.Err
}

// maxReportKey is that of a state's key: of a lane with a longer name there is no report.
const maxReportKey = 512

func (x *exchange) reports() map[string]laneReport {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := map[string]laneReport{}
	for _, r := range x.relays {
		if x.held[r.duty] {
			all[outKey+r.name] = r.report()
		}
	}
	for _, in := range x.inlets {
		in.mu.Lock()
		if in.shut {
			all[inletKey+in.boundary] = laneReport{State: in.state}
		}
		for _, l := range in.lines {
			if !l.foreign() && l.have != (store.Place{}) { // anybody may make up a name
				all[inKey+l.lane.String()] = laneReport{State: l.why, Held: len(l.pending), Duplicates: l.duplicates, Gaps: l.gaps}
			}
		}
		in.mu.Unlock()
	}
	return all
}

func (r *relay) report() laneReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	report := laneReport{State: "sends", Unconfirmed: w.held, ReceiptAt: r.receiptAt.Truncate(reportPause)}
	switch {
	case r.trouble != "":
		report.State = r.trouble
	case !w.heard && r.unasked != nil: // the broker is away, or refuses the login
		report.State = "waiting: " + r.unasked.Error()
	case !w.heard:
		report.State = "waiting: " + r.to + " has not said how far it is"
	case w.held == 0:
		report.State = "idle"
	case w.patience > receiptPatience:
		report.State = "waiting: " + r.to + " does not confirm"
	}
	return report
}

// ReadLanes reads what goes between this store and others: at most store.MaxList lanes each way, by name.
func (e *Engine) ReadLanes(ctx context.Context) (out []LaneOut, in []LaneIn, err error) {
	reader := e.st.Reader()
	reports, err := readReports(ctx, reader.Exchange())
	if err != nil {
		return nil, nil, err
	}
	queues, err := reader.Queues(ctx)
	if err != nil {
		return nil, nil, err
	}
	owners, err := e.owners(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range queues {
		if to := relayTo(&queues[i], owners); to != "" && len(out) < store.MaxList {
			out = append(out, laneOut(&queues[i], to, reports[outKey+queues[i].Name]))
		}
	}
	arrivals, err := reader.Exchange().Arrivals(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	in = shutInlets(owners, reports)
	for _, a := range arrivals {
		l := LaneIn{Lane: a.Lane, Batch: a.Have.Batch, Index: a.Have.Index, At: a.At, Arrived: a.Arrived, Jumps: a.Jumps, DrainedAt: a.DrainedAt}
		if lane, err := transport.ParseLane(a.Lane); err == nil {
			l.From = lane.From
		}
		if s, ok := reports[inKey+a.Lane]; ok {
			l.State, l.Held, l.Duplicates, l.Gaps, l.ReportedAt = s.State, s.Held, s.Duplicates, s.Gaps, s.at
		}
		in = append(in, l)
	}
	return out, in, nil
}

// shutInlets are those that cannot be read: what comes on all lanes of a boundary waits.
func shutInlets(owners map[string]bool, reports map[string]aged) (in []LaneIn) {
	for _, boundary := range slices.Sorted(maps.Keys(owners)) {
		if r := reports[inletKey+boundary]; r.State != "" {
			in = append(in, LaneIn{Lane: boundary, At: r.at, State: r.State, ReportedAt: r.at})
		}
	}
	return in
}

// aged is a report with when it was written.
type aged struct {
	laneReport
	at time.Time
}

func readReports(ctx context.Context, x store.ExchangeReader) (map[string]aged, error) {
	all := map[string]aged{}
	for after := ""; ; {
		page, err := x.States(ctx, store.StateQuery{Entity: lanesEntity, After: after, Max: store.MaxList})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("read what is known of lanes: %w", err)
		}
		for _, s := range page {
			r := aged{at: s.AsOf}
			if json.Unmarshal(s.Body, &r.laneReport) == nil {
				all[s.Key] = r
			}
			after = s.Key
		}
		if len(page) < store.MaxList {
			return all, nil
		}
	}
}

// owners are the boundaries that live in the store: those of this engine, and of processes that worked it lately.
func (e *Engine) owners(ctx context.Context) (map[string]bool, error) {
	owners := map[string]bool{}
	for _, boundary := range e.config.Owns {
		owners[boundary] = true
	}
	processes, err := e.st.Reader().Processes(ctx, 1)
	for i := range processes {
		for _, boundary := range processes[i].Owns {
			owners[boundary] = true
		}
	}
	return owners, err
}

// relayTo is where a queue's relay sends; empty for a queue that is worked here.
func relayTo(s *store.QueueState, owners map[string]bool) string {
	_, to, at := relayed(s.Name)
	switch {
	case at:
		return to
	case s.Topic.Kind == store.KindCommand && len(owners) > 0 && !owners[ownerOf(s.Name)]:
		return ownerOf(s.Name)
	}
	return ""
}

func laneOut(s *store.QueueState, to string, r aged) LaneOut {
	topic, _, at := relayed(s.Name)
	l := LaneOut{
		Queue: s.Name, To: to, Topic: topic, Depth: s.Depth, Oldest: s.Oldest, Dead: s.Dead, Limit: s.Capacity,
		State: r.State, Unconfirmed: r.Unconfirmed, ReceiptAt: r.ReceiptAt, ReportedAt: r.at,
	}
	if at {
		l.From, l.Limit = ownerOf(topic), s.MaxLag
	}
	switch {
	case s.MaxLag == unsubscribed:
		l.State, l.Limit = "not wanted", 0
	case s.Parked:
		l.State = "parked"
	case s.Paused != nil:
		l.State = "paused"
	case r.at.IsZero():
		l.State = "nobody works it"
	}
	return l
}
