package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// arrived is a change as it comes on a lane: so many messages, from one place to another.
func arrived(lane string, batch int64, count int) *store.Change {
	ch := &store.Change{Outside: true, Arrival: &store.Arrival{Lane: lane,
		From: store.Place{Batch: batch, Last: count == 1}, To: store.Place{Batch: batch, Index: count - 1, Last: true}}}
	for i := range count {
		ch.Sends = append(ch.Sends, &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Key: strconv.Itoa(i % 3), Body: []byte("x"),
			Origin: &store.Origin{ID: fmt.Sprintf("%s-%d-%d", lane, batch, i), From: "floor", SentAt: time.Now()}})
	}
	return ch
}

// proveArrivals has two processes commit the same arrivals at once, on lanes that are new and on lanes that
// are not: one of them has it, the other is told that it is there.
func proveArrivals(t testing.TB, spoil func(*Store)) {
	_, stores, _ := twins(t, spoil)
	const rounds, each = 40, 3
	for round := range rounds {
		lane, batch := fmt.Sprintf("floor/k7q2xw/%d", round/4), int64(round%4+1)
		changes := [2]*store.Change{arrived(lane, batch, each), arrived(lane, batch, each)}
		if (round+round/4)%2 == 1 { // all of them tombstones: there are no origins to tell that they are the same
			changes[0].Sends, changes[1].Sends = nil, nil
		}
		var both sync.WaitGroup
		for i, ch := range changes {
			both.Go(func() {
				if err := stores[i].Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}); err != nil {
					t.Errorf("Commit(arrival at once) = %v, want nil", err)
				}
			})
		}
		both.Wait()
		first, second := changes[0].Err, changes[1].Err
		if first != nil {
			first, second = second, first
		}
		misplaced, ok := errors.AsType[*store.MisplacedError](second)
		if first != nil || !ok || misplaced.Have != changes[0].Arrival.To {
			t.Errorf("round %d: Commit(the same arrival, twice at once): Err = %v and %v, want nil and a MisplacedError that has it", round, changes[0].Err, changes[1].Err)
		}
	}
	rows, err := stores[0].Reader().Exchange().Arrivals(t.Context(), "")
	if err != nil || len(rows) != rounds/4 {
		t.Fatalf("Arrivals() = %d lanes, %v, want %d", len(rows), err, rounds/4)
	}
	for _, r := range rows {
		if r.Arrived != 2*each || r.Jumps != 0 || r.Have.Batch != 4 {
			t.Errorf("Arrivals(): %+v, want %d messages, up to batch 4", r, 2*each)
		}
	}
	list, err := stores[0].Reader().Messages(t.Context(), store.MessageQuery{Topic: "a.cook", Max: store.MaxList})
	if err != nil || len(list) != rounds/2*each {
		t.Errorf("Messages() = %d, %v, want %d: each arrival once", len(list), err, rounds/2*each)
	}
}

// proveOrigins has two processes commit the same messages at once, by different lanes: as an event comes that
// two boundaries of this store subscribe to. Each is here once.
func proveOrigins(t testing.TB, spoil func(*Store)) {
	_, stores, _ := twins(t, spoil)
	const rounds, each = 30, 5
	for round := range rounds {
		var both sync.WaitGroup
		var changes [2]*store.Change
		for i := range changes {
			changes[i] = arrived(fmt.Sprintf("floor/k7q2xw/%d", i), int64(round+1), each)
			for n, m := range changes[i].Sends {
				m.Origin.ID = fmt.Sprintf("k7q2xw-%d", round*each+n)
			}
			both.Go(func() {
				if err := commitOne(t.Context(), stores[i], changes[i]); err != nil {
					t.Errorf("Commit(the same messages by two lanes) = %v, want nil", err)
				}
			})
		}
		both.Wait()
		for n := range each {
			if a, b := changes[0].Sends[n], changes[1].Sends[n]; a.Pos != b.Pos || a.ID != b.ID || a.Stamp != b.Stamp {
				t.Errorf("message %s is at %d and at %d, want one place", a.ID, a.Pos, b.Pos)
			}
		}
	}
	list, err := stores[0].Reader().Messages(t.Context(), store.MessageQuery{Topic: "a.cook", Max: store.MaxList})
	if err != nil || len(list) != rounds*each {
		t.Errorf("Messages() = %d, %v, want %d: each once", len(list), err, rounds*each)
	}
}

const stateEntity = "customers.customer"

// put is a change that tells of a new state, as its owner makes it; but for the message's key, so that nothing keeps
// writers of a state apart.
func put(key string, body string) *store.Change {
	m := &store.Message{Topic: stateEntity, Kind: store.KindEvent, Version: 1, Body: []byte(body)}
	return &store.Change{Sends: []*store.Message{m}, States: []store.State{{Entity: stateEntity, Key: key, Of: m, Contract: 1, Body: m.Body}}}
}

// proveStates has eight writers put states of a few keys, in two processes and in transactions of callers, and a
// follower read what changes, a page at a time: the newest states stay, and none is missed.
func proveStates(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	const writers, puts, keys = 8, 30, 5
	var mu sync.Mutex
	newest := map[string]store.State{}
	note := func(st store.State) {
		mu.Lock()
		defer mu.Unlock()
		if st.Version > newest[st.Key].Version {
			newest[st.Key] = st
		}
	}
	var working sync.WaitGroup
	for w := range writers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for n := range puts {
				ch := put(fmt.Sprint("key ", random.IntN(keys)), fmt.Sprint(w, " ", n))
				if err := putBy(t.Context(), h, stores[w%2], ch, w%4 == 0); err != nil {
					t.Errorf("put a state = %v, want nil", err)
					return
				}
				note(ch.States[0])
			}
		})
	}
	over := make(chan struct{})
	go func() {
		working.Wait()
		close(over)
	}()
	followed := follow(t, stores[0], over)
	for key, want := range newest {
		got, err := stores[1].Reader().Exchange().State(t.Context(), stateEntity, key)
		if err != nil || got.Version != want.Version || string(got.Body) != string(want.Body) || !got.AsOf.Equal(want.AsOf) {
			t.Errorf("State(%s) = version %d, %q, %v, want version %d, %q", key, got.Version, got.Body, err, want.Version, want.Body)
		}
		if followed[key].Version != want.Version {
			t.Errorf("Changes() ended with version %d of %s, want %d", followed[key].Version, key, want.Version)
		}
	}
}

// putBy commits a change, or appends it in a transaction that stays open for a while.
func putBy(ctx context.Context, h *harness, s *Store, ch *store.Change, own bool) error {
	if !own {
		return commitOne(ctx, s, ch)
	}
	return pgx.BeginFunc(ctx, h.db, func(tx pgx.Tx) error {
		if err := s.AppendIn(ctx, Tx(tx), ch); err != nil {
			return err
		}
		pauseFor(rand.IntN(10))
		return nil
	})
}

// follow reads changes until there are none, after it is over: the newest of each key.
func follow(t testing.TB, s *Store, over <-chan struct{}) map[string]store.State {
	t.Helper()
	seen, mark := map[string]store.State{}, ""
	for last := false; ; {
		states, next, err := s.Reader().Exchange().Changes(t.Context(), stateEntity, mark, 2)
		if err != nil {
			t.Fatalf("Changes(%q) = %v, want nil", mark, err)
		}
		mark = next
		for _, st := range states {
			if st.Version > seen[st.Key].Version {
				seen[st.Key] = st
			}
		}
		if len(states) > 0 {
			continue
		}
		if last {
			return seen
		}
		select {
		case <-over:
			last = true
		default:
		}
	}
}

// proveLate has a state written by a transaction that commits after later ones, and after a follower has read those.
func proveLate(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	l := &life{TB: t, h: h, s: stores[0]}
	read := stores[1].Reader().Exchange()
	mark := ""
	want := func(when, keys string) {
		t.Helper()
		var got string
		for range 9 {
			states, next, err := read.Changes(t.Context(), stateEntity, mark, 1)
			if err != nil {
				t.Fatalf("%s: Changes() = %v, want nil", when, err)
			}
			mark = next
			if len(states) == 0 {
				break
			}
			got += states[0].Key
		}
		if got != keys {
			t.Errorf("%s: Changes() = %q, want %q", when, got, keys)
		}
	}
	late := l.open(put("a", "late"))
	for _, key := range []string{"b", "c"} {
		if err := commitOne(t.Context(), stores[0], put(key, "early")); err != nil {
			t.Fatal(err)
		}
	}
	states, next, err := read.Changes(t.Context(), stateEntity, mark, 1)
	if mark = next; err != nil || len(states) != 1 || states[0].Key != "b" {
		t.Fatalf("Changes() = %+v, %v, want b", states, err)
	}
	late() // between two pages
	want("after the late one, in the midst of pages", "ca")
	want("again", "")
	later := l.open(put("d", "later"))
	if err := commitOne(t.Context(), stores[0], put("b", "again")); err != nil {
		t.Fatal(err)
	}
	want("beside an open one", "b")
	later()
	want("after that", "d")
	mark = ""
	want("from the beginning", "acdb")
}

// proveOld has a state written that has its version from before a newer one was committed.
func proveOld(t testing.TB, spoil func(*Store)) {
	_, stores, _ := twins(t, spoil)
	inside, newer, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	old, fresh := put("a", "old"), put("a", "new")
	old.Closures = []store.Closure{func(context.Context, store.Tx) error {
		close(inside)
		<-newer
		return nil
	}}
	go func() { done <- commitOne(context.WithoutCancel(t.Context()), stores[0], old) }()
	<-inside
	if err := commitOne(t.Context(), stores[1], fresh); err != nil || !fresh.States[0].Applied {
		t.Errorf("Commit(a newer state) = %v, applied %t, want nil, true", err, fresh.States[0].Applied)
	}
	close(newer)
	if err := <-done; err != nil || old.States[0].Applied || old.States[0].Version >= fresh.States[0].Version {
		t.Errorf("Commit(an older state) = %v, applied %t, version %d, want nil, false, below %d", err, old.States[0].Applied, old.States[0].Version, fresh.States[0].Version)
	}
	if got, err := stores[0].Reader().Exchange().State(t.Context(), stateEntity, "a"); err != nil || string(got.Body) != "new" {
		t.Errorf("State(a) = %q, %v, want the newer", got.Body, err)
	}
}

// open begins a transaction that has written a change, and returns what commits it.
func (l *life) open(ch *store.Change) (commit func()) {
	l.Helper()
	tx, err := l.h.db.Begin(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if err := l.s.AppendIn(l.Context(), Tx(tx), ch); err != nil {
		l.Fatal(err)
	}
	return func() {
		if err := tx.Commit(l.Context()); err != nil {
			l.Fatal(err)
		}
	}
}

// Counts of entities stay what they are while writers make and delete states, and others fold them.
func TestEntitiesAreCounted(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	const writers, puts, keys = 4, 80, 10
	var working, folding sync.WaitGroup
	over := make(chan struct{})
	for w := range writers {
		working.Go(func() {
			for n := range puts {
				ch := put(fmt.Sprint(w, " ", n%keys), "x")
				ch.States = append(ch.States, store.State{Entity: "customers.card", Key: fmt.Sprint(w), Version: int64(n + 1), Contract: 1, AsOf: time.Now()})
				if n/keys%2 == 1 {
					ch.States[0].Deleted, ch.States[0].Body = true, nil
				}
				if err := putBy(t.Context(), h, stores[w%2], ch, n%8 == 0); err != nil {
					t.Errorf("put a state = %v, want nil", err)
					return
				}
			}
		})
	}
	for _, s := range stores {
		folding.Go(func() {
			for {
				if err := s.foldEntities(t.Context()); err != nil {
					t.Errorf("foldEntities() = %v, want nil", err)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	working.Wait()
	close(over)
	folding.Wait()
	rows, err := stores[0].Reader().Exchange().Entities(t.Context())
	if err != nil || len(rows) != 2 || rows[0].Live != writers || rows[0].Deleted != 0 || rows[1].Live != 0 || rows[1].Deleted != writers*keys {
		t.Errorf("Entities() = %+v, %v, want %d cards, and %d customers that are deleted", rows, err, writers, writers*keys)
	}
	if found, err := stores[0].Reader().Check(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("Check() = %+v, %v, want none", found, err)
	}
	var left int
	if err := h.db.QueryRow(t.Context(), inSchema("select count(*) from weir.entity_tally", h.schema)).Scan(&left); err != nil || left > entityRows+writers*keys {
		t.Errorf("%d rows of counts, %v, want them folded at %d", left, err, entityRows)
	}
	if _, err := h.db.Exec(t.Context(), inSchema("insert into weir.entity_tally values ('customers.card', 1, 0)", h.schema)); err != nil {
		t.Fatal(err)
	}
	found, err := stores[0].Reader().Check(t.Context())
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "the counters of customers.card") {
		t.Errorf("Check() = %+v, %v, want one that names the counters", found, err)
	}
}

// A transaction of a caller's that has written a state, and is forgotten, holds up who writes the same one: not the
// others of their group.
func TestForgottenStateHoldsUpItsOwn(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	l := &life{TB: t, h: h, s: stores[0]}
	follower := func(key string, version int64) *store.Change {
		return &store.Change{States: []store.State{{Entity: stateEntity, Key: key, Version: version, Contract: 1, AsOf: time.Now(), Body: []byte("f")}}}
	}
	commit := l.open(follower("a", 7))
	same, other := follower("a", 8), follower("b", 1)
	g := &store.Group{Changes: []*store.Change{same, other}, Held: store.HeldIsRefused}
	if err := stores[1].Commit(t.Context(), g); err != nil || !errors.Is(same.Err, store.ErrKeyHeld) || other.Err != nil || !other.States[0].Applied {
		t.Errorf("Commit(the state held, another) = %v, Err %v and %v, want ErrKeyHeld and nil", err, same.Err, other.Err)
	}
	commit()
	if err := commitOne(t.Context(), stores[1], same); err != nil || !same.States[0].Applied {
		t.Errorf("Commit(the state that was held) = %v, applied %t, want nil, true", err, same.States[0].Applied)
	}
}

// relays is a queue that one process after another works, each alone, as a relay is worked.
type relays struct {
	testing.TB
	h     *harness
	queue store.QueueID
	sent  atomic.Int64
	words sync.Map // of what was sent
	given map[int64][]string
}

const relayDuty = "relay a.cook"

// send sends from outside: with keys and without, delayed, and in transactions that commit late.
func (r *relays) send(s *Store, w int, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(uint64(w), 2))
	for {
		select {
		case <-over:
			return
		default:
		}
		ch := &store.Change{}
		for range 1 + random.IntN(4) {
			m := &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Body: strconv.AppendInt(nil, r.sent.Add(1), 10)}
			if random.IntN(2) == 0 {
				m.Key = strconv.Itoa(random.IntN(20))
			}
			if random.IntN(4) == 0 {
				m.Due = time.Now().Add(time.Duration(random.IntN(40)) * time.Millisecond)
			}
			ch.Sends = append(ch.Sends, m)
		}
		if err := putBy(r.Context(), r.h, s, ch, random.IntN(3) == 0); err != nil {
			r.Errorf("send = %v, want nil", err)
			return
		}
		for _, m := range ch.Sends {
			r.words.Store(string(m.Body), true)
		}
	}
}

// work has a process work the queue for so many claims, and then be lost, with what it has unsettled, or end.
func (r *relays) work(s *Store, claims int, ends bool) {
	random := rand.New(rand.NewPCG(uint64(claims), 3))
	got, err := s.Claim(r.Context(), store.ClaimRequest{Duties: []string{relayDuty, "inlet a"}})
	if err != nil || !slices.Equal(got.Duties, []string{relayDuty, "inlet a"}) {
		r.Fatalf("Claim(duties) = %q, %v, want both", got.Duties, err)
	}
	for range claims {
		got, err := s.Claim(r.Context(), store.ClaimRequest{Queue: r.queue, Max: 1 + random.IntN(9)})
		if err != nil {
			r.Fatalf("Claim() = %v, want nil", err)
		}
		if b := got.Batch; b != nil {
			r.hand(b)
			if random.IntN(3) > 0 {
				r.settle(s, b)
			}
		} else {
			pauseFor(2)
		}
	}
	if ends {
		err = s.End(r.Context())
	} else {
		r.h.Crash(s)
	}
	if err != nil {
		r.Fatal(err)
	}
}

// hand notes a batch that was handed out: whole, as the first time.
func (r *relays) hand(b *store.Batch) {
	var words []string
	for i, d := range b.Deliveries {
		if d.Index != i {
			r.Errorf("batch %d: delivery %d has index %d, want a whole manifest", b.No, i, d.Index)
		}
		words = append(words, string(d.Message.Body))
	}
	if before, ok := r.given[b.No]; ok && !slices.Equal(before, words) {
		r.Errorf("batch %d is %v when it is taken over, and was %v", b.No, words, before)
	}
	r.given[b.No] = words
}

func (r *relays) settle(s *Store, b *store.Batch) {
	ch := &store.Change{}
	for _, d := range b.Deliveries {
		ch.Settle = append(ch.Settle, store.Settlement{Batch: b.BatchRef, Index: d.Index, Pos: d.Message.Pos, Key: d.Message.Key, Verdict: store.Done, Attempt: d.Attempt})
	}
	if err := commitOne(r.Context(), s, ch); err != nil {
		r.Errorf("settle batch %d = %v, want nil", b.No, err)
	}
}

// proveRelay has one process after another work a queue, each until it is lost or ends, while others send: the
// batches have numbers without gaps, and are read afterwards as they were handed out; all that was sent is in one.
func proveRelay(t testing.TB, spoil func(*Store)) {
	h, stores, queue := twins(t, spoil)
	r := &relays{TB: t, h: h, queue: queue, given: map[int64][]string{}}
	if err := errors.Join(stores[0].End(t.Context()), stores[1].End(t.Context())); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var senders sync.WaitGroup
	for w := range 2 {
		senders.Go(func() { r.send(stores[w], w, over) })
	}
	for turn := range 6 {
		s := oneMore(t, h)
		spoil(s)
		r.work(s, 12+turn, turn%3 == 2)
	}
	close(over)
	senders.Wait()
	last := oneMore(t, h)
	spoil(last)
	rest := 0
	for idle := 0; idle < 60 && rest < 100_000; rest++ {
		got, err := last.Claim(t.Context(), store.ClaimRequest{Queue: queue, Max: 100})
		if err != nil {
			t.Fatal(err)
		}
		if got.Batch == nil {
			idle++
			pauseFor(1)
			continue
		}
		r.hand(got.Batch)
		r.settle(last, got.Batch)
	}
	r.judge(last)
}

func (r *relays) judge(s *Store) {
	states, err := s.Reader().Queues(r.Context())
	if err != nil || len(states) != 1 || states[0].Newest != int64(len(r.given)) || states[0].Depth != 0 {
		r.Fatalf("Queues() = %+v, %v, want %d batches, all settled", states, err, len(r.given))
	}
	times := map[string]int{}
	for no := int64(1); no <= states[0].Newest; no++ {
		b, err := s.Reader().Exchange().Batch(r.Context(), r.queue, no)
		if err != nil {
			r.Errorf("Batch(%d) = %v, want nil: of %d", no, err, states[0].Newest)
			continue
		}
		var words []string
		for _, d := range b.Deliveries {
			words = append(words, string(d.Message.Body))
			times[string(d.Message.Body)]++
		}
		if !slices.Equal(words, r.given[no]) {
			r.Errorf("Batch(%d) = %v, and was handed out as %v", no, words, r.given[no])
		}
	}
	r.words.Range(func(word, _ any) bool {
		if times[word.(string)] != 1 {
			r.Errorf("message %s is in %d batches, want 1", word, times[word.(string)])
		}
		return true
	})
}

// proveDuties has two processes ask for duties at once, many times: each is one's, and the lost one's are the other's.
func proveDuties(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	const rounds, each = 20, 4
	owned := [2][]string{}
	for round := range rounds {
		var names []string
		for i := range each {
			names = append(names, fmt.Sprintf("relay %d.%d", round, i))
		}
		var both sync.WaitGroup
		var got [2]store.Claimed
		for i, s := range stores {
			both.Go(func() {
				var err error
				if got[i], err = s.Claim(t.Context(), store.ClaimRequest{Duties: names}); err != nil {
					t.Errorf("Claim(duties) = %v, want nil", err)
				}
			})
		}
		both.Wait()
		for i := range owned {
			owned[i] = append(owned[i], got[i].Duties...)
		}
	}
	both := slices.Sorted(slices.Values(slices.Concat(owned[0], owned[1])))
	if len(both) != rounds*each || len(slices.Compact(both)) != rounds*each {
		t.Errorf("%d and %d duties are of one process each, want %d in all", len(owned[0]), len(owned[1]), rounds*each)
	}
	h.Crash(stores[0])
	got, err := stores[1].Claim(t.Context(), store.ClaimRequest{Duties: owned[0]})
	if err != nil || len(got.Duties) != len(owned[0]) {
		t.Errorf("Claim(duties of a lost process) = %d, %v, want %d", len(got.Duties), err, len(owned[0]))
	}
	if _, err := stores[0].Claim(t.Context(), store.ClaimRequest{Duties: []string{"relay 0.0"}}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Claim(duties) by a lost process = %v, want ErrLeaseLost", err)
	}
}

// What a sender could not give any more, doctor tells for a day.
func TestCheckSeesWhatIsMissingForGood(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	for _, lane := range []string{"a lane", "old", "good"} {
		ch := arrived(lane, 7, 1)
		ch.Arrival.Jump = lane != "good"
		if err := commitOne(t.Context(), stores[0], ch); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.db.Exec(t.Context(), inSchema("update weir.arrivals set jumped_us = jumped_us - 90000000000 where lane = 'old'", h.schema)); err != nil {
		t.Fatal(err)
	}
	if err := commitOne(t.Context(), stores[1], arrived("a lane", 8, 1)); err != nil {
		t.Fatal(err)
	}
	found, err := stores[0].Reader().Check(t.Context())
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "on lane a lane something is missing") || !strings.Contains(found[0].What, "1 times in all") {
		t.Errorf("Check() = %+v, %v, want one that names the lane", found, err)
	}
}

// A schema whose life begins beyond its numbers would give out IDs that there have been: doctor says so.
func TestCheckSeesALifeBeyondItsNumbers(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	read := stores[0].Reader()
	if found, err := read.Check(t.Context()); err != nil || len(found) != 0 {
		t.Fatalf("Check() = %+v, %v, want none", found, err)
	}
	if _, err := h.db.Exec(t.Context(), inSchema("insert into weir.lives select first + 1000000, 'zzzzzz', base from weir.lives", h.schema)); err != nil {
		t.Fatal(err)
	}
	found, err := read.Check(t.Context())
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "began with message number") {
		t.Errorf("Check() = %+v, %v, want one that names the life", found, err)
	}
}

// proveRenewal has a person begin a new life, and senders that were open all along, in Commit and in callers'
// transactions, name what they send by it.
func proveRenewal(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	sender := stores[0]
	before := &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1}
	if err := errors.Join(sender.End(t.Context()), commitOne(t.Context(), sender, &store.Change{Sends: []*store.Message{before}})); err != nil {
		t.Fatal(err)
	}
	act := store.Act{Verb: store.RenewStore, By: "ada", Why: "the volume was set back"}
	if _, err := stores[1].Operate(t.Context(), act); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Operate(renew) while a process works the store = %v, want ErrConflict", err)
	}
	if err := stores[1].End(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := sender.Info()
	if _, err := stores[1].Operate(t.Context(), act); err != nil {
		t.Fatalf("Operate(renew) = %v, want nil", err)
	}
	now := stores[1].Info()
	if now.Incarnation == old.Incarnation || now.Base < old.Base {
		t.Errorf("Info() after a renewal = %+v, want another incarnation than %s, and no base below %d", now, old.Incarnation, old.Base)
	}
	last := before
	for i, own := range []bool{true, false, true} {
		m := &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1}
		if err := putBy(t.Context(), h, sender, &store.Change{Sends: []*store.Message{m}}, own); err != nil {
			t.Fatal(err)
		}
		if m.ID != now.Incarnation.ID(m.Pos) || m.Stamp <= last.Stamp || seqOf(int64(m.Pos))-seqOf(int64(before.Pos)) < lifeSkip {
			t.Errorf("message %d after a renewal is %s, stamp %d, want one of %s and above %d", i, m.ID, m.Stamp, now.Incarnation, last.Stamp)
		}
		last = m
	}
	for _, m := range []*store.Message{before, last} {
		story, err := sender.Reader().Message(t.Context(), m.ID)
		if err != nil || story.Pos != m.Pos || story.ID != m.ID || story.Stamp != m.Stamp {
			t.Errorf("Message(%s) = %s, stamp %d, %v, want itself", m.ID, story.ID, story.Stamp, err)
		}
	}
}
