package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

const (
	askRunInFull = `select version, epoch, coalesce(cause, ''), coalesce(correlation, ''), headers, input, result from weir.runs where no = $1`
	askRecords   = `select n, kind, state, attempt, started_us, coalesce(took_us, 0), due_us, coalesce(pos, 0), coalesce(name, ''), headers, value, coalesce(reason, '')
		from weir.steps where run = $1 order by n`
	askStepAttempts = `select n, attempt, started_us, took_us, coalesce(reason, ''), coalesce(stack, '') from weir.step_attempts
		where run = $1 order by n, attempt, i limit $2`
	askWaits = `select w.n, t.name, coalesce(w.key, ''), coalesce(w.reply, 0), w.since_us
		from weir.waits w join weir.topics t on t.id = w.topic where w.run = $1 order by w.n`
	askMailOf = `select no, run, at_us, kind, n, coalesce(pos, 0), coalesce(child, 0), coalesce(fence, 0), coalesce(step, ''), value, failed,
			coalesce(who, ''), coalesce(why, ''), outcome, ended_us
		from weir.mail where run = $1 order by no`
	askFullNames = `select r.no, w.name || '/' || r.id from weir.runs r join weir.workflows w on w.id = r.workflow where r.no = any($1)`

	lockColumns   = ` name, fence, run, since_us `
	askLocks      = `select` + lockColumns + `from weir.locks order by name limit $1`
	askLocksNamed = `select` + lockColumns + `from weir.locks where name = any($1) order by name`
	askLocksOf    = `select name from weir.locks where run = $1 union select name from weir.lock_line where run = $1`
	askLines      = `select l.name, l.run, l.since_us from unnest($1::text[]) as n(name)
		cross join lateral (select * from weir.lock_line where name = n.name order by no limit $2) l order by l.name, l.no`

	askReplies = `select` + messageColumns + `, body from weir.messages where correlation = any($1) and topic = any($2)
		union all select` + messageColumns + `, body from weir.kept where correlation = any($1) and topic = any($2)
		order by 2 limit $3`
)

// runTeller tells a run's story.
type runTeller struct {
	t    *tx
	w    *scribe
	flow map[int64]string
	no   int64
	y    *store.RunStory
}

// Story is a run with all that happened to it.
func (r runReader) Story(ctx context.Context, workflow, id string) (store.RunStory, error) {
	var story store.RunStory
	err := r.s.read(ctx, func(t *tx) error {
		no, err := findRun(t, workflow, id)
		if err != nil {
			return err
		}
		r := &runTeller{t: t, no: no, y: &story}
		if r.flow, err = readFlow(t); err != nil {
			return err
		}
		if r.w, err = newScribe(t); err != nil {
			return err
		}
		return r.tell()
	})
	return story, err
}

func (r *runTeller) tell() error {
	y := r.y
	r.t.ask(askRunRows, func(read scan) (err error) {
		y.RunRow, err = seeRun(read, r.flow, r.t.now)
		return err
	}, []int64{r.no})
	r.t.ask(askRunInFull, func(read scan) error {
		return read(&y.Version, &y.Epoch, &y.Cause, &y.Correlation, &y.Headers, &y.Input, &y.Result)
	}, r.no)
	r.askRecords()
	r.askWaits()
	r.t.ask(askChildren, func(read scan) error {
		child, err := seeRun(read, r.flow, r.t.now)
		y.Children = append(y.Children, child)
		return err
	}, r.no, store.MaxList)
	if err := r.t.flush(); err != nil {
		return err
	}
	rows := []store.RunRow{y.RunRow}
	if err := addReasons(r.t, rows); err != nil {
		return err
	}
	y.RunRow = rows[0]
	if y.Parent != 0 {
		names, err := fullNames(r.t, []int64{int64(y.Parent)})
		if err != nil {
			return err
		}
		y.ParentID = names[y.Parent]
	}
	for _, part := range []func() error{r.mail, r.locks, r.late} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (r *runTeller) askRecords() {
	r.t.ask(askRecords, func(read scan) error {
		rec, err := seeRecord(read)
		r.y.Records = append(r.y.Records, rec)
		return err
	}, r.no)
	r.t.ask(askStepAttempts, func(read scan) error {
		var a store.StepAttempt
		var started *int64
		var us int64
		err := read(&a.N, &a.Attempt, &started, &us, &a.Reason, &a.Stack)
		a.StartedAt, a.Took = moment(started), took(us)
		r.y.Attempts = append(r.y.Attempts, a)
		return err
	}, r.no, store.MaxAttempts)
}

func seeRecord(read scan) (store.Record, error) {
	var rec store.Record
	var started, due *int64
	var us int64
	err := read(&rec.N, &rec.Kind, &rec.State, &rec.Attempt, &started, &us, &due, &rec.Pos, &rec.Name, &rec.Headers, &rec.Value, &rec.Reason)
	rec.StartedAt, rec.Took, rec.Due = moment(started), took(us), moment(due)
	return rec, err
}

func (r *runTeller) askWaits() {
	r.t.ask(askWaits, func(read scan) error {
		var w store.WaitRow
		var reply, since int64
		err := read(&w.N, &w.Topic, &w.Key, &reply, &since)
		if w.Since = at(since); reply != 0 {
			w.Key = r.t.s.lives().ID(store.Pos(reply))
		}
		r.y.Waits = append(r.y.Waits, w)
		return err
	}, r.no)
}

// fullNames are runs as "workflow/id", by number.
func fullNames(t *tx, numbers []int64) (map[store.RunNo]string, error) {
	names := map[store.RunNo]string{}
	return names, t.get(askFullNames, func(read scan) error {
		var no store.RunNo
		var name string
		err := read(&no, &name)
		names[no] = name
		return err
	}, numbers)
}

// carried is what a letter refers to.
type carried struct{ pos, child int64 }

// mail reads the unread mail with what it carries.
func (r *runTeller) mail() error {
	var loads []carried
	var positions, children []int64
	err := r.t.get(askMailOf, func(read scan) error {
		m, load, err := seeMail(read)
		r.y.Mail, loads = append(r.y.Mail, m), append(loads, load)
		if load.pos != 0 {
			positions = append(positions, load.pos)
		}
		if load.child != 0 {
			children = append(children, load.child)
		}
		return err
	}, r.no)
	if err != nil {
		return err
	}
	messages, err := r.w.read(positions, true)
	if err != nil {
		return err
	}
	ended, err := readEnds(r.t, children)
	for i, load := range loads {
		m := &r.y.Mail[i]
		if load.pos != 0 {
			m.Message = messages[load.pos]
		}
		if load.child != 0 && m.Child == nil {
			m.Child = ended[load.child]
		}
	}
	return err
}

// seeMail reads a letter. Of a child that is no more the letter itself tells the end.
func seeMail(read scan) (m store.Mail, load carried, err error) {
	var when int64
	var outcome, ended *int64
	err = read(&m.No, &m.Run, &when, &m.Kind, &m.N, &load.pos, &load.child, &m.Fence, &m.Step, &m.Value, &m.Failed, &m.By, &m.Why, &outcome, &ended)
	if m.At = at(when); outcome != nil {
		m.Child = &store.RunEnd{No: store.RunNo(load.child), ID: m.Step, Outcome: store.Outcome(*outcome), Result: m.Value, Reason: m.Why, EndedAt: moment(ended)}
		m.Step, m.Value, m.Why = "", nil, ""
	}
	return m, load, err
}

func (r *runTeller) locks() error {
	var names []string
	err := r.t.get(askLocksOf, func(read scan) error {
		var name string
		err := read(&name)
		names = append(names, name)
		return err
	}, r.no)
	if err == nil && len(names) > 0 {
		r.y.Locks, err = readLocks(r.t, askLocksNamed, names)
	}
	return err
}

// readLocks reads locks with those who wait for them.
func readLocks(t *tx, query string, arg any) ([]store.LockRow, error) {
	var out []store.LockRow
	var names []string
	var runs []int64
	err := t.get(query, func(read scan) error {
		var l store.LockRow
		var since int64
		err := read(&l.Name, &l.Fence, &l.Holder, &since)
		l.Since = at(since)
		out, names, runs = append(out, l), append(names, l.Name), append(runs, int64(l.Holder))
		return err
	}, arg)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	err = t.get(askLines, func(read scan) error {
		var name string
		var run store.RunNo
		var since int64
		err := read(&name, &run, &since)
		l := &out[slices.Index(names, name)]
		l.Waiters, runs = append(l.Waiters, store.LockWaiter{Run: run, Since: at(since)}), append(runs, int64(run))
		return err
	}, names, store.MaxList)
	if err != nil {
		return nil, err
	}
	full, err := fullNames(t, runs)
	for i := range out {
		out[i].HolderID = full[out[i].Holder]
		for j := range out[i].Waiters {
			out[i].Waiters[j].RunID = full[out[i].Waiters[j].Run]
		}
	}
	return out, err
}

// Locks lists the locks held, by name.
func (r runReader) Locks(ctx context.Context, max int) ([]store.LockRow, error) {
	var out []store.LockRow
	err := r.s.read(ctx, func(t *tx) error {
		var err error
		out, err = readLocks(t, askLocks, listMax(max))
		return err
	})
	return out, err
}

// lateReplies looks for a run's late replies.
type lateReplies struct {
	*runTeller
	asked map[store.Pos]time.Time // requests named by records, with when those were settled
	taken map[store.Pos]bool      // messages that the run has got
	waits map[string]bool         // requests whose replies it waits for
}

// lateReply is a reply, with when it came: SentAt may be of another store's clock.
type lateReply struct {
	store.Message
	came time.Time
}

// late finds the replies to the run's requests that it neither has got nor waits for.
// They are of the run's conversation, or of that of their request.
func (r *runTeller) late() error {
	var kinds []int64
	for id, topic := range r.w.topics {
		if topic.kind == store.KindReply {
			kinds = append(kinds, id)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	l := lateReplies{runTeller: r, asked: map[store.Pos]time.Time{}, taken: map[store.Pos]bool{}, waits: map[string]bool{}}
	l.known()
	alive := r.t.s.lives()
	roots := []string{r.y.Correlation}
	if r.y.Correlation == "" {
		roots = alive.RunIDs(store.RunNo(r.no))
	}
	for request := range l.asked {
		roots = append(roots, alive.ID(request))
	}
	var found []lateReply
	err := r.t.get(askReplies, func(read scan) error {
		var body []byte
		m, err := r.w.message(read, &body)
		if m.Body = body; !l.taken[m.Pos] && !l.waits[m.Cause] {
			l.taken[m.Pos] = true
			found = append(found, lateReply{m, r.w.came[m.Pos]})
		}
		return err
	}, roots, kinds, store.MaxList)
	if err != nil {
		return err
	}
	return l.judge(found)
}

func (l *lateReplies) known() {
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

// judge takes those replies that are to requests of this run. Where the record that was
// settled names the request and not the reply, it may have got this one.
func (l *lateReplies) judge(found []lateReply) error {
	alive := l.t.s.lives()
	var requests []int64
	for i := range found {
		if request, local := alive.Local(found[i].Cause); local {
			requests = append(requests, int64(request))
		}
	}
	asked, err := l.w.read(requests, false)
	if err != nil {
		return err
	}
	runs := alive.RunIDs(store.RunNo(l.no))
	for i := range found {
		m := &found[i]
		request, local := alive.Local(m.Cause)
		if !local {
			continue
		}
		settled, named := l.asked[request]
		a := asked[int64(request)]
		if named && m.came.After(settled) || !named && a != nil && slices.Contains(runs, a.Cause) {
			l.y.Late = append(l.y.Late, m.Message)
		}
	}
	return nil
}
