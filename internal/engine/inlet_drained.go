package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// How far the store has a lane is kept until the sender has settled all that: then it is needed no more, for
// nothing of it is sent again. The senders' questions, which a relay repeats while it is idle, tell that; the inlet has it
// noted, and retention deletes the marks of lanes of which that was noted last longer ago than messages are kept. A sender that
// comes back later begins its lane anew, with what it has not settled. What the transport brings late of the
// lane's former life is told by the batch that the sender names in its question: see line.mayBegin.

const (
	// drainedMost is how often it is noted of a lane that it is drained, at most, though nothing comes on it; a
	// lane whose sender is there is so never deleted.
	drainedMost  = time.Hour
	drainedLeast = time.Second
	beginsMost   = store.MaxLanes // unknown lanes of which it is known where they would begin, and senders whose earlier lives are
	earlierMost  = 64             // earlier lives of a sender's that are looked at
	sweepYoung   = time.Minute    // what was written within is not swept: it may be newer than the list of lanes
	crowdedAgain = 10 * time.Minute
)

// drainedPause is for how long what was noted of a lane need not be noted again.
func drainedPause(keep time.Duration) time.Duration {
	return min(max(keep/8, drainedLeast), drainedMost)
}

// asked takes in what a sender says with its question. The caller holds mu.
func (in *inlet) asked(lane transport.Lane, n laneNote, now time.Time) {
	l := in.lines[lane]
	if n.Next > 0 {
		if len(in.begins) >= beginsMost { // anybody may make up names; who is there asks again
			clear(in.begins)
		}
		if l == nil || l.have == (store.Place{}) {
			in.begins[lane] = n.Next
		}
		if l != nil {
			l.begins = n.Next
		}
	}
	if l != nil && !n.Open && l.have.Last && l.have.Batch+1 == n.Next && (l.drained != l.have || now.Sub(l.drainedAt) >= drainedPause(in.x.l.config.Keep)) {
		l.drained, l.drainedAt = l.have, now
		in.note(store.Drained{Lane: lane.String(), Have: l.have})
	}
	if n.Earlier == "" || in.earlierOf[lane.From] == n.Earlier {
		return
	}
	if len(in.earlierOf) >= beginsMost {
		clear(in.earlierOf)
	}
	in.earlierOf[lane.From] = n.Earlier
	over := strings.Fields(n.Earlier)
	over = over[:min(len(over), earlierMost)]
	for other, l := range in.lines {
		if other.From == lane.From && slices.Contains(over, other.Incarnation) && l.have != (store.Place{}) {
			in.note(store.Drained{Lane: other.String(), Over: true})
		}
	}
}

// note has what is said of a lane written soon. What there is no room for is said again. The caller holds mu.
func (in *inlet) note(d store.Drained) {
	if len(in.drained) < store.MaxLanes {
		in.drained = append(in.drained, d)
	}
}

// noteDrained writes what senders have said of their lanes.
func (x *exchange) noteDrained(ctx context.Context) error {
	var changes []*store.Change
	x.mu.Lock()
	for _, in := range x.inlets {
		in.mu.Lock()
		for part := range slices.Chunk(in.drained, store.MaxDrained) {
			changes = append(changes, &store.Change{Drained: slices.Clone(part)})
		}
		in.drained = in.drained[:0]
		in.mu.Unlock()
	}
	x.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	if err := x.l.commit(ctx, changes); err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Err != nil {
			return ch.Err
		}
	}
	return nil
}

// crowded drops what came on a lane for which there is no room: its sender has it, and sends it again. The caller holds mu.
func (k *keeping) crowded(l *line, err *store.LanesError, now time.Time) {
	k.acks = append(k.acks, l.pending...)
	l.pending, l.gap = nil, time.Time{}
	if now.Sub(k.in.crowdedAt) >= crowdedAgain {
		k.in.crowdedAt = now
		k.in.x.l.log.Error("a lane is not taken up, and what it brings waits at its sender", "lane", err.Lane, keyError, err)
	}
}

// sweep forgets in memory, and in what is told of lanes, those that retention or a person has deleted.
func (x *exchange) sweep(ctx context.Context) error {
	now := time.Now()
	x.mu.Lock()
	idle := len(x.inlets) == 0 || now.Sub(x.sweptAt) < drainedPause(x.l.config.Keep)
	x.mu.Unlock()
	if idle {
		return nil
	}
	x.sweptAt = now
	here, err := x.lanesHere(ctx)
	if err != nil {
		return err
	}
	x.mu.Lock()
	for _, in := range x.inlets {
		in.drop(here, now)
	}
	x.mu.Unlock()
	var reports map[string]aged
	err = x.l.patiently(ctx, func(ctx context.Context) (err error) {
		reports, err = readReports(ctx, x.l.st.Reader().Exchange())
		return err
	})
	if err != nil {
		return err
	}
	var gone []store.State
	for key, r := range reports {
		lane, in := strings.CutPrefix(key, inKey)
		if in && !here[lane] && now.Sub(r.at) >= sweepYoung && len(gone) < store.MaxStates {
			delete(x.reported, key)
			gone = append(gone, store.State{Entity: lanesEntity, Key: key, Version: now.UnixMicro(), Contract: 1, AsOf: now, Deleted: true})
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.SortFunc(gone, func(a, b store.State) int { return cmp.Compare(a.Key, b.Key) })
	ch := &store.Change{States: gone}
	if err := x.l.commit(ctx, []*store.Change{ch}); err != nil {
		return err
	}
	return ch.Err
}

// lanesHere are the lanes of which the store knows how far they are.
func (x *exchange) lanesHere(ctx context.Context) (map[string]bool, error) {
	here := map[string]bool{}
	for after := ""; len(here) < arrivalsMost; {
		var rows []store.ArrivalRow
		err := x.l.patiently(ctx, func(ctx context.Context) (err error) {
			rows, err = x.l.st.Reader().Exchange().Arrivals(ctx, after)
			return err
		})
		if err != nil || len(rows) == 0 {
			return here, err
		}
		for i := range rows {
			here[rows[i].Lane] = true
		}
		after = rows[len(rows)-1].Lane
	}
	return here, nil
}

// drop forgets lanes that are not in the store any more. Their senders say anew where they would begin.
func (in *inlet) drop(here map[string]bool, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for lane, l := range in.lines {
		if !l.foreign() && len(l.pending) == 0 && !here[lane.String()] && now.Sub(l.at) >= sweepYoung {
			delete(in.lines, lane)
			delete(in.begins, lane)
		}
	}
}

// answer tells a sender how far lanes are here.
func (in *inlet) answer(ctx context.Context, n transport.Note) {
	var asked []laneNote
	if json.Unmarshal(n.Body, &asked) != nil {
		return
	}
	now := time.Now()
	var lanes []laneNote
	in.mu.Lock()
	for _, a := range asked[:min(len(asked), lanesOfNote)] {
		lane, err := transport.ParseLane(a.Lane)
		if err != nil || lane.From != n.From {
			continue
		}
		in.asked(lane, a, now)
		l := in.lines[lane]
		if l == nil {
			l = &line{lane: lane}
		}
		lanes = append(lanes, noteOf(l))
	}
	in.mu.Unlock()
	in.x.notifyLanes(ctx, in.boundary, n.From, noteAnswer, lanes)
}
