package engine

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// feed keeps memory up with the store, as a member of the crew.
func (f *Following) feed(ctx context.Context, l *life) error {
	up := func(bool) error { return ignoreStop(ctx, l.patiently(ctx, f.catchUp)) }
	if err := up(true); err != nil {
		return err
	}
	return every(ctx, l.intervals.Poll, f.prod, up)
}

// look tells the feeder that the store may have something new.
func (f *Following) look() {
	select {
	case f.prod <- struct{}{}:
	default:
	}
}

// catchUp puts into memory what the store has and memory has not.
func (f *Following) catchUp(ctx context.Context) error {
	inc := f.e.st.Info().Incarnation
	f.mu.Lock()
	mark, was := f.mark, f.markOf
	f.mu.Unlock()
	if was != inc {
		mark = ""
	}
	if was != "" && was != inc && f.by == "" { // the store was restored beneath us
		if err := f.remind(ctx); err != nil {
			return err
		}
	}
	if was == "" { // before the changes: what they tell of is at least that
		if err := f.recallFresh(ctx); err != nil {
			return err
		}
	}
	var began time.Time
	for more := true; more; {
		began = time.Now()
		states, next, err := f.exchange().Changes(ctx, f.entity, mark, store.MaxList)
		if err != nil {
			return err
		}
		f.memory.Put(states)
		mark, more = next, len(states) == store.MaxList
	}
	f.mu.Lock()
	f.mark, f.markOf = mark, inc
	p, read := f.progress, f.by != "" && (!f.progress.Loaded || began.Sub(f.progressAt) >= pollInterval)
	f.mu.Unlock()
	if read {
		var err error
		if p, _, err = f.readProgress(ctx); err != nil {
			return err
		}
	}
	f.mu.Lock()
	if read {
		f.progress, f.progressAt = p, began
	}
	if f.by == "" {
		f.freshAt = began
	} else {
		f.compare(began)
	}
	f.mu.Unlock()
	if f.by == "" || p.Loaded {
		f.loaded.Store(true)
	}
	f.met()
	return nil
}

// compare tells memory from what the owner said last. The caller holds f.mu.
func (f *Following) compare(now time.Time) {
	switch {
	case f.heardAt.IsZero():
	case f.progress.lacks(f.beat.Newest, f.memory.Newest()):
		if f.lacking.IsZero() {
			f.lacking = now
		}
	default:
		f.lacking = time.Time{}
		if f.progress.Loaded && f.heardAt.After(f.freshAt) {
			f.freshAt = f.heardAt
		}
	}
}

// heard takes in what the owner says of how far it is.
func (f *Following) heard(b beat) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Newest > f.beat.Newest || b.Incarnation != f.beat.Incarnation {
		f.lacking = time.Time{} // it is another one that may be missing now
	}
	f.beat, f.heardAt = b, now
	f.compare(now)
}

// sight is what there is to decide on.
func (f *Following) sight(now time.Time, wish, jumps int64) sight {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sight{
		now: now, own: f.e.st.Info().Incarnation, jumps: jumps, wish: wish, interval: f.e.intervals.Beat,
		heardAt: f.heardAt, beat: f.beat, lacking: f.lacking,
	}
}

// replicas has each fed, and those of other stores' entities followed.
func (l *life) replicas(member func(name string, run func(context.Context) error)) {
	if len(l.owned) > 0 && l.config.Exchange.Transport != nil {
		member("owner", l.tellFollowers)
	}
	all := l.following.Load()
	if all == nil {
		return
	}
	for name, f := range *all {
		member("replica of "+name, func(ctx context.Context) error { return f.feed(ctx, l) })
		if f.by != "" {
			member("questions about "+name, func(ctx context.Context) error { return f.asker(ctx, l) })
		}
	}
	member("followers", l.followers)
}

// hearBeats takes a note of an owner's.
func (e *Engine) hearBeats(to, from string, body []byte) {
	all := e.following.Load()
	var told []beat
	if all == nil || json.Unmarshal(body, &told) != nil {
		return
	}
	for _, b := range told {
		if f := (*all)[b.Entity]; f != nil && f.by == to && ownerOf(b.Entity) == from {
			f.heard(b)
		}
	}
}

// lookForStates has all replicas look: there may be something new.
func (l *life) lookForStates() {
	if all := l.following.Load(); all != nil {
		for _, f := range *all {
			f.look()
		}
	}
}

const dutyReplica = "replica "

// followers begins snapshots where they are due, as a member of the crew: one process of a store for each entity.
func (l *life) followers(ctx context.Context) error {
	all := l.following.Load()
	look := func(bool) error {
		return ignoreStop(ctx, l.patiently(ctx, func(ctx context.Context) error { return l.follow(ctx, *all) }))
	}
	if err := look(true); err != nil {
		return err
	}
	return every(ctx, l.intervals.Beat, l.wished, look)
}

func (l *life) follow(ctx context.Context, all map[string]*Following) error {
	r := store.ClaimRequest{}
	for name, f := range all {
		f.tidy(time.Now())
		if f.by != "" {
			r.Duties = append(r.Duties, dutyReplica+name)
		}
	}
	if len(r.Duties) == 0 {
		return nil
	}
	ours, err := l.st.Claim(ctx, r)
	if err != nil {
		return err
	}
	for _, duty := range ours.Duties {
		f := all[strings.TrimPrefix(duty, dutyReplica)]
		if err := errors.Join(f.keepFresh(ctx), f.beginIfDue(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// freshBeats is after how many beats of the owner the store has anew when this replica was equal with it.
const freshBeats = 3

// keepFresh has the store know when it was last known to have all that the owner had: a process that starts while the owner is
// away knows nothing else of that.
func (f *Following) keepFresh(ctx context.Context) error {
	f.mu.Lock()
	at, kept, p := f.freshAt, f.freshKept, f.progress
	f.mu.Unlock()
	// A store that was restored has less than memory, until a snapshot is complete.
	whole := p.Done && p.Own == f.e.st.Info().Incarnation && at.After(p.PageAt)
	if !whole || at.Sub(kept) < freshBeats*f.e.intervals.Beat {
		return nil
	}
	s := store.State{Entity: f.entity + followerSuffix, Key: freshKey, Version: at.UnixMicro(), Contract: 1, AsOf: at, Body: []byte("{}")}
	if err := f.e.commits.commitOne(ctx, &store.Change{States: []store.State{s}}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freshKept = at
	return nil
}

// recallFresh reads what keepFresh wrote. A time that is not over, by this machine's clock, tells nothing.
func (f *Following) recallFresh(ctx context.Context) error {
	if f.by == "" {
		return nil
	}
	s, err := f.exchange().State(ctx, f.entity+followerSuffix, freshKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.AsOf.Before(time.Now()) && f.freshAt.Before(s.AsOf) {
		f.freshAt, f.freshKept = s.AsOf, s.AsOf
	}
	return nil
}

// tidy forgets what is of no use any more.
func (f *Following) tidy(now time.Time) {
	f.memory.Forget(now.Add(-f.e.config.Keep - time.Minute))
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.fetching, func(_ string, since time.Time) bool { return now.Sub(since) >= fetchMax })
}

// beginIfDue begins a snapshot if there is a reason to.
func (f *Following) beginIfDue(ctx context.Context) error {
	p, version, err := f.readProgress(ctx)
	if err != nil {
		return err
	}
	wish, err := f.exchange().State(ctx, f.entity+followerSuffix, wishKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	jumps, err := f.jumps(ctx)
	if err != nil {
		return err
	}
	s := f.sight(time.Now(), wish.Version, jumps)
	why := p.resync(s)
	if why == "" {
		return nil
	}
	p.begin(f.nonce(), why, s)
	m, err := f.ask(&ask{Snapshot: p.Snapshot}, snapshotKey)
	if err != nil {
		return err
	}
	err = f.e.Send(ctx, []*store.Message{m}, []store.State{p.state(f.entity, version+1)})
	if full, ok := errors.AsType[*store.FullError](err); ok {
		f.e.log.Warn("replica: snapshot not asked for yet", keyEntity, f.entity, "why", why, keyError, full)
		return nil
	}
	if err == nil {
		f.e.log.Info("replica: snapshot begins", keyEntity, f.entity, "why", why, "times", p.Times)
		f.mu.Lock()
		f.progress, f.lacking = p, time.Time{}
		f.mu.Unlock()
	}
	return err
}

// jumps counts what was missing for good on the lanes that events of the entity came by.
func (f *Following) jumps(ctx context.Context) (n int64, err error) {
	suffix := "/" + f.entity + "@" + f.by
	for after := ""; ; {
		rows, err := f.exchange().Arrivals(ctx, after)
		if err != nil {
			return 0, err
		}
		for _, r := range rows {
			if after = r.Lane; strings.HasSuffix(r.Lane, suffix) {
				n += r.Jumps
			}
		}
		if len(rows) < store.MaxList {
			return n, nil
		}
	}
}

// Resync begins a snapshot, though there be no reason to: soon, in whatever process has that duty.
func (f *Following) Resync(ctx context.Context) error {
	if f.by == "" {
		f.mu.Lock()
		f.mark = ""
		f.mu.Unlock()
		f.look()
		return nil
	}
	if err := f.e.WishResync(ctx, f.entity, []byte(`{"By":"program","Why":"Replica.Resync"}`)); err != nil {
		return err
	}
	if l := f.e.life.Load(); l != nil {
		select {
		case l.wished <- struct{}{}:
		default:
		}
	}
	return nil
}

// WishResync records that a program wants a snapshot; note is kept with it, as JSON.
func (e *Engine) WishResync(ctx context.Context, entity string, note []byte) error {
	return e.commits.commitOne(ctx, &store.Change{States: []store.State{wishOf(entity, note)}})
}

// wishOf is the state of a wish for a snapshot, made now.
func wishOf(entity string, note []byte) store.State {
	now := time.Now()
	return store.State{Entity: entity + followerSuffix, Key: wishKey, Version: now.UnixMicro(), Contract: 1, AsOf: now, Body: note}
}
