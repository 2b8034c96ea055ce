package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runReadLaws() []Law {
	return []Law{
		{"run-read/list", "Runs are listed newest first, by workflow, state and the beginning of the ID, page by page, MaxList at most.", runReadList},
		{"run-read/states", "A run's state says what it is to a person: ready, running, waiting, needs-person, or how it ended.", runReadStates},
		{"run-read/reasons", "A row tells why: what its open records wait for, why it is parked, how it failed.", runReadReasons},
		{"run-read/counts", "Counts are by workflow and state, with the start of the oldest.", runReadCounts},
		{"run-read/since", "Counts say since when the first of the runs that are ready is, of those that have not crashed.", runReadSince},
		{"run-read/story", "A story is the run as it was started, with its records, waits, unread mail, locks and children.", runReadStory},
		{"run-read/late", "Replies that came after their run had stopped to wait for them are told.", runReadLate},
		{"run-read/ambiguous", "An ID that one workflow has is found without it; one that several have is refused with their names.", runReadAmbiguous},
		{"run-read/other", "Another process, which works nothing, is told the same.", runReadOther},
		{"run-read/healthy", "Check finds nothing wrong with runs that stand as they should, however they stand.", runReadHealthy},
	}
}

// rows lists runs.
func (s *scene) rows(q store.RunQuery) []store.RunRow {
	s.Helper()
	rows, err := s.store.Reader().Runs().List(s.ctx(), q)
	if err != nil {
		s.Fatalf("List(%+v) = %v, want nil", q, err)
	}
	return rows
}

// lists wants the runs of a query, newest first.
func (s *scene) lists(q store.RunQuery, want string) []store.RunRow {
	s.Helper()
	rows := s.rows(q)
	if got := rowIDs(rows); got != want {
		s.Errorf("List(%+v) = %q, want %q", q, got, want)
	}
	return rows
}

func runReadList(s *scene) {
	other := starting("a3")
	other.Workflow = refund
	s.startRuns("a1 b a2")
	s.commit(begins(other))
	s.startRuns("a_4 A5 a%6 a4")
	s.lists(store.RunQuery{}, "a4 a%6 A5 a_4 a3 a2 b a1")
	s.lists(store.RunQuery{Workflow: fulfil}, "a4 a%6 A5 a_4 a2 b a1")
	s.lists(store.RunQuery{Workflow: refund, State: store.RunReady}, "a3")
	s.lists(store.RunQuery{IDPrefix: "a"}, "a4 a%6 a_4 a3 a2 a1")
	s.lists(store.RunQuery{IDPrefix: "a_"}, "a_4")
	s.lists(store.RunQuery{IDPrefix: "a%", Workflow: fulfil}, "a%6")
	s.lists(store.RunQuery{IDPrefix: "a2x"}, "")
	s.lists(store.RunQuery{Workflow: "nobody.knows"}, "")
	page := s.lists(store.RunQuery{Max: 3}, "a4 a%6 A5")
	page = s.lists(store.RunQuery{Max: 3, Before: page[2].No}, "a_4 a3 a2")
	s.lists(store.RunQuery{Max: 3, Before: page[2].No}, "b a1")
	s.lists(store.RunQuery{IDPrefix: "a", Workflow: fulfil, Before: page[2].No, State: store.RunReady}, "a1")
	r := page[2]
	if r.Workflow != fulfil || r.No == 0 || r.State != store.RunReady || !r.StartedAt.Equal(s.clock.Now()) || !r.EndedAt.IsZero() || r.Process != 0 || r.Crashes != 0 || r.Parent != 0 {
		s.Errorf("List(): row = %+v, want a2 as it was started", r)
	}
	var many []*store.RunStart
	for i := range store.MaxList + 5 {
		many = append(many, starting(fmt.Sprint("many", i)))
	}
	s.commit(begins(many...))
	if got := s.rows(store.RunQuery{Max: store.MaxList}); len(got) != store.MaxList {
		s.Errorf("List(max %d) = %d, want that", store.MaxList, len(got))
	}
	if got, err := s.store.Reader().Runs().List(s.ctx(), store.RunQuery{Max: 1 << 30}); err == nil && len(got) > store.MaxList {
		s.Errorf("List(max 2^30) = %d, want at most %d", len(got), store.MaxList)
	}
	if got := s.rows(store.RunQuery{}); len(got) != 50 {
		s.Errorf("List() = %d, want the default, 50", len(got))
	}
}

// stand makes a run in each state, whose ID is the state.
func (s *scene) stand() {
	s.Helper()
	s.startRuns("ready")
	s.leased("running")
	s.update(waiting(s.leased("waiting"), awaits(1, "k")))
	s.update(parking(s.leased("needs-person")))
	s.update(ending(s.leased("completed"), store.Completed))
	s.update(ending(s.leased("failed"), store.Failed))
	s.update(ending(s.leased("cancelled"), store.Cancelled))
}

func runReadStates(s *scene) {
	s.stand()
	for _, state := range []string{"ready", "running", "waiting", "needs-person", "completed", "failed", "cancelled"} {
		rows := s.lists(store.RunQuery{State: store.RunState(state)}, state)
		if len(rows) == 1 && (string(rows[0].State) != state || (rows[0].Process == s.me.ID) != (state == "running")) {
			s.Errorf("List(%s) = %+v, want its state, and the process only if it runs", state, rows[0])
		}
		s.stands(state, store.RunState(state))
	}
	s.lists(store.RunQuery{State: store.RunEnded}, "cancelled failed completed")
	until := s.clock.Now().Add(time.Minute)
	s.update(sleeping(s.leased("sleeps"), until))
	if rows := s.lists(store.RunQuery{State: store.RunWaiting}, "sleeps waiting"); len(rows) == 2 && (!rows[0].Wake.Equal(until) || !rows[1].Wake.IsZero()) {
		s.Errorf("List(waiting): wakes %s and %s, want %s and zero", rows[0].Wake, rows[1].Wake, until)
	}
	s.clock.move(time.Minute)
	s.send(ready, "k1")
	s.lists(store.RunQuery{State: store.RunReady}, "sleeps waiting ready")
	s.lists(store.RunQuery{State: store.RunWaiting}, "")
	s.crash()
	s.lists(store.RunQuery{State: store.RunReady}, "sleeps waiting running ready")
	s.lists(store.RunQuery{State: store.RunRunning}, "")
}

func runReadReasons(s *scene) {
	u := waiting(s.leased("waits"), awaits(1, "k"))
	u.Records = []*store.Record{
		{N: 1, Kind: store.KindUntil, State: store.StepPending, Name: "stock", Reason: "need 5, have 2"},
		{N: 2, Kind: store.KindStep, State: store.StepFailed, Name: "over", Reason: "declined"},
		{N: 3, Kind: store.KindStep, State: store.StepPending, Name: "pay", Reason: "bank is closed"},
	}
	s.update(u)
	u = parking(s.leased("parked"))
	u.Records = []*store.Record{{N: 1, Kind: store.KindStep, State: store.StepParked, Name: "pay", Reason: "timeout"}}
	s.update(u)
	s.update(ending(s.leased("failed"), store.Failed))
	s.update(ending(s.leased("completed"), store.Completed))
	for _, r := range s.rows(store.RunQuery{}) {
		switch {
		case r.ID == "waits" && (!strings.Contains(r.Reason, "need 5, have 2") || !strings.Contains(r.Reason, "bank is closed") || strings.Contains(r.Reason, "declined")),
			r.ID == "parked" && r.Reason != "out of retries", r.ID == "failed" && r.Reason != "no money", r.ID == "completed" && r.Reason != "":
			s.Errorf("List(): the reason of %s = %q", r.ID, r.Reason)
		}
		equal(s, "Story("+r.ID+"): reason", s.run(r.ID).Reason, r.Reason)
	}
}

func runReadCounts(s *scene) {
	began := s.clock.Now()
	s.stand()
	other := starting("x")
	other.Workflow = refund
	s.commit(begins(other))
	s.clock.move(time.Minute)
	s.startRuns("b c")
	s.update(ending(s.leased("d"), store.Failed))
	got, err := s.store.Reader().Runs().Counts(s.ctx())
	if err != nil {
		s.Fatalf("Counts() = %v, want nil", err)
	}
	counts := map[string]int64{}
	for _, c := range got {
		counts[c.Workflow+" "+string(c.State)] += c.Count
		if want := began; !c.Oldest.Equal(want) && c.Count > 0 {
			s.Errorf("Counts(): the oldest of %s, %s = %s, want %s", c.Workflow, c.State, c.Oldest, want)
		}
	}
	for _, state := range []string{"ready", "running", "waiting", "needs-person", "completed", "failed", "cancelled"} {
		want := map[string]int64{"ready": 3, "failed": 2}[state]
		if want == 0 {
			want = 1
		}
		equal(s, "Counts() of "+state, counts[fulfil+" "+state], want)
		delete(counts, fulfil+" "+state)
	}
	equal(s, "Counts() of the other workflow", counts[refund+" ready"], 1)
	delete(counts, refund+" ready")
	for what, n := range counts {
		if n != 0 {
			s.Errorf("Counts(): %d of %s, want none", n, what)
		}
	}
}

func runReadSince(s *scene) {
	since := func(state store.RunState, want time.Time) {
		s.Helper()
		got, err := s.store.Reader().Runs().Counts(s.ctx())
		if err != nil {
			s.Fatalf("Counts() = %v, want nil", err)
		}
		for _, c := range got {
			if c.State == state && !c.Since.Equal(want) {
				s.Errorf("Counts(): the first of %s is so since %s, want %s", state, c.Since, want)
			}
		}
	}
	began := s.clock.Now()
	a, b := s.leased("a"), s.leased("b")
	s.leased("crashes")
	due := began.Add(2 * time.Minute)
	s.update(sleeping(a, due))
	s.update(waiting(b, awaits(1, "k")))
	since(store.RunWaiting, time.Time{})
	since(store.RunRunning, time.Time{})
	s.crash() // in which that one was leased
	since(store.RunReady, time.Time{})
	s.clock.move(3 * time.Minute)
	since(store.RunReady, due)
	s.send(ready, "k1")
	since(store.RunReady, due)
	s.claimRuns(1, "a")
	since(store.RunReady, s.clock.Now())
	s.clock.move(time.Minute)
	since(store.RunReady, s.clock.Now().Add(-time.Minute))
}

func runReadStory(s *scene) {
	p := s.leased("p")
	full := starting("a")
	full.Version, full.Headers, full.Cause, full.Correlation = 4, []byte(`{"tenant":"blue"}`), "zzzzzz-7", "zzzzzz-1"
	full.Parent, full.ParentStep, full.Deadline = p.No, 2, s.clock.Now().Add(time.Hour)
	a := s.lease(full)
	since := s.clock.Now().Add(-time.Minute)
	w := awaits(3, "k")
	w.Since = since
	ask := asks(a, store.Leased, "7")
	ask.Run.Waits = append(ask.Run.Waits, w, awaits(4, "j"))
	ask.Run.Locks = []store.LockAct{acquires(5, "till")}
	for _, id := range []string{"c1", "c2"} {
		c := starting(id)
		c.Parent, c.ParentStep = a.No, 6
		ask.Runs = append(ask.Runs, c)
	}
	s.commit(ask)
	s.send(ready, "j1")
	got := s.run("a")
	equal(s, "Story(a): Version", got.Version, 4)
	equal(s, "Story(a): Epoch", got.Epoch, a.Epoch)
	equal(s, "Story(a): Input", string(got.Input), "in a")
	equal(s, "Story(a): Headers", string(got.Headers), string(full.Headers))
	equal(s, "Story(a): Cause", got.Cause, "zzzzzz-7")
	equal(s, "Story(a): Correlation", got.Correlation, "zzzzzz-1")
	equal(s, "Story(a): Parent", got.Parent, p.No)
	equal(s, "Story(a): ParentID", got.ParentID, fulfil+"/p")
	equal(s, "Story(a): mail", letters(got.Mail), "4 j1")
	if !got.Deadline.Equal(full.Deadline) || len(got.Late) > 0 || len(got.Locks) != 1 || len(got.Records) != 1 {
		s.Errorf("Story(a): deadline %s, %d late, %d locks, %d records, want %s, 0, 1, 1", got.Deadline, len(got.Late), len(got.Locks), len(got.Records), full.Deadline)
	}
	children := []string{}
	for _, c := range got.Children {
		children = append(children, c.ID+" "+string(c.State))
	}
	slices.Sort(children)
	equal(s, "Story(a): children", strings.Join(children, ", "), "c1 ready, c2 ready")
	for _, w := range got.Waits {
		switch {
		case w.N == 1 && w.Topic == cook+".reply" && w.Key == ask.Sends[0].ID:
		case w.N == 3 && w.Topic == ready && w.Key == "k" && w.Since.Equal(since):
		default:
			s.Errorf("Story(a): wait %+v, want that for the reply, and that for k", w)
		}
	}
	equal(s, "Story(a): waits", len(got.Waits), 2)
}

func runReadLate(s *scene) {
	a := s.leased("a")
	root := s.store.Info().Incarnation.RunID(a.No)
	ask := asks(a, store.Leased, "1 2 3 4")
	for _, m := range ask.Sends {
		m.Cause, m.Correlation = root, root
	}
	s.commit(ask)
	answer := func(i int, word string) *store.Message {
		m := reply(ask.Sends[i], word)
		m.Correlation = root
		if i%2 == 1 { // from another store, whose clock is behind
			m.Origin = &store.Origin{ID: "zzzzzz-" + word, From: "kitchen", SentAt: s.clock.Now().Add(-time.Hour)}
		}
		s.clock.move(time.Minute)
		s.commit(sends(m))
		return m
	}
	inTime := answer(0, "in-time")
	got, failed := *ask.Run.Records[0], *ask.Run.Records[1]
	got.State, got.Pos, got.Took = store.StepDone, inTime.Pos, time.Minute
	failed.State, failed.Reason, failed.Took = store.StepFailed, "not done within 1m", time.Minute
	failed.Pos, failed.StartedAt = ask.Sends[1].Pos, s.clock.Now().Add(-time.Minute) // it names the request
	s.update(&store.RunUpdate{RunRef: a, Unwait: []int{2}, Records: []*store.Record{&got, &failed}, Read: last(s.run("a").Mail)})
	answer(1, "late")
	answer(3, "unread")
	late := func() string {
		var line []string
		for _, m := range s.run("a").Late {
			line = append(line, string(m.Body))
		}
		return strings.Join(line, " ")
	}
	equal(s, "Story(a): late", late(), "late")
	s.handedMail(0, "4 unread")
	s.update(ending(a, store.Failed)) // it no longer waits for the third
	answer(2, "later")
	if got := late(); !strings.HasPrefix(got, "late") || !strings.HasSuffix(got, "later") {
		s.Errorf("Story(a): late, after its end = %q, want \"late\" and \"later\"", got)
	}
}

func runReadAmbiguous(s *scene) {
	s.startRuns("a both")
	other := starting("both")
	other.Workflow = refund
	s.commit(begins(other))
	r := s.store.Reader().Runs()
	if got, err := r.Story(s.ctx(), "", "a"); err != nil || got.ID != "a" || got.Workflow != fulfil {
		s.Errorf("Story(a, of any workflow) = %+v, %v, want it", got.RunRow, err)
	}
	if _, err := r.Story(s.ctx(), "", "both"); !ambiguous(err, fulfil, refund) {
		s.Errorf("Story(both, of any workflow) = %v, want an AmbiguousError of two", err)
	}
	if got, err := r.Story(s.ctx(), refund, "both"); err != nil || got.No != other.No {
		s.Errorf("Story(both of %s) = run %d, %v, want %d", refund, got.No, err, other.No)
	}
	for _, workflow := range []string{"", refund, "nobody.knows"} {
		id := "a"
		if workflow == "" {
			id = "nobody"
		}
		if _, err := r.Story(s.ctx(), workflow, id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Story(%q, %s) = %v, want ErrNotFound", workflow, id, err)
		}
	}
	s.noRun("A")
}

func runReadOther(s *scene) {
	s.stand()
	a := s.leased("a")
	s.lock(a, acquires(1, "till"))
	s.store = s.open()
	s.stands("a", store.RunRunning)
	s.inLine("till", "a")
	s.lists(store.RunQuery{State: store.RunEnded}, "cancelled failed completed")
	end, err := s.store.Reader().Runs().End(s.ctx(), fulfil, "completed")
	if err != nil || end.Outcome != store.Completed || string(end.Result) != "out" {
		s.Errorf("End(completed) by another process = %+v, %v, want how it ended", end, err)
	}
	ends, err := s.store.Reader().Runs().Ends(s.ctx(), []store.RunNo{a.No, end.No, end.No + 1_000_000})
	if err != nil || len(ends) != 1 || ends[0].No != end.No || ends[0].Outcome != store.Completed || string(ends[0].Result) != "out" {
		s.Errorf("Ends(one that runs, one completed, one there is not) = %+v, %v, want how the one ended", ends, err)
	}
}

func runReadHealthy(s *scene) {
	s.well()
	s.stand()
	run, holder, child := s.three("k")
	s.update(waiting(run))
	late := starting("late")
	late.At = s.clock.Now().Add(time.Hour)
	s.commit(begins(late))
	s.well()
	s.restart()
	s.well()
	for _, r := range s.lookRuns(store.ClaimRequest{}).Runs {
		switch r.No {
		case holder.No:
			holder = r.RunRef
		case child.No:
			child = r.RunRef
		}
	}
	s.arrive("k", holder, child)
	s.well()
	s.crash()
	s.well()
	s.lookRuns(store.ClaimRequest{Suspects: true})
	s.well()
	s.clock.move(1000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.well()
}
