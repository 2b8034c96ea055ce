package sqlite

import (
	"cmp"
	"context"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
	"zombiezen.com/go/sqlite"
)

const (
	// What is leased when a process begins was left by one that is gone, uncleanly:
	// one that ends hands its runs back.
	sqlTakeRuns = `update weir_runs indexed by weir_runs_wake
		set crashes = crashes + 1, wake = ?3 - (min(crashes + 1, ?4) << ?5)
		where workflow in (select id from weir_workflows) and wake >= ?1 and wake < ?2`
	sqlHandBackRuns = `update weir_runs indexed by weir_runs_wake
		set wake = ?2 + case crashes when 0 then ?3 else -(min(crashes, ?4) << ?5) end
		where workflow in (select id from weir_workflows) and wake = ?1`

	sqlReadyRuns = `select no, wake from weir_runs indexed by weir_runs_wake
		where workflow = ?1 and wake >= ?2 and wake <= ?3 order by wake, no limit ?4`
	sqlCountReady = `select count(*) from (select 1 from weir_runs indexed by weir_runs_wake
		where workflow = ?1 and wake >= ?2 and wake <= ?3 limit ?4)`
	sqlNextWake = `select wake from weir_runs indexed by weir_runs_wake
		where workflow = ?1 and wake > ?2 and wake < ?3 order by wake limit 1`
	sqlLeaseRun = `update weir_runs set wake = ?2, epoch = epoch + 1 where no = ?1 and wake = ?3 and epoch = ?4`

	sqlLoadRun = `select id, version, epoch, crashes, started_us, deadline_us, parent, parent_step, cause, correlation, headers,
			coalesce(input, (select body from weir_run_bodies where id = weir_runs.no << 1))
		from weir_runs where no = ?1`
	sqlLoadSteps = `select id, kind, state, attempt, started_us, took_us, due_us, pos, name, headers, value, reason
		from weir_steps where id >= ?1 and id <= ?2 order by id`
)

// takeRuns makes what earlier processes left leased ready, with one crash more.
func (s *Store) takeRuns(c *conn, now int64) error {
	newest, _, err := c.number(sqlCounter, "mail")
	if err != nil {
		return err
	}
	s.held.reset(newest)
	return c.exec(sqlTakeRuns, runwake.Leased, runwake.Mail, now, runwake.CrashesMax, runwake.CrashBits)
}

// runClaim is one call of Claim for a workflow.
type runClaim struct {
	s        *Store
	request  store.ClaimRequest
	process  int64
	now      int64
	workflow int64

	candidates []candidate
	mailUpTo   int64 // the newest number of mail when the candidates were read
	newest     int64 // mail that is there, if any is
	more       bool
	claimed    store.Claimed
}

// candidate is a run that was ready when looked at.
type candidate struct {
	no, wake int64
	run      *store.Run
	lease    *lease
}

// claimRuns leases runs. As with messages, it looks first, and reads, on a read
// connection: what is ready is written by nobody, but that it may get mail.
func (s *Store) claimRuns(ctx context.Context, r store.ClaimRequest, process int64) (store.Claimed, error) {
	k := &runClaim{s: s, request: r, process: process, now: us(s.now())}
	if err := s.read(ctx, k.look); err != nil || k.workflow == 0 {
		return k.claimed, err
	}
	if len(k.candidates) == 0 && k.newest <= r.MailAfter {
		return k.claimed, nil
	}
	c, err := s.takeWriter(ctx)
	if err != nil {
		return store.Claimed{}, err
	}
	defer s.giveWriter(c)
	if err := s.transact(ctx, c, k.take); err != nil {
		return store.Claimed{}, err
	}
	k.keep()
	return k.claimed, nil
}

func (k *runClaim) look(c *conn) error {
	if err := checkLease(c, k.process); err != nil {
		return err
	}
	var err error
	if k.workflow, _, err = c.number(sqlWorkflow, k.request.Workflow); err != nil || k.workflow == 0 {
		return err
	}
	if k.newest, _, err = c.number(sqlNewestMail); err != nil {
		return err
	}
	if k.mailUpTo, _, err = c.number(sqlCounter, "mail"); err != nil {
		return err
	}
	if err := k.find(c); err != nil {
		return err
	}
	if err := k.load(c); err != nil {
		return err
	}
	if k.claimed.Suspects, err = k.countSuspects(c); err != nil {
		return err
	}
	return k.readNextDue(c)
}

// find lists what is ready and what is due, the longest ready first.
func (k *runClaim) find(c *conn) error {
	ready, due := runwake.Claimable(k.request.Suspects, k.now)
	for _, s := range [...]runwake.Span{ready, due} {
		err := c.query(sqlReadyRuns, []any{k.workflow, s.From, s.To, k.request.Max + 1}, func(st *sqlite.Stmt) error {
			k.candidates = append(k.candidates, candidate{no: st.ColumnInt64(0), wake: st.ColumnInt64(1)})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !k.request.Suspects {
		slices.SortFunc(k.candidates, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(runwake.Since(a.wake), runwake.Since(b.wake)), cmp.Compare(a.no, b.no))
		})
		k.cut()
	}
	return nil
}

func (k *runClaim) cut() {
	if len(k.candidates) > k.request.Max {
		k.candidates, k.more = k.candidates[:k.request.Max], true
	}
}

// load reads the candidates with their records and mail, as many as fit.
func (k *runClaim) load(c *conn) error {
	post := &postman{c: c, lives: k.s.lives()}
	records, bytes := 0, 0
	for i := range k.candidates {
		cand := &k.candidates[i]
		if err := k.loadRun(c, cand); err != nil {
			return err
		}
		var err error
		if cand.run.Records, err = loadSteps(c, cand.no); err != nil {
			return err
		}
		if i > 0 {
			records += len(cand.run.Records)
			bytes += weight(cand.run.Records)
		}
		if records > store.MaxClaimRecords || bytes > store.MaxClaimBytes {
			k.candidates, k.more = k.candidates[:i], true
			break
		}
		if k.newest == 0 {
			continue
		}
		if cand.run.Mail, err = post.letters(sqlMailOfRun, cand.no); err != nil {
			return err
		}
	}
	if k.request.Suspects {
		slices.SortStableFunc(k.candidates, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.run.Crashes, a.run.Crashes), cmp.Compare(runwake.Since(a.wake), runwake.Since(b.wake)))
		})
		k.cut()
	}
	return nil
}

// weight is how many bytes records hold.
func weight(records []*store.Record) int {
	n := 0
	for _, r := range records {
		n += len(r.Value) + len(r.Name) + len(r.Headers) + len(r.Reason)
	}
	return n
}

func (k *runClaim) loadRun(c *conn, cand *candidate) error {
	w := scribe{lives: k.s.lives()}
	return c.query(sqlLoadRun, []any{cand.no}, func(st *sqlite.Stmt) error {
		r := &store.Run{RunRef: store.RunRef{No: store.RunNo(cand.no), Epoch: st.ColumnInt64(2) + 1},
			Workflow: k.request.Workflow, ID: st.ColumnText(0), Version: st.ColumnInt(1), Crashes: st.ColumnInt(3),
			StartedAt: moment(st, 4), Deadline: moment(st, 5), Parent: store.RunNo(st.ColumnInt64(6)),
			Cause: w.reference(st, 8), Correlation: w.reference(st, 9), Headers: blob(st, 10), Input: blob(st, 11)}
		cand.run = r
		cand.lease = &lease{no: cand.no, epoch: r.Epoch, workflow: k.workflow, crashes: int64(r.Crashes),
			parent: int64(r.Parent), parentStep: st.ColumnInt64(7), waits: -1, ties: true}
		return nil
	})
}

func loadSteps(c *conn, run int64) ([]*store.Record, error) {
	var out []*store.Record
	err := c.query(sqlLoadSteps, []any{stepID(run, 0), stepID(run, stepMask)}, func(st *sqlite.Stmt) error {
		out = append(out, &store.Record{N: int(st.ColumnInt64(0) & stepMask),
			Kind: store.StepKind(st.ColumnInt64(1)), State: store.StepState(st.ColumnInt64(2)), Attempt: st.ColumnInt(3),
			StartedAt: moment(st, 4), Took: took(st.ColumnInt64(5)), Due: moment(st, 6), Pos: store.Pos(st.ColumnInt64(7)),
			Name: st.ColumnText(8), Headers: blob(st, 9), Value: blob(st, 10), Reason: st.ColumnText(11)})
		return nil
	})
	return out, err
}

// suspectsCounted bounds the count of suspects.
const suspectsCounted = 1_000

func (k *runClaim) countSuspects(c *conn) (int, error) {
	ready, due := runwake.Claimable(true, k.now)
	total := int64(0)
	for _, s := range [...]runwake.Span{ready, due} {
		n, _, err := c.number(sqlCountReady, k.workflow, s.From, s.To, suspectsCounted)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return int(total), nil
}

func (k *runClaim) readNextDue(c *conn) error {
	for _, class := range [...]int64{runwake.Until, runwake.UntilSuspect} {
		wake, found, err := c.number(sqlNextWake, k.workflow, class|k.now, class|(1<<runwake.Bits-1)+1)
		if err != nil {
			return err
		}
		if next := at(runwake.Since(wake)); found && (k.claimed.NextDue.IsZero() || next.Before(k.claimed.NextDue)) {
			k.claimed.NextDue = next
		}
	}
	return nil
}

// take leases, in the writer's transaction. A candidate that another claim was
// faster with is left out; its epoch tells, should it have been released again since.
func (k *runClaim) take(c *conn) error {
	if k.process != k.s.process.Load() { // it ended while this claim looked
		return errNotBegun
	}
	k.claimed.Runs = nil
	byNo := make(map[int64]*candidate, len(k.candidates))
	for i := range k.candidates {
		cand := &k.candidates[i]
		if err := c.exec(sqlLeaseRun, cand.no, runwake.LeasedBy(k.process), cand.wake, cand.run.Epoch-1); err != nil {
			return err
		}
		if c.changes() == 0 {
			k.more = true
			cand.lease = nil
			continue
		}
		byNo[cand.no] = cand
		k.claimed.Runs = append(k.claimed.Runs, cand.run)
	}
	k.claimed.More = k.more
	if k.request.Suspects {
		k.claimed.Suspects = max(k.claimed.Suspects-len(k.claimed.Runs), 0)
	}
	return k.takeMail(c, byNo)
}

// takeMail reads what has come since the look to those leased now, and what those
// leased before have not been told of.
func (k *runClaim) takeMail(c *conn, now map[int64]*candidate) error {
	post := &postman{c: c, lives: k.s.lives()}
	h := &k.s.held
	type mail struct{ no, run, kind int64 }
	var news []mail
	err := c.query(sqlMailAfter, []any{min(k.mailUpTo, h.mailSeen)}, func(st *sqlite.Stmt) error {
		news = append(news, mail{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)})
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range news {
		if cand := now[m.run]; cand != nil && m.no > k.mailUpTo {
			letters, err := post.letters(sqlMailNo, m.no)
			if err != nil {
				return err
			}
			cand.run.Mail = append(cand.run.Mail, letters...)
		}
		l := h.leases[m.run]
		if m.no > h.mailSeen && l != nil {
			l.mail = append(l.mail[:len(l.mail):len(l.mail)], letterMark{m.no, store.MailKind(m.kind)})
			h.mailed[l.no] = l
		}
		h.mailSeen = max(h.mailSeen, m.no)
	}
	return k.takeOlder(post)
}

// takeOlder reads the mail of the runs leased before.
func (k *runClaim) takeOlder(post *postman) error {
	h := &k.s.held
	var numbers []int64
	for _, l := range h.mailed {
		if l.workflow != k.workflow {
			continue
		}
		for _, m := range l.mail {
			if m.no > k.request.MailAfter {
				numbers = append(numbers, m.no)
			}
		}
	}
	slices.Sort(numbers)
	if len(numbers) > store.MaxList {
		numbers, k.claimed.More = numbers[:store.MaxList], true
	}
	for _, no := range numbers {
		m, err := post.letters(sqlMailNo, no)
		if err != nil {
			return err
		}
		k.claimed.Mail = append(k.claimed.Mail, m...)
	}
	return nil
}

// keep notes the leases once they are committed.
func (k *runClaim) keep() {
	for i := range k.candidates {
		l := k.candidates[i].lease
		if l == nil {
			continue
		}
		for _, m := range k.candidates[i].run.Mail {
			l.mail = append(l.mail, letterMark{m.No, m.Kind})
		}
		k.s.held.add(l)
	}
}
