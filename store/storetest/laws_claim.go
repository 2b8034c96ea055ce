package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func claimLaws() []Law {
	return []Law{
		{"claim/once", "Over all claims of a queue each message comes once, in the order of positions, at most Max at a time.", claimOnce},
		{"claim/first", "A first delivery says so: attempt 1, no crashes, no first attempt yet; a batch is numbered, leased at the store's time.", claimFirst},
		{"claim/more", "More is set as long as another claim would find work at once, and no longer.", claimMore},
		{"claim/nothing", "A claim finds what there is, however much it has to file behind others first; one without a batch means that there is nothing to do now.", claimNothing},
		{"claim/sorted", "A batch is in the order of positions, whatever it is made of.", claimSorted},
		{"claim/concurrent", "Of concurrent claims no two get the same message, and together they get all.", claimConcurrent},
		{"claim/depth", "Depth counts the waiting, the leased and the deferred; Leased those in open batches; Oldest is when the oldest of them was sent.", claimDepth},
		{"claim/paused", "A paused queue gives nothing: neither fresh nor due nor abandoned messages, nor a time to wait for; resumed it goes on where it was.", claimPaused},
		{"claim/large", "Large messages come like small ones, each once and in order, in as many batches as they need.", claimLarge},
		{"claim/changed", "Changed says so when another process or a caller's own transaction has written.", claimChanged},
		{"claim/owned", "What a claim handed out is not changed by later calls.", claimOwned},
	}
}

func claimOnce(s *scene) {
	s.declareCook()
	var line []string
	for i := range 25 {
		word := fmt.Sprint(i)
		if i%4 == 0 {
			word = "k" + word
		}
		line = append(line, word)
	}
	s.send(cook, strings.Join(line[:10], " "))
	s.claim(cook, 7, strings.Join(line[:7], " "))
	s.send(cook, strings.Join(line[10:], " "))
	s.claim(cook, 8, strings.Join(line[7:15], " "))
	s.restart()
	s.claim(cook, 1, strings.Join(line[:7], " "))
	s.claim(cook, 1, strings.Join(line[7:15], " "))
	s.claim(cook, 1, line[15])
	s.claim(cook, store.MaxBatch, strings.Join(line[16:], " "))
	s.claim(cook, store.MaxBatch, "")
}

func claimFirst(s *scene) {
	s.declareCook()
	s.send(cook, "1 k2 3")
	a, b := s.claim(cook, 2, "1 k2"), s.claim(cook, 2, "3")
	for i, d := range a.Deliveries {
		if d.Index != i || d.Attempt != 1 || d.Crashes != 0 || !d.FirstAt.IsZero() {
			s.Errorf("Claim(): delivery %d has index %d, attempt %d, %d crashes, first at %s, want %d, 1, 0, zero",
				i, d.Index, d.Attempt, d.Crashes, d.FirstAt, i)
		}
	}
	if a.Queue != s.ids[cook] || a.No < 1 || a.Epoch < 1 || a.Suspect || !a.ClaimedAt.Equal(s.clock.Now()) {
		s.Errorf("Claim() = batch %+v, suspect %t, claimed at %s, want one of queue %d, no suspect, now", a.BatchRef, a.Suspect, a.ClaimedAt, s.ids[cook])
	}
	if b.No <= a.No {
		s.Errorf("Claim(): the second batch's number = %d, want above %d", b.No, a.No)
	}
}

func claimMore(s *scene) {
	s.declareCook()
	late := message(cook, "9")
	late.Due = s.clock.Now().Add(time.Hour)
	s.send(cook, "1 2 3 4")
	s.commit(&store.Change{Sends: []*store.Message{late}})
	for _, want := range []struct {
		max  int
		line string
		more bool
	}{{2, "1 2", true}, {1, "3", true}, {9, "4", false}, {1, "", false}} {
		got := s.look(cook, want.max)
		if words(got.Batch) != want.line || got.More != want.more {
			s.Errorf("Claim(max %d) = %q, more %t, want %q, more %t", want.max, words(got.Batch), got.More, want.line, want.more)
		}
	}
	s.send(cook, "5 6")
	if got := s.look(cook, 2); words(got.Batch) != "5 6" || got.More {
		s.Errorf("Claim(max 2) of the last two = %q, more %t, want \"5 6\", more false", words(got.Batch), got.More)
	}
	s.clock.move(time.Hour)
	s.send(cook, "7")
	if got := s.look(cook, 1); got.Batch == nil || !got.More {
		s.Errorf("Claim(max 1) of a due and a fresh one = %q, more %t, want one and more", words(got.Batch), got.More)
	}
}

func claimNothing(s *scene) {
	s.declareCook()
	s.send(cook, "a1 b1 c1 a2 b2 c2")
	s.claim(cook, 1, "a1")
	s.claim(cook, 2, "b1 c1")
	s.claim(cook, 1, "a2")
	s.claim(cook, 1, "b2")
	s.claim(cook, 1, "c2")
	s.crash()
	s.fail(s.claim(cook, 9, "a1"), "a1", store.Retry)
	b := s.claim(cook, 9, "b1 c1")
	s.fail(b, "b1", store.Dead)
	got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 9, Abandoned: true})
	if err != nil || words(got.Batch) != "c2" || got.More {
		s.Fatalf("Claim(abandoned) past two batches of blocked messages = %q, more %t, %v, want \"c2\", no more", words(got.Batch), got.More, err)
	}
	s.done(b, "c1")
	s.done(got.Batch, "c2")
	s.send(cook, "a3 a4 b3 b4 a5 9")
	s.claim(cook, 1, "9")
	if got := s.look(cook, 1); got.Batch != nil || got.More {
		s.Errorf("Claim() of blocked messages only = %q, more %t, want nothing", words(got.Batch), got.More)
	}
}

func claimSorted(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3 4 k5")
	b := s.claim(cook, 5, "1 2 3 4 k5")
	for i, word := range []string{"4", "1", "3", "k5"} {
		set := s.settle(b, word, store.Retry)
		set.Due = s.clock.Now().Add(time.Duration(i) * time.Second)
		s.commit(change(set))
	}
	s.done(b, "2")
	s.clock.move(time.Minute)
	s.send(cook, "6 7")
	s.claim(cook, 9, "1 3 4 k5 6 7")
}

func claimConcurrent(s *scene) {
	s.declareCook()
	const n = 120
	var line []string
	for i := range n {
		line = append(line, fmt.Sprint(i))
	}
	s.send(cook, strings.Join(line, " "))
	got := make(chan *store.Batch, n)
	fault := make(chan error, n)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for {
				c, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 7})
				if err != nil {
					fault <- err
					return
				}
				if c.Batch == nil {
					return
				}
				got <- c.Batch
			}
		})
	}
	all.Wait()
	close(got)
	close(fault)
	for err := range fault {
		s.Errorf("Claim() beside others = %v, want nil", err)
	}
	seen := map[store.Pos]bool{}
	for b := range got {
		for _, d := range b.Deliveries {
			if seen[d.Message.Pos] {
				s.Errorf("Claim() = %q a second time, want it once", d.Message.Body)
			}
			seen[d.Message.Pos] = true
		}
	}
	if len(seen) != n {
		s.Errorf("concurrent claims = %d messages, want %d", len(seen), n)
	}
}

func claimDepth(s *scene) {
	s.declareCook()
	began := s.clock.Now()
	if st := s.state(cook); !st.Oldest.IsZero() || st.Depth != 0 {
		s.Errorf("Queues() of an empty queue: depth %d, oldest %s, want 0 and zero", st.Depth, st.Oldest)
	}
	s.send(cook, "1 2")
	s.clock.move(time.Minute)
	s.send(cook, "3 4 5")
	b := s.claim(cook, 4, "1 2 3 4")
	s.fail(b, "1", store.Retry)
	s.done(b, "3")
	if st := s.state(cook); st.Depth != 4 || st.Leased != 2 || st.Deferred != 1 || !st.Oldest.Equal(began) {
		s.Errorf("Queues(): depth %d, leased %d, deferred %d, oldest %s, want 4, 2, 1, %s", st.Depth, st.Leased, st.Deferred, st.Oldest, began)
	}
	s.done(b, "2 4")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 1, "1"), "1")
	if st := s.state(cook); st.Depth != 1 || st.Leased != 0 || !st.Oldest.Equal(began.Add(time.Minute)) {
		s.Errorf("Queues(): depth %d, leased %d, oldest %s, want 1, 0, %s", st.Depth, st.Leased, st.Oldest, began.Add(time.Minute))
	}
}

func claimPaused(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 1, "1")
	s.fail(b, "1", store.Retry)
	s.claim(cook, 1, "2")
	s.crash()
	s.send(cook, "3")
	s.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	for range 2 {
		if got := s.look(cook, 9); got.Batch != nil || got.More || !got.NextDue.IsZero() {
			s.Errorf("Claim() of a paused queue = %q, more %t, next due %s, want nothing", words(got.Batch), got.More, got.NextDue)
		}
		s.clock.move(time.Hour)
	}
	got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 9, Abandoned: true})
	if err != nil || got.Batch != nil {
		s.Errorf("Claim(abandoned) of a paused queue = %q, %v, want nothing, nil", words(got.Batch), err)
	}
	if p := s.state(cook).Paused; p == nil || p.By != "ada" || p.Why != "because" {
		s.Errorf("Queues(): paused = %+v, want by ada because", p)
	}
	s.restart()
	s.claim(cook, 9, "")
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	if p := s.state(cook).Paused; p != nil {
		s.Errorf("Queues() after resume: paused = %+v, want nil", p)
	}
	s.claim(cook, 9, "2")
	s.claim(cook, 9, "1 3")
}

func claimLarge(s *scene) {
	s.declareCook()
	const n, size = 20, 1 << 20
	for i := range n {
		m := message(cook, "")
		m.Body = bytes.Repeat([]byte{byte('a' + i)}, size)
		s.commit(sends(m))
	}
	b := s.look(cook, 1).Batch
	s.commit(change(s.verdict(b.BatchRef, b.Deliveries[0], store.Retry)))
	s.clock.move(time.Minute)
	var got []byte
	for {
		found := s.look(cook, n)
		if b = found.Batch; b == nil {
			break
		}
		if more := len(got)+len(b.Deliveries) < n; found.More != more {
			s.Errorf("Claim() after %d of %d = more %t, want %t", len(got)+len(b.Deliveries), n, found.More, more)
		}
		for _, d := range b.Deliveries {
			if len(d.Message.Body) != size {
				s.Fatalf("Claim() = a body of %d bytes, want %d", len(d.Message.Body), size)
			}
			got = append(got, d.Message.Body[size-1])
		}
	}
	if string(got) != "abcdefghijklmnopqrst" {
		s.Errorf("Claim() until nothing, of %d messages of a megabyte = %q, want each once in order", n, got)
	}
	s.crash()
	if again := s.look(cook, 1).Batch; again == nil || len(again.Deliveries) == 0 {
		s.Errorf("Claim() of an abandoned batch of large messages = nothing, want it")
	}
}

func claimChanged(s *scene) {
	s.declareCook()
	changed := func(after string) {
		s.Helper()
		if got, err := s.store.Reader().Changed(s.ctx()); err != nil || !got {
			s.Errorf("Changed() after %s = %t, %v, want true, nil", after, got, err)
		}
	}
	other := s.open()
	for range 3 { // whatever it says now, it forgets
		if _, err := s.store.Reader().Changed(s.ctx()); err != nil {
			s.Errorf("Changed() = %v, want nil", err)
		}
	}
	if err := other.Commit(s.ctx(), &store.Group{Changes: []*store.Change{{Sends: messages(cook, "1")}}}); err != nil {
		s.Fatalf("Commit by another process = %v, want nil", err)
	}
	changed("another process's commit")
	s.own(true, func(tx store.Tx) { s.appendIn(tx, messages(cook, "2")) })
	changed("a caller's own transaction")
	if err := other.Commit(s.ctx(), &store.Group{Changes: []*store.Change{{Sends: messages(cook, "3")}}}); err != nil {
		s.Fatalf("Commit by another process = %v, want nil", err)
	}
	s.send(cook, "4") // our own writing must not hide it
	changed("another process's commit and one of our own")
	s.claim(cook, 9, "1 2 3 4")
}

func claimOwned(s *scene) {
	s.declareCook()
	s.send(cook, "1 k2 3")
	b := s.claim(cook, 3, "1 k2 3")
	s.send(cook, "4 k5 6")
	s.claim(cook, 3, "4 k5 6")
	s.done(b, "1")
	if got := words(b); got != "1 k2 3" || b.Deliveries[1].Message.Key != "k" {
		s.Errorf("an earlier batch after later calls = %q, want \"1 k2 3\"", got)
	}
}
