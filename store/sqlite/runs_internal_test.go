package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/runwake"
)

const fulfil = "orders.fulfil"

var (
	cooked  = store.Topic{Name: "kitchen.cooked", Kind: store.KindEvent}
	replies = store.Topic{Name: "kitchen.cook.reply", Kind: store.KindReply}
)

// startRuns starts runs by their IDs, leased.
func startRuns(t testing.TB, s *Store, ids ...string) []store.RunRef {
	t.Helper()
	ch := &store.Change{}
	for _, id := range ids {
		ch.Runs = append(ch.Runs, &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: []byte(`{}`), Lease: true})
	}
	commit1(t, s, ch)
	var refs []store.RunRef
	for _, st := range ch.Runs {
		refs = append(refs, store.RunRef{No: st.No, Epoch: st.Epoch})
	}
	return refs
}

func updateOf(ref store.RunRef, verdict store.RunVerdict, records ...*store.Record) *store.Change {
	u := &store.RunUpdate{RunRef: ref, Records: records, Verdict: verdict}
	if verdict == store.Ended {
		u.Outcome = store.Completed
	}
	return &store.Change{Run: u}
}

func waitFor(ch *store.Change, n int, key string) *store.Change {
	ch.Run.Waits = append(ch.Run.Waits, store.Wait{N: n, Topic: cooked, Key: key})
	return ch
}

func step(n int) *store.Record {
	return &store.Record{N: n, Kind: store.KindStep, State: store.StepDone, Name: "reserve-stock", Attempt: 1,
		StartedAt: time.Now(), Took: time.Millisecond, Value: []byte(`{"ok":true}`)}
}

func claimRuns(t testing.TB, s *Store, want int) []*store.Run {
	t.Helper()
	c, err := s.Claim(context.Background(), store.ClaimRequest{Workflow: fulfil, Max: 100})
	if err != nil || len(c.Runs) != want {
		t.Fatalf("Claim = %d runs, %v, want %d", len(c.Runs), err, want)
	}
	return c.Runs
}

// TestLeasesOutliveFailure wants what this process remembers of its runs to be as
// before when a group that releases, ends and mails them is not committed.
func TestLeasesOutliveFailure(t *testing.T) {
	s := beginStore(t)
	refs := startRuns(t, s, "a", "b", "c", "d")
	commit1(t, s, waitFor(updateOf(refs[2], store.Leased), 1, "k"))
	commit1(t, s, &store.Change{Sends: []*store.Message{message(cooked, "k", "1")}})
	before := map[int64]lease{}
	remember := func(into map[int64]lease) {
		for no, l := range s.held.leases {
			cp := *l
			cp.stamp, cp.mail = 0, append([]letterMark(nil), l.mail...)
			into[no] = cp
		}
	}
	remember(before)
	seen := s.held.mailSeen
	read := updateOf(refs[2], store.Waiting)
	read.Run.Read = 1 << 40
	start := &store.Change{Runs: []*store.RunStart{{Workflow: fulfil, ID: "e", Version: 1, Lease: true}}}
	ctx, cancel := context.WithCancel(t.Context())
	fails := &store.Change{Closures: []store.Closure{func(context.Context, store.Tx) error {
		cancel()
		return errors.New("no")
	}}}
	locks := updateOf(refs[3], store.Leased)
	locks.Run.Locks = []store.LockAct{{N: 1, Name: "till"}}
	group := []*store.Change{updateOf(refs[0], store.Waiting), waitFor(updateOf(refs[1], store.Leased), 2, "k"), read, start, locks,
		{Sends: []*store.Message{message(cooked, "k", "2")}}, fails}
	if err := s.Commit(ctx, &store.Group{Changes: group}); err == nil {
		t.Fatal("Commit = nil, want the closure's error, for the context is done")
	}
	after := map[int64]lease{}
	remember(after)
	if len(s.held.mailed) != 1 || s.held.mailSeen != seen {
		t.Errorf("leases with mail = %v, mail seen %d, want c alone, %d", s.held.mailed, s.held.mailSeen, seen)
	}
	if !maps.EqualFunc(before, after, func(a, b lease) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }) {
		t.Errorf("leases = %+v\nwant as before %+v", after, before)
	}
	if st := start.Runs[0]; st.No != 0 || st.Epoch != 0 || !st.StartedAt.IsZero() || locks.Run.Locks[0].Fence != 0 {
		t.Errorf("start = %+v, fence %d, want nothing set", st, locks.Run.Locks[0].Fence)
	}
	commit1(t, s, group[:5]...)
	if len(s.held.leases) != 3 || !read.Run.Unread && len(s.held.mailed) != 1 {
		t.Errorf("leases = %v, want b, d and e", s.held.leases)
	}
	if err := s.End(t.Context()); err != nil || len(s.held.leases) != 0 {
		t.Errorf("End = %v, leases %v, want none", err, s.held.leases)
	}
}

// TestLongBodiesAside wants long inputs and results out of the runs' rows.
func TestLongBodiesAside(t *testing.T) {
	s := beginStore(t)
	for _, n := range []int{0, 1, bodyMax, bodyMax + 1, checks.ValueMax} {
		id, body := fmt.Sprint("n", n), bytes.Repeat([]byte("x"), n)
		st := &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: body, Lease: true}
		commit1(t, s, &store.Change{Runs: []*store.RunStart{st}})
		end := updateOf(store.RunRef{No: st.No, Epoch: st.Epoch}, store.Ended)
		end.Run.Result = body
		commit1(t, s, end)
		story, err := s.Reader().Runs().Story(t.Context(), fulfil, id)
		if err != nil || !bytes.Equal(story.Input, body) || !bytes.Equal(story.Result, body) {
			t.Errorf("Story(%s) = input %d, result %d bytes, %v, want %d", id, len(story.Input), len(story.Result), err, n)
		}
		again := &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: append(body, 'y')}
		ch := &store.Change{Runs: []*store.RunStart{again}}
		if n == checks.ValueMax {
			continue
		}
		err = s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}})
		if conflict, ok := errors.AsType[*store.RunConflictError](ch.Err); err != nil || !ok || conflict.Parent {
			t.Errorf("start of %s with another input = %v, %v, want a conflict", id, ch.Err, err)
		}
	}
	rows, bodies := count(t, s, `select max(length(input) + length(result)) from weir_runs`), count(t, s, `select count(*) from weir_run_bodies`)
	if rows > 2*bodyMax || bodies != 4 {
		t.Errorf("longest row %d bytes, %d bodies aside, want at most %d, 4", rows, bodies, 2*bodyMax)
	}
}

func count(t testing.TB, s *Store, query string) (n int64) {
	t.Helper()
	err := s.read(t.Context(), func(c *conn) (err error) {
		n, _, err = c.number(query)
		return err
	})
	if err != nil {
		t.Fatalf("%s = %v", query, err)
	}
	return n
}

// TestManyStartsAgain repeats starts in groups of many sizes, for they are looked up in bulk.
func TestManyStartsAgain(t *testing.T) {
	s := beginStore(t)
	var starts []*store.RunStart
	for i := range 40 {
		starts = append(starts, &store.RunStart{Workflow: fmt.Sprint(fulfil, i%2), ID: fmt.Sprint("o", i), Version: 1})
	}
	commit1(t, s, &store.Change{Runs: starts[:20]})
	for _, n := range []int{1, 3, 4, 5, 16, 17, 40} {
		g := &store.Group{}
		for i := range n {
			again := *starts[i]
			g.Changes = append(g.Changes, &store.Change{Runs: []*store.RunStart{&again}})
		}
		if err := s.Commit(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		for i, ch := range g.Changes {
			if st := ch.Runs[0]; ch.Err != nil || st.Existed != (i < 20) || i < 20 && st.No != starts[i].No {
				t.Errorf("start %d of %d again = %+v, %v, want it to exist", i, n, st, ch.Err)
			}
		}
	}
}

// TestReadyThoughTheClockIsBack wants a run that is ready to be claimed by a process
// whose clock is behind that of the one that made it so.
func TestReadyThoughTheClockIsBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := beginStore(t, Clock(func() time.Time { return now }))
	refs := startRuns(t, s, "a")
	commit1(t, s, waitFor(updateOf(refs[0], store.Waiting), 1, "k"))
	commit1(t, s, &store.Change{Sends: []*store.Message{message(cooked, "k", "1")}})
	now = now.Add(-time.Hour)
	claimRuns(t, s, 1)
}

// TestReplyBeforeTheWait wants the reply to a request that is a duplicate, and was
// answered before this run asked it, to be found.
func TestReplyBeforeTheWait(t *testing.T) {
	s := beginStore(t)
	request := message(cook.Topic, "", "1")
	request.Dedup, request.DedupFor = "once", time.Hour
	commit1(t, s, &store.Change{Sends: []*store.Message{request}})
	for range 2 {
		reply := message(replies, "", "done")
		reply.Cause = request.ID
		commit1(t, s, &store.Change{Sends: []*store.Message{reply}})
	}
	refs := startRuns(t, s, "a")
	again := *request
	ask := updateOf(refs[0], store.Waiting)
	ask.Sends = []*store.Message{&again}
	ask.Run.Waits = []store.Wait{{N: 1, Topic: replies, Reply: 1}}
	commit1(t, s, ask)
	if run := claimRuns(t, s, 1)[0]; len(run.Mail) != 1 || string(run.Mail[0].Message.Body) != "done" {
		t.Errorf("mail = %+v, want the first reply", run.Mail)
	}
}

// TestWakeReasonsSort wants claims to find the longest ready first, and those with
// most crashes.
func TestWakeReasonsSort(t *testing.T) {
	now := us(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	ascending := []int64{runwake.ReadySince(2_000, now), runwake.ReadySince(3, now), runwake.ReadySince(2, 0), runwake.ReadySince(2, now), runwake.ReadySince(2, now+1), runwake.ReadySince(1, now)}
	for i := 1; i < len(ascending); i++ {
		if ascending[i-1] >= ascending[i] {
			t.Errorf("wake reason %d = %d, want below the next, %d", i-1, ascending[i-1], ascending[i])
		}
	}
	for _, crashes := range []int64{0, 1} {
		ready, due := runwake.Claimable(crashes > 0, now)
		other, _ := runwake.Claimable(crashes == 0, now)
		w := runwake.ReadySince(crashes, now)
		if w < ready.From || w > ready.To || w >= other.From && w <= other.To || runwake.Since(w) != now {
			t.Errorf("ready with %d crashes = %d, since %d, want in %v, %d", crashes, w, runwake.Since(w), ready, now)
		}
		if w := runwake.WaitingUntil(crashes, at(now)); w < due.From || w > due.To || runwake.Since(w) != now {
			t.Errorf("until now with %d crashes = %d, want in %v", crashes, w, due)
		}
		if w := runwake.WaitingUntil(crashes, at(now+1)); w <= due.To {
			t.Errorf("until later with %d crashes = %d, want beyond %v", crashes, w, due)
		}
		far := runwake.WaitingUntil(crashes, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		if state, until, _ := runwake.StateOf(far, now); state != store.RunWaiting || until.Year() < 4000 {
			t.Errorf("until the year 9999 = %s until %s", state, until)
		}
	}
	if state, _, process := runwake.StateOf(runwake.LeasedBy(math.MaxInt32), now); state != store.RunRunning || process != math.MaxInt32 {
		t.Errorf("leased = %s by %d", state, process)
	}
}

// TestCheckFindsRuns wants each thing that Check looks for in runs to be found.
func TestCheckFindsRuns(t *testing.T) {
	for _, c := range []struct{ name, spoil, what string }{
		{"nothing", `select 1`, ""},
		{"gone", `update weir_runs set wake = (3 << 56) | 77 where id = 'leased'`, "run leased of orders.fulfil is leased to process 77, which is gone"},
		{"stuck", `delete from weir_waits`, "run waits of orders.fulfil waits for mail that cannot come"},
		{"asleep", `insert into weir_mail (no, run, at_us, kind, n) select 1, no, 0, 4, 0 from weir_runs where id = 'waits'`, "run waits of orders.fulfil has unread mail"},
		{"lost mail", `insert into weir_mail (no, run, at_us, kind, n) values (1, 99, 0, 4, 0)`, "mail 1 is for run number 99, which has ended"},
		{"lock", `update weir_locks set run = 99`, "lock till is held by run number 99"},
		{"line", `delete from weir_locks`, "lock till is waited for though nobody holds it"},
		{"waits", `insert into weir_waits (run, n, topic, key, since_us, after_pos) values (99, 1, 1, 'k', 0, 0)`, "run number 99 waits"},
		{"steps before", `insert into weir_steps (id, name) values (1, 'x')`, "record 1 is of run number 0"},
		{"steps after", `insert into weir_steps (id, name) values (99 << 20 | 2, 'x')`, "record 2 is of run number 99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := beginStore(t)
			refs := startRuns(t, s, "leased", "waits", "line", "parked", "ended")
			commit1(t, s, waitFor(updateOf(refs[1], store.Waiting), 1, "k"))
			for i, verdict := range []store.RunVerdict{store.Leased, store.Waiting, store.Waiting} {
				lock := updateOf(refs[[]int{0, 2, 3}[i]], verdict)
				lock.Run.Locks = []store.LockAct{{N: 1, Name: "till"}}
				commit1(t, s, lock)
			}
			commit1(t, s, updateOf(refs[4], store.Ended, step(1)))
			if err := s.write(t.Context(), func(k *conn) error { return k.exec(c.spoil) }); err != nil {
				t.Fatal(err)
			}
			got, err := s.Reader().Check(t.Context())
			switch {
			case err != nil:
				t.Fatal(err)
			case c.what == "" && len(got) > 0, c.what != "" && (len(got) == 0 || !strings.Contains(got[0].What, c.what) || got[0].Do == ""):
				t.Errorf("Check = %+v, want %q", got, c.what)
			}
		})
	}
}

// TestRunsInACallersTransaction wants a run that a caller's own transaction starts,
// and the mail that it brings, to come about with it.
func TestRunsInACallersTransaction(t *testing.T) {
	s := beginStore(t)
	refs := startRuns(t, s, "waits")
	commit1(t, s, waitFor(updateOf(refs[0], store.Waiting), 1, "k"))
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		long := &store.RunStart{Workflow: fulfil, ID: "long", Version: 1, Input: make([]byte, bodyMax+1), Lease: true, Headers: []byte(`{}`), Cause: "x-1"}
		ch := &store.Change{Sends: []*store.Message{message(cooked, "k", "1")}, Runs: []*store.RunStart{long}}
		if err := s.AppendIn(t.Context(), Tx(tx), ch); err != nil || long.No == 0 || long.Epoch != 0 {
			t.Fatalf("AppendIn = %v, start %+v, want it not leased", err, long)
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	if runs := claimRuns(t, s, 2); len(runs[0].Mail)+len(runs[1].Mail) != 1 {
		t.Errorf("mail = %v, %v, want one", runs[0].Mail, runs[1].Mail)
	}
}
