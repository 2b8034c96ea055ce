package postgres

import (
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

	"github.com/weir-go/weir/store"
)

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
	lost, heir := 0, 1
	if len(owned[lost]) == 0 { // the other was first every time
		lost, heir = heir, lost
	}
	h.Crash(stores[lost])
	got, err := stores[heir].Claim(t.Context(), store.ClaimRequest{Duties: owned[lost]})
	if err != nil || len(got.Duties) != len(owned[lost]) {
		t.Errorf("Claim(duties of a lost process) = %d, %v, want %d", len(got.Duties), err, len(owned[lost]))
	}
	if _, err := stores[lost].Claim(t.Context(), store.ClaimRequest{Duties: []string{"relay 0.0"}}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Claim(duties) by a lost process = %v, want ErrLeaseLost", err)
	}
}

// A schema whose life begins beyond its numbers would give out IDs that there have been: doctor says so.
func TestCheckSeesALifeBeyondItsNumbers(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	h.spent = true
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
	h.spent = true
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
