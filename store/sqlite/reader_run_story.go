package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

const (
	runInFull = `select version, epoch, cause, correlation, headers,
			coalesce(input, (select body from weir_run_bodies where id = weir_runs.no << 1)),
			coalesce(result, (select body from weir_run_bodies where id = weir_runs.no << 1 | 1))
		from weir_runs where no = ?1`
	stepAttempts = `select step, attempt, started_us, took_us, reason, stack from weir_step_attempts
		where step >= ?1 and step <= ?2 order by step, i limit ?3`
	waitsOf    = `select w.n, t.name, w.key, w.since_us from weir_waits w join weir_topics t on t.id = w.topic where w.run = ?1 order by w.n`
	fullNameOf = `select w.name || '/' || r.id from weir_runs r join weir_workflows w on w.id = r.workflow where r.no = ?1`

	lockFields = ` name, fence, run, since_us `
	locksHeld  = `select` + lockFields + `from weir_locks order by name limit ?1`
	lockNamed  = `select` + lockFields + `from weir_locks where name = ?1`
	locksOfRun = `select name from weir_locks indexed by weir_locks_run where run = ?1
		union select name from weir_lock_line indexed by weir_lock_line_run where run = ?1`
	lineOf = `select run, since_us from weir_lock_line where name = ?1 order by no limit ?2`

	repliesTold = `select` + messageColumns + `, body from weir_messages indexed by weir_messages_correlation
		where correlation = ?1 order by pos limit ?2`
)

// runTeller tells a run's story.
type runTeller struct {
	c    *conn
	s    *Store
	flow map[int64]string
	post postman
}

// Story is a run with all that happened to it.
func (r runReader) Story(ctx context.Context, workflow, id string) (store.RunStory, error) {
	var story store.RunStory
	err := r.s.read(ctx, func(c *conn) error {
		no, err := findRun(c, workflow, id)
		if err != nil {
			return err
		}
		t := &runTeller{c: c, s: r.s, post: postman{c: c, lives: r.s.lives()}}
		if t.flow, err = readWorkflows(c); err != nil {
			return err
		}
		return t.tell(no, &story)
	})
	return story, err
}

func (t *runTeller) tell(no int64, y *store.RunStory) error {
	now, w := us(t.s.now()), scribe{lives: t.s.lives()}
	err := t.c.query(runRowAt, []any{no}, func(st *sqlite.Stmt) error {
		y.RunRow = runRow(st, t.flow, now)
		return nil
	})
	if err != nil {
		return err
	}
	err = t.c.query(runInFull, []any{no}, func(st *sqlite.Stmt) error {
		y.Version, y.Epoch, y.Cause, y.Correlation = st.ColumnInt(0), st.ColumnInt64(1), w.reference(st, 2), w.reference(st, 3)
		y.Headers, y.Input, y.Result = blob(st, 4), blob(st, 5), blob(st, 6)
		return nil
	})
	if err != nil {
		return err
	}
	if y.State == store.RunWaiting {
		if y.Reason, err = waitReason(t.c, no); err != nil {
			return err
		}
	}
	if y.Parent != 0 {
		if y.ParentID, err = t.fullName(int64(y.Parent)); err != nil {
			return err
		}
	}
	if y.Mail, err = t.post.letters(sqlMailOfRun, no); err != nil {
		return err
	}
	for _, part := range []func(int64, *store.RunStory) error{t.records, t.waits, t.locks, t.children, t.late} {
		if err := part(no, y); err != nil {
			return err
		}
	}
	return nil
}

func (t *runTeller) fullName(no int64) (name string, err error) {
	err = t.c.query(fullNameOf, []any{no}, func(st *sqlite.Stmt) error {
		name = st.ColumnText(0)
		return nil
	})
	return name, err
}

func (t *runTeller) records(no int64, y *store.RunStory) error {
	steps, err := loadSteps(t.c, no)
	if err != nil {
		return err
	}
	for _, r := range steps {
		y.Records = append(y.Records, *r)
	}
	err = t.c.query(stepAttempts, []any{stepID(no, 0), stepID(no, stepMask), store.MaxAttempts}, func(st *sqlite.Stmt) error {
		y.Attempts = append(y.Attempts, store.StepAttempt{N: int(st.ColumnInt64(0) & stepMask), Attempt: st.ColumnInt(1),
			StartedAt: moment(st, 2), Took: took(st.ColumnInt64(3)), Reason: st.ColumnText(4), Stack: st.ColumnText(5)})
		return nil
	})
	slices.SortStableFunc(y.Attempts, func(a, b store.StepAttempt) int {
		return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(a.Attempt, b.Attempt))
	})
	return err
}

func (t *runTeller) waits(no int64, y *store.RunStory) error {
	w := scribe{lives: t.s.lives()}
	return t.c.query(waitsOf, []any{no}, func(st *sqlite.Stmt) error {
		y.Waits = append(y.Waits, store.WaitRow{N: st.ColumnInt(0), Topic: st.ColumnText(1), Key: w.reference(st, 2), Since: moment(st, 3)})
		return nil
	})
}

func (t *runTeller) locks(no int64, y *store.RunStory) error {
	var names []string
	err := t.c.query(locksOfRun, []any{no}, func(st *sqlite.Stmt) error {
		names = append(names, st.ColumnText(0))
		return nil
	})
	for _, name := range names {
		if err == nil {
			var rows []store.LockRow
			rows, err = t.lockRows(lockNamed, name)
			y.Locks = append(y.Locks, rows...)
		}
	}
	return err
}

// lockRows reads locks with those who wait for them.
func (t *runTeller) lockRows(query string, arg any) ([]store.LockRow, error) {
	var out []store.LockRow
	err := t.c.query(query, []any{arg}, func(st *sqlite.Stmt) error {
		out = append(out, store.LockRow{Name: st.ColumnText(0), Fence: st.ColumnInt64(1),
			Holder: store.RunNo(st.ColumnInt64(2)), Since: moment(st, 3)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		l := &out[i]
		if l.HolderID, err = t.fullName(int64(l.Holder)); err != nil {
			return nil, err
		}
		err = t.c.query(lineOf, []any{l.Name, store.MaxList}, func(st *sqlite.Stmt) error {
			l.Waiters = append(l.Waiters, store.LockWaiter{Run: store.RunNo(st.ColumnInt64(0)), Since: moment(st, 1)})
			return nil
		})
		if err != nil {
			return nil, err
		}
		for j := range l.Waiters {
			if l.Waiters[j].RunID, err = t.fullName(int64(l.Waiters[j].Run)); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Locks lists the locks held, by name.
func (r runReader) Locks(ctx context.Context, max int) ([]store.LockRow, error) {
	var out []store.LockRow
	err := r.s.read(ctx, func(c *conn) error {
		var err error
		out, err = (&runTeller{c: c, s: r.s}).lockRows(locksHeld, listMax(max))
		return err
	})
	return out, err
}

func (t *runTeller) children(no int64, y *store.RunStory) error {
	now := us(t.s.now())
	return t.c.query(childrenOf, []any{no, store.MaxList}, func(st *sqlite.Stmt) error {
		y.Children = append(y.Children, runRow(st, t.flow, now))
		return nil
	})
}

// late finds the replies to the run's requests that it neither has got nor waits for.
// They are of the run's conversation, or of that of their request.
func (t *runTeller) late(no int64, y *store.RunStory) error {
	w, err := reader{t.s}.scribe(t.c)
	if err != nil {
		return err
	}
	l := lateReplies{t: t, w: w, runs: w.lives.RunIDs(store.RunNo(no)), y: y}
	l.known()
	var roots []any
	if y.Correlation != "" {
		roots = append(roots, reference(y.Correlation, w.lives))
	} else {
		for _, id := range l.runs {
			roots = append(roots, id)
		}
	}
	for request := range l.asked {
		roots = append(roots, int64(request))
	}
	for _, root := range roots {
		if err := l.find(root); err != nil {
			return err
		}
	}
	slices.SortFunc(y.Late, func(a, b store.Message) int { return cmp.Compare(a.Pos, b.Pos) })
	return nil
}

// lateReplies looks for a run's late replies.
type lateReplies struct {
	t     *runTeller
	w     scribe
	runs  []string // as the causes of its messages
	y     *store.RunStory
	asked map[store.Pos]time.Time // requests named by records, with when those were settled
	taken map[store.Pos]bool      // messages that the run has got
	waits map[string]bool         // requests whose replies it waits for
}

func (l *lateReplies) known() {
	l.asked, l.taken, l.waits = map[store.Pos]time.Time{}, map[store.Pos]bool{}, map[string]bool{}
	for i := range l.y.Waits {
		l.waits[l.y.Waits[i].Key] = true
	}
	for i := range l.y.Mail {
		if m := l.y.Mail[i].Message; m != nil {
			l.taken[m.Pos] = true
		}
	}
	for i := range l.y.Records {
		r := &l.y.Records[i]
		if r.Pos == 0 {
			continue
		}
		l.taken[r.Pos] = true
		if r.State >= store.StepDone {
			l.asked[r.Pos] = r.StartedAt.Add(r.Took).Truncate(time.Microsecond)
		}
	}
}

// told is a message with when it came: its SentAt may be another store's.
type told struct {
	store.Message
	came time.Time
}

// find looks through a conversation.
func (l *lateReplies) find(root any) error {
	var found []told
	err := l.t.c.query(repliesTold, []any{root, conversationMax}, func(st *sqlite.Stmt) error {
		if l.w.topics[ownerOf(st.ColumnInt64(0))].kind != store.KindReply || len(found)+len(l.y.Late) >= store.MaxList {
			return nil
		}
		m, err := l.w.message(st)
		if err != nil || l.taken[m.Pos] || l.waits[m.Cause] {
			return err
		}
		m.Body = blob(st, bodyColumn)
		found = append(found, told{m, moment(st, sentColumn)})
		return nil
	})
	for i := range found {
		if err != nil {
			return err
		}
		var late bool
		if late, err = l.isLate(&found[i]); late {
			l.taken[found[i].Pos] = true
			l.y.Late = append(l.y.Late, found[i].Message)
		}
	}
	return err
}

// isLate reports whether a reply is to a request of this run. Where the record that
// was settled names the request and not the reply, it may have got this one.
func (l *lateReplies) isLate(m *told) (bool, error) {
	request, local := l.w.lives.Local(m.Cause)
	if !local {
		return false, nil
	}
	if settled, ok := l.asked[request]; ok {
		return m.came.After(settled), nil
	}
	asked, err := l.w.read(l.t.c, int64(request), false)
	return asked != nil && slices.Contains(l.runs, asked.Cause), err
}
