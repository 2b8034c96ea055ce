package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// TestLeasesAreTheRows walks at random through all that can happen to runs, with
// closures that fail and commits that do not come about, and wants after each step
// what this process remembers of its runs to be what the file says, and Check to
// find nothing wrong.
func TestLeasesAreTheRows(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := &runWalk{t: t, r: rand.New(rand.NewPCG(seed, 7)), parents: map[string]store.RunNo{}}
			w.s = beginStore(t)
			w.other = openFile(t, w.s.path)
			for range 150 {
				w.step()
				w.compare()
			}
		})
	}
}

// runWalk is one walk.
type runWalk struct {
	t        *testing.T
	r        *rand.Rand
	s, other *Store
	ids      int
	seen     int64
	parents  map[string]store.RunNo
}

var errSpoiled = errors.New("spoiled")

func (w *runWalk) step() {
	switch w.r.IntN(12) {
	case 0:
		w.operate()
	case 1:
		send(w.t, w.other, message(cooked, w.key(), "foreign"))
	case 2:
		w.again()
	case 3, 4, 5:
		req := store.ClaimRequest{Workflow: fulfil, Max: w.r.IntN(5), MailAfter: w.seen, Suspects: w.r.IntN(3) == 0}
		c, err := w.s.Claim(w.t.Context(), req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range c.Mail {
			w.seen = max(w.seen, m.No)
		}
	default:
		w.commit()
	}
}

// again ends the process, or drops it, and begins the next.
func (w *runWalk) again() {
	if w.r.IntN(4) > 0 {
		return
	}
	path := w.s.path
	if w.r.IntN(2) == 0 {
		if err := w.s.End(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.s = openFile(w.t, path)
	begin(w.t, w.s)
}

func (w *runWalk) key() string { return string(rune('a' + w.r.IntN(4))) }

func (w *runWalk) operate() {
	act := store.Act{By: "ada", Why: "test", Workflow: fulfil, ID: fmt.Sprint("r", w.r.IntN(w.ids+1))}
	act.Verb = []store.Verb{store.CancelRun, store.RetryRun, store.AbandonRun, store.BreakLock}[w.r.IntN(4)]
	if act.Verb == store.BreakLock {
		act = store.Act{By: "ada", Why: "test", Verb: act.Verb, Lock: w.key()}
	}
	by := []*Store{w.s, w.other}[w.r.IntN(2)]
	if _, err := by.Operate(w.t.Context(), act); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		w.t.Fatal(err)
	}
}

// commit commits a group of some updates, starts and sends, of which some fail.
func (w *runWalk) commit() {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	g := &store.Group{}
	leases := make([]*lease, 0, len(w.s.held.leases))
	for _, l := range w.s.held.leases {
		leases = append(leases, l)
	}
	slices.SortFunc(leases, func(a, b *lease) int { return cmp.Compare(a.no, b.no) })
	for range 1 + w.r.IntN(6) {
		ch := &store.Change{}
		if len(leases) > 0 && w.r.IntN(4) > 0 {
			w.update(ch, leases[w.r.IntN(len(leases))])
		}
		if w.r.IntN(3) == 0 {
			ch.Sends = append(ch.Sends, message(cooked, w.key(), "own"))
		}
		if w.r.IntN(3) == 0 {
			w.start(ch)
		}
		switch w.r.IntN(30) {
		case 0, 1:
			ch.Closures = []store.Closure{func(context.Context, store.Tx) error { return errSpoiled }}
		case 2:
			ch.Closures = []store.Closure{func(context.Context, store.Tx) error { cancel(); return errSpoiled }}
		}
		g.Changes = append(g.Changes, ch)
	}
	if err := w.s.Commit(ctx, g); err != nil && !errors.Is(err, errSpoiled) {
		w.t.Fatalf("Commit = %v", err)
	}
	for _, ch := range g.Changes {
		for _, st := range ch.Runs {
			if ch.Err == nil {
				w.parents[st.ID] = st.Parent
			}
		}
		if ch.Err != nil && !errors.Is(ch.Err, errSpoiled) && !errors.Is(ch.Err, store.ErrFenced) {
			if _, ok := errors.AsType[*store.RunConflictError](ch.Err); !ok {
				w.t.Fatalf("change = %v", ch.Err)
			}
		}
	}
}

func (w *runWalk) start(ch *store.Change) {
	id := w.ids
	if w.r.IntN(4) == 0 {
		id = w.r.IntN(w.ids + 1)
	} else {
		w.ids++
	}
	st := &store.RunStart{Workflow: fulfil, ID: fmt.Sprint("r", id), Version: 1, Lease: w.r.IntN(2) == 0}
	if ch.Run != nil && w.r.IntN(2) == 0 {
		st.Parent = ch.Run.No
	}
	if parent, ok := w.parents[st.ID]; ok {
		st.Parent = parent
	}
	if st.Parent != 0 {
		st.ParentStep = 1 + w.r.IntN(3)
	}
	ch.Runs = append(ch.Runs, st)
}

func (w *runWalk) update(ch *store.Change, l *lease) {
	u := &store.RunUpdate{RunRef: store.RunRef{No: store.RunNo(l.no), Epoch: l.epoch}, Sober: w.r.IntN(3) == 0}
	ch.Run = u
	for range w.r.IntN(3) {
		u.Records = append(u.Records, step(1+w.r.IntN(5)))
	}
	n := 1 + w.r.IntN(3)
	switch w.r.IntN(8) {
	case 0, 1:
		u.Waits = []store.Wait{{N: n, Topic: cooked, Key: w.key()}, {N: 4, Topic: cooked, Key: w.key()}}
	case 2:
		u.Unwait = []int{n}
	case 3, 4:
		u.Locks = []store.LockAct{{N: n, Name: w.key()}}
	case 5:
		u.Locks = []store.LockAct{{N: n, Name: w.key(), Release: true}, {N: n, Name: w.key()}}
	}
	if len(l.mail) > 0 && w.r.IntN(2) == 0 {
		u.Read = l.mail[w.r.IntN(len(l.mail))].no
	}
	switch w.r.IntN(8) {
	case 0, 1:
		u.Verdict, u.Wake = store.Waiting, time.Now().Add(time.Duration(w.r.IntN(3)-1)*time.Hour)
	case 2:
		u.Verdict = store.Parked
		u.Records = append(u.Records, &store.Record{N: 9, Name: "parked", State: store.StepParked})
	case 3:
		u.Verdict, u.Outcome = store.Ended, store.Outcome(1+w.r.IntN(3))
	}
}

// compare wants the leases to be the rows.
func (w *runWalk) compare() {
	w.t.Helper()
	process := w.s.process.Load()
	rows, mail := map[int64]lease{}, map[int64][]letterMark{}
	ties := map[int64]int64{}
	err := w.s.read(w.t.Context(), func(c *conn) error {
		err := c.query(`select no, epoch, workflow, crashes, coalesce(parent, 0), coalesce(parent_step, 0),
			(select count(*) from weir_waits where run = r.no), (select count(*) from weir_locks where run = r.no)
			+ (select count(*) from weir_lock_line where run = r.no) from weir_runs r where wake = ?1`, []any{runwake.LeasedBy(process)}, func(st *sqlite.Stmt) error {
			rows[st.ColumnInt64(0)] = lease{no: st.ColumnInt64(0), epoch: st.ColumnInt64(1), workflow: st.ColumnInt64(2), crashes: st.ColumnInt64(3),
				parent: st.ColumnInt64(4), parentStep: st.ColumnInt64(5), waits: st.ColumnInt(6)}
			ties[st.ColumnInt64(0)] = st.ColumnInt64(6) + st.ColumnInt64(7)
			return nil
		})
		if err != nil {
			return err
		}
		return c.query(`select run, no, kind from weir_mail where no <= ?1 order by no`, []any{w.s.held.mailSeen}, func(st *sqlite.Stmt) error {
			mail[st.ColumnInt64(0)] = append(mail[st.ColumnInt64(0)], letterMark{st.ColumnInt64(1), store.MailKind(st.ColumnInt64(2))})
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(rows) != len(w.s.held.leases) {
		w.t.Fatalf("leases = %d, rows %d", len(w.s.held.leases), len(rows))
	}
	for no, want := range rows {
		l := w.s.held.leases[no]
		switch {
		case l == nil:
			w.t.Fatalf("run %d is leased, and not remembered", no)
		case l.over || l.epoch != want.epoch || l.workflow != want.workflow || l.crashes != want.crashes || l.parent != want.parent || l.parentStep != want.parentStep:
			w.t.Fatalf("lease = %+v, want %+v", *l, want)
		case !slices.Equal(l.mail, mail[no]) || (len(l.mail) > 0) != (w.s.held.mailed[no] != nil):
			w.t.Fatalf("mail of %d = %v, want %v", no, l.mail, mail[no])
		case ties[no] > 0 && !l.ties || l.waits >= 0 && l.waits < want.waits:
			w.t.Fatalf("lease = %+v, want %d waits, %d ties", *l, want.waits, ties[no])
		}
	}
	findings, err := w.s.Reader().Check(w.t.Context())
	if err != nil || len(findings) > 0 {
		w.t.Fatalf("Check = %+v, %v, want nothing", findings, err)
	}
}
