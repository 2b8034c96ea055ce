package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func runWaitLaws() []Law {
	return []Law{
		{"run-wait/later", "A wait is met by a later message of its topic with its key, and by no other.", runWaitLater},
		{"run-wait/earlier", "A wait is met by a message sent before it, since Since and above After: the lowest.", runWaitEarlier},
		{"run-wait/clock-back", "Since is compared with each message's own time, also where the clock was set back between them.", runWaitClockBack},
		{"run-wait/together", "A wait and its message in one group, or in one change, find each other whichever comes first.", runWaitTogether},
		{"run-wait/own", "A message of a caller's own transaction meets waits when that commits, and none when it does not.", runWaitOwn},
		{"run-wait/once", "A wait is met once: it is gone then, over crashes and restarts too.", runWaitOnce},
		{"run-wait/lowest", "Of several messages in one group the lowest meets the wait; the next wait goes on after it.", runWaitLowest},
		{"run-wait/replaced", "A wait of a record that waits already replaces that; one given up is met no more.", runWaitReplaced},
		{"run-wait/several", "One message meets all waits for it, of several runs and of several records.", runWaitSeveral},
		{"run-wait/reply", "A wait for a reply is met by the reply to its own request, whatever its key.", runWaitReply},
		{"run-wait/reply-repeated", "Who repeats a request waits for the reply to the one that was sent, whether it comes or has come.", runWaitReplyRepeated},
		{"run-wait/signal", "A signal to a run meets its wait like an event, before it or after it.", runWaitSignal},
		{"run-wait/signal-kept", "A signal to a run that has not ended is kept for its waits, however old, and no longer than the run is unfinished.", runWaitSignalKept},
		{"run-wait/whole", "The message in the mail is whole, and its queue gets it all the same.", runWaitWhole},
		{"run-wait/kept", "Mail keeps its message however old, and no longer than it is unread.", runWaitKept},
		{"run-wait/refused", "What is refused, and what repeats a message, meets no wait.", runWaitRefused},
		{"run-wait/ended", "The waits of a run that has ended are over.", runWaitEnded},
		{"run-wait/concurrent", "Whatever is sent while runs begin to wait for it, each gets it once.", runWaitConcurrent},
	}
}

func runWaitLater(s *scene) {
	until := s.clock.Now().Add(time.Hour)
	u := sleeping(s.leased("a"), until)
	u.Waits = []store.Wait{awaits(3, "k"), awaits(4, "other")}
	s.unread(u, false)
	s.commit(sends(messages(ready, "j1 1 kk1")...), sends(message(cook, "k1")))
	s.claimRuns(9, "")
	s.clock.move(time.Second)
	s.send(ready, "k2")
	s.stands("a", store.RunReady)
	a := s.claimRun("a")
	s.mailed(a, "3 k2")
	if m := a.Mail[0]; m.Run != a.No || !m.At.Equal(s.clock.Now()) {
		s.Errorf("Claim(a): mail for run %d at %s, want %d, %s", m.Run, m.At, a.No, s.clock.Now())
	}
	if got := s.run("a"); len(got.Waits) != 1 || got.Waits[0].N != 4 || got.Waits[0].Topic != ready || got.Waits[0].Key != "other" {
		s.Errorf("Story(a): waits %+v, want that of record 4", got.Waits)
	}
}

func runWaitEarlier(s *scene) {
	since := s.clock.Now().Add(time.Minute)
	old := s.send(ready, "k1")[0]
	s.clock.move(time.Minute - time.Microsecond)
	s.send(ready, "k2")
	s.clock.move(time.Microsecond)
	third := s.send(ready, "k3 j3")[0]
	s.clock.move(time.Second)
	fourth := s.send(ready, "k4 k5")[0]
	for i, want := range []struct {
		since time.Time
		after store.Pos
		word  string
	}{
		{time.Time{}, 0, "k1"}, {time.Time{}, old.Pos, "k2"}, {since, 0, "k3"}, {since, old.Pos, "k3"}, {since, third.Pos, "k4"},
		{since.Add(time.Microsecond), 0, "k4"}, {since, fourth.Pos, "k5"}, {time.Time{}, fourth.Pos - 1, "k4"},
	} {
		w := awaits(i+1, "k")
		w.Since, w.After = want.since, want.after
		id := fmt.Sprint("r", i)
		u := waiting(s.leased(id), w)
		s.unread(u, true)
		s.mailed(s.claimRun(id), fmt.Sprintf("%d %s", i+1, want.word))
	}
	late := awaits(1, "k")
	late.Since = s.clock.Now().Add(time.Hour)
	beyond := awaits(2, "k")
	beyond.After = fourth.Pos + 1<<20
	s.unread(waiting(s.leased("none"), late, beyond), false)
	s.send(ready, "k6")
	s.claimRuns(9, "")
	s.clock.move(time.Hour)
	s.send(ready, "k7")
	s.mailed(s.claimRun("none"), "1 k7")
}

func runWaitClockBack(s *scene) {
	since := s.clock.Now()
	s.clock.move(-time.Minute)
	s.send(ready, "k1")
	s.clock.move(2 * time.Minute)
	s.send(ready, "k2")
	s.clock.move(-2 * time.Minute)
	s.send(ready, "k3")
	s.clock.move(time.Minute)
	s.send(ready, "k4")
	w := awaits(1, "k")
	w.Since = since
	s.unread(waiting(s.leased("a"), w), true)
	s.mailed(s.claimRun("a"), "1 k2")
}

func runWaitTogether(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	both := runs(waiting(c, awaits(1, "k")))
	both.Sends = messages(ready, "k2")
	s.commit(runs(waiting(a, awaits(1, "j"))), sends(messages(ready, "j1 k1")...), runs(waiting(b, awaits(1, "k"))))
	s.commit(both)
	got := s.claimRuns(9, "a b c")
	s.mailed(got[0], "1 j1")
	s.mailed(got[1], "1 k1")
	s.mailed(got[2], "1 k1")
	alone := runs(waiting(got[0].RunRef, awaits(2, "l")))
	alone.Sends = messages(ready, "l1")
	alone.Run.Read = last(got[0].Mail)
	s.commit(alone)
	if !alone.Run.Unread {
		s.Errorf("Commit(a wait and its message): Unread = false, want true")
	}
	s.mailed(s.claimRun("a"), "2 l1")
}

func runWaitOwn(s *scene) {
	s.update(waiting(s.leased("a"), awaits(1, "k")))
	b := s.leased("b")
	for _, commit := range []bool{false, true} {
		s.own(commit, func(tx store.Tx) {
			s.appendIn(tx, messages(ready, "k1"))
			s.appendIn(tx, messages(ready, "k2"))
			s.stands("a", store.RunWaiting)
		})
		if !commit {
			s.claimRuns(9, "")
		}
	}
	s.mailed(s.claimRun("a"), "1 k1")
	s.unread(waiting(b, awaits(1, "k")), true)
	s.mailed(s.claimRun("b"), "1 k1")
	s.update(updates(s.run2ref("a")))
	other := s.open()
	s.commit(runs(&store.RunUpdate{RunRef: s.run2ref("a"), Waits: []store.Wait{awaits(2, "j")}}))
	s.own(true, func(tx store.Tx) {
		if err := other.AppendIn(s.ctx(), tx, sends(message(ready, "j1"))); err != nil {
			s.Errorf("AppendIn(j1) by another process = %v, want nil", err)
		}
	})
	if changed, err := s.store.Reader().Changed(s.ctx()); err != nil || !changed {
		s.Errorf("Changed() after a caller's own transaction = %t, %v, want true, nil", changed, err)
	}
	if got := s.lookRuns(store.ClaimRequest{}).Mail; len(got) != 3 { // k1 twice, and j1
		s.Errorf("Claim() = mail %q, want what came to a and b", letters(got))
	}
}

// run2ref is how a run's holder acts for it.
func (s *scene) run2ref(id string) store.RunRef {
	s.Helper()
	r := s.run(id)
	return store.RunRef{No: r.No, Epoch: r.Epoch}
}

func runWaitOnce(s *scene) {
	s.update(waiting(s.leased("a"), awaits(1, "k")))
	s.send(ready, "k1 k2")
	s.send(ready, "k3")
	s.restart()
	a := s.claimRun("a")
	s.mailed(a, "1 k1")
	no := a.Mail[0].No
	s.send(ready, "k4")
	s.crash()
	a = s.claimSuspects(9, "a")[0]
	s.mailed(a, "1 k1")
	equal(s, "Claim(a) after a crash: the mail's number", a.Mail[0].No, no)
	u := sleeping(a.RunRef, s.clock.Now().Add(time.Hour))
	u.Read = no
	s.unread(u, false)
	s.send(ready, "k5")
	s.claimSuspects(9, "")
	if got := s.run("a"); len(got.Waits)+len(got.Mail) > 0 {
		s.Errorf("Story(a): %d waits, %d letters, want none", len(got.Waits), len(got.Mail))
	}
	s.well()
}

func runWaitLowest(s *scene) {
	s.update(waiting(s.leased("a"), awaits(1, "k")))
	s.commit(sends(messages(ready, "j1 k1 k2")...), sends(messages(ready, "k3")...))
	a := s.claimRun("a")
	s.mailed(a, "1 k1")
	for _, want := range []string{"k2", "k3"} {
		next := awaits(2, "k")
		next.After = a.Mail[0].Message.Pos
		u := waiting(a.RunRef, next)
		u.Read = last(a.Mail)
		s.unread(u, true)
		a = s.claimRun("a")
		s.mailed(a, "2 "+want)
	}
	next := awaits(2, "k")
	next.After = a.Mail[0].Message.Pos
	u := waiting(a.RunRef, next)
	u.Read = last(a.Mail)
	s.unread(u, false)
	s.send(ready, "k4 k5")
	s.mailed(s.claimRun("a"), "2 k4")
}

func runWaitReplaced(s *scene) {
	a := s.leased("a")
	u := updates(a)
	u.Waits = []store.Wait{awaits(1, "k"), awaits(2, "k"), awaits(3, "k"), awaits(4, "k")}
	s.update(u)
	u = updates(a)
	u.Waits, u.Unwait = []store.Wait{awaits(1, "j")}, []int{3, 77}
	s.update(u)
	u = waiting(a)
	u.Unwait = []int{4}
	s.unread(u, false)
	s.send(ready, "k1")
	s.send(ready, "j1")
	got := s.claimRun("a")
	if line := letters(got.Mail); line != "2 k1, 1 j1" {
		s.Errorf("Claim(a) after a wait was replaced and two given up: mail %q, want \"2 k1, 1 j1\"", line)
	}
	s.send(ready, "k2 j2")
	s.handedMail(0, "2 k1, 1 j1")
	if got := s.run("a"); len(got.Waits) != 0 {
		s.Errorf("Story(a): waits %+v, want none", got.Waits)
	}
}

func runWaitSeveral(s *scene) {
	other := starting("x")
	other.Workflow = refund
	s.update(waiting(s.leased("a"), awaits(1, "k"), awaits(2, "k")))
	s.update(waiting(s.leased("b"), awaits(1, "k")))
	s.update(waiting(s.lease(other), awaits(5, "k")))
	s.unread(&store.RunUpdate{RunRef: s.leased("c"), Waits: []store.Wait{awaits(1, "k"), awaits(2, "j")}}, false)
	s.send(ready, "k1")
	for _, r := range s.claimRuns(9, "a b") {
		if got := letters(r.Mail); r.ID == "b" && got != "1 k1" || r.ID == "a" && got != "1 k1, 2 k1" && got != "2 k1, 1 k1" {
			s.Errorf("Claim(%s): mail %q, want k1 for each wait", r.ID, got)
		}
	}
	got := s.lookRuns(store.ClaimRequest{Workflow: refund})
	if len(got.Runs) != 1 || letters(got.Runs[0].Mail) != "5 k1" || len(got.Mail) > 0 {
		s.Errorf("Claim(%s) = %q, want x with k1", refund, idsOf(got.Runs))
	}
	if got := s.run("c"); letters(got.Mail) != "1 k1" || len(got.Waits) != 1 {
		s.Errorf("Story(c): mail %q, %d waits, want \"1 k1\", 1", letters(got.Mail), len(got.Waits))
	}
}

// asks is a change of a run that sends requests and waits for their replies.
func asks(r store.RunRef, verdict store.RunVerdict, words string) *store.Change {
	c := runs(&store.RunUpdate{RunRef: r, Verdict: verdict})
	c.Sends = messages(cook, words)
	for i := range c.Sends {
		c.Run.Records = append(c.Run.Records, &store.Record{N: i + 1, Kind: store.KindAsk, State: store.StepPending, Name: fmt.Sprint("ask", i+1)})
		c.Run.Waits = append(c.Run.Waits, store.Wait{N: i + 1, Topic: store.Topic{Name: cook + ".reply", Kind: store.KindReply}, Reply: i + 1})
	}
	return c
}

// reply makes the reply to a message.
func reply(to *store.Message, word string) *store.Message {
	return &store.Message{Topic: cook + ".reply", Kind: store.KindReply, Version: 1, Key: to.Key, Cause: to.ID, Correlation: to.ID, Body: []byte(word)}
}

func runWaitReply(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	other := s.send(cook, "k1")[0]
	ask := asks(a, store.Waiting, "k2 k3")
	askB := asks(b, store.Leased, "k4")
	s.commit(ask, askB)
	s.commit(sends(reply(other, "none")), sends(&store.Message{Topic: cook, Kind: store.KindCommand, Version: 1, Cause: ask.Sends[0].ID, Body: []byte("no reply")}))
	s.claimRuns(9, "")
	second := reply(ask.Sends[1], "second")
	second.Key = "whatever"
	s.commit(sends(second))
	s.commit(sends(reply(askB.Sends[0], "of b")))
	run := s.claimRun("a")
	s.mailed(run, "2 second")
	equal(s, "Claim(a): the reply's cause", run.Mail[0].Message.Cause, ask.Sends[1].ID)
	s.handedMail(0, "2 second, 1 of b")
	s.commit(sends(reply(ask.Sends[1], "again"), reply(ask.Sends[0], "first")))
	got := s.run("a")
	if letters(got.Mail) != "2 second, 1 first" || len(got.Waits) != 0 {
		s.Errorf("Story(a): mail %q, %d waits, want \"2 second, 1 first\", none", letters(got.Mail), len(got.Waits))
	}
}

func runWaitReplyRepeated(s *scene) {
	ask := func(id string) *store.Change {
		c := asks(s.leased(id), store.Waiting, "k1")
		c.Sends[0].Dedup, c.Sends[0].DedupFor = "once", time.Hour
		s.commit(c)
		return c
	}
	other := s.send(cook, "j1")[0]
	s.commit(sends(reply(other, "no")))
	first := ask("a")
	early := ask("b")
	s.commit(sends(reply(other, "never")), sends(reply(first.Sends[0], "yes")))
	late := ask("c")
	for _, r := range s.claimRuns(9, "a b c") {
		s.mailed(r, "1 yes")
	}
	if early.Run.Unread || !late.Run.Unread || late.Sends[0].ID != first.Sends[0].ID {
		s.Errorf("Commit(a repeated request): unread %t and %t, ID %q, want false, true once the reply is there, %q", early.Run.Unread, late.Run.Unread, late.Sends[0].ID, first.Sends[0].ID)
	}
	s.listed(cook, "j1 k1")
}

func signal(to, word string) *store.Message {
	return &store.Message{Topic: "orders.stop", Kind: store.KindSignal, Version: 1, Key: to, Body: []byte(word)}
}

// heeds is record n's wait for a signal to the run.
func heeds(n int, id string) store.Wait {
	return store.Wait{N: n, Topic: store.Topic{Name: "orders.stop", Kind: store.KindSignal}, Key: id}
}

func runWaitSignal(s *scene) {
	wait := func(id string) store.Wait { return heeds(1, id) }
	s.commit(sends(signal("b", "early")))
	s.unread(waiting(s.leased("a"), wait("a")), false)
	s.unread(waiting(s.leased("b"), wait("b")), true)
	s.mailed(s.claimRun("b"), "1 early")
	s.commit(sends(signal("nobody", "lost"), signal("a", "late")))
	a := s.claimRun("a")
	s.mailed(a, "1 late")
	equal(s, "Claim(a): the signal's kind", a.Mail[0].Message.Kind, store.KindSignal)
}

func runWaitWhole(s *scene) {
	s.declare(subscriber(waiter))
	m := &store.Message{
		Topic: ready, Kind: store.KindEvent, Version: 2, Key: "ключ '%", Cause: "zzzzzz-7", Correlation: "zzzzzz-1",
		Headers: []byte(`{"tenant":"blue"}`), Body: []byte("a\x00b\xff"),
	}
	s.update(waiting(s.leased("a"), awaits(1, m.Key)))
	s.commit(sends(m))
	for range 2 {
		a := s.claimRun("a")
		if len(a.Mail) != 1 || a.Mail[0].Message == nil {
			s.Fatalf("Claim(a): mail %q, want the message", letters(a.Mail))
		}
		s.same("Claim", a.Mail[0].Message, m)
		s.restart()
	}
	s.same("Claim", s.claim(waiter, 9, string(m.Body)).Deliveries[0].Message, m)
}

func runWaitKept(s *scene) {
	s.update(waiting(s.leased("later"), awaits(1, "k")))
	m := s.send(ready, "k1")[0]
	s.unread(waiting(s.leased("earlier"), awaits(1, "k")), true)
	s.update(waiting(s.leased("patient"), awaits(1, "j")))
	s.clock.move(1000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.crash()
	for range 2 {
		for _, r := range s.claimRuns(9, "earlier later") {
			s.mailed(r, "1 k1")
			s.same("Claim", r.Mail[0].Message, m)
		}
		s.restart()
		s.prune(store.Retention{Keep: time.Minute})
	}
	for _, r := range s.claimRuns(9, "earlier later") {
		u := updates(r.RunRef)
		if u.Read = last(r.Mail); r.ID == "later" {
			u = ending(r.RunRef, store.Completed) // which reads nothing any more
		}
		s.update(u)
	}
	s.prune(store.Retention{Keep: time.Minute})
	s.gone(m.ID)
	s.send(ready, "j1")
	s.mailed(s.claimRun("patient"), "1 j1")
	s.well()
}

func runWaitRefused(s *scene) {
	strict := subscriber(billing)
	strict.Capacity, strict.Required = 1, true
	s.declare(strict)
	first := unique(ready, "j1", "once")
	s.commit(sends(first))
	s.update(waiting(s.leased("a"), awaits(1, "k")))
	w := awaits(1, "j")
	w.After = first.Pos
	s.update(waiting(s.leased("b"), w))
	s.full(billing, 1, 1, outside(ready, "k1"))
	fails := sends(messages(ready, "k2")...)
	fails.Closures = []store.Closure{failing}
	again := sends(unique(ready, "j1", "once"))
	s.group(&store.Group{Changes: []*store.Change{fails, again}})
	if fails.Err == nil || again.Err != nil {
		s.Errorf("Commit(one that fails, one that repeats): Err = %v, %v, want an error, nil", fails.Err, again.Err)
	}
	s.claimRuns(9, "")
	s.send(ready, "k3")
	s.mailed(s.claimRun("a"), "1 k3")
}

func runWaitEnded(s *scene) {
	a := s.leased("a")
	s.update(&store.RunUpdate{RunRef: a, Waits: []store.Wait{awaits(1, "k")}})
	u := ending(a, store.Completed)
	u.Waits = []store.Wait{awaits(2, "j")}
	s.update(u)
	s.send(ready, "k1 j1")
	if got := s.stands("a", "completed"); len(got.Waits)+len(got.Mail) > 0 {
		s.Errorf("Story(a): %d waits, %d letters, want none", len(got.Waits), len(got.Mail))
	}
	s.claimRuns(9, "")
	s.well()
}

func runWaitConcurrent(s *scene) {
	const n = 24
	refs := make([]store.RunRef, n)
	for i := range n {
		refs[i] = s.leased(fmt.Sprint("r", i))
	}
	other := s.open()
	var all sync.WaitGroup
	commit := func(st store.Store, c *store.Change) {
		if err := st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
			s.Errorf("Commit() beside others = %v, %v, want nil", err, c.Err)
		}
	}
	for part := range 3 {
		all.Go(func() {
			for i := part; i < n; i += 3 {
				commit(s.store, runs(waiting(refs[i], awaits(1, fmt.Sprint("k", i, "k")))))
			}
		})
		all.Go(func() {
			for i := part; i < n; i += 3 {
				m := message(ready, "x")
				m.Key = fmt.Sprint("k", i, "k")
				commit([]store.Store{s.store, other}[i%2], sends(m))
			}
		})
	}
	all.Wait()
	got := s.lookRuns(store.ClaimRequest{}).Runs
	if len(got) != n {
		s.Errorf("Claim() = %d runs, want all %d", len(got), n)
	}
	for _, r := range got {
		s.mailed(r, "1 x")
	}
}
