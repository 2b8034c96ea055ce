package sqlite

import (
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/runwake"
	"zombiezen.com/go/sqlite"
)

// parcel is mail on its way to a run.
type parcel struct {
	run   int64
	kind  store.MailKind
	n     int64 // the record that it is for
	pos   int64 // Arrived
	child int64 // ChildEnded
	fence int64 // Locked

	step    string
	value   []byte
	failed  bool
	by, why string
}

const (
	sqlWakeOf  = `select workflow, wake, crashes from weir_runs where no = ?1 and wake is not null`
	sqlSetWake = `update weir_runs set wake = ?2 where no = ?1`
	sqlNewMail = `insert into weir_mail (no, run, at_us, kind, n, pos, child, fence, step, value, failed, who, why)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)`
	sqlMailAfter  = `select no, run, kind from weir_mail where no > ?1 order by no`
	sqlDropMail   = `delete from weir_mail indexed by weir_mail_run where run = ?1 and no <= ?2`
	mailColumns   = ` no, run, at_us, kind, n, pos, child, fence, step, value, failed, who, why, outcome, ended_us `
	sqlMailOfRun  = `select` + mailColumns + `from weir_mail indexed by weir_mail_run where run = ?1 order by no`
	sqlMailNo     = `select` + mailColumns + `from weir_mail where no = ?1`
	sqlNewestMail = `select coalesce(max(no), 0) from weir_mail`
	sqlEndOf      = `select r.no, w.name, r.id, r.outcome, coalesce(r.result, (select body from weir_run_bodies where id = r.no << 1 | 1)),
			coalesce(r.reason, ''), r.ended_us
		from weir_runs r join weir_workflows w on w.id = r.workflow where r.no = ?1`
)

// deliver brings mail to a run: one that waits is ready now. Mail to a run that has
// ended, or is no more, is dropped.
func (b *runbook) deliver(p parcel) error {
	var l *lease
	if b.ours != nil {
		if err := b.collect(); err != nil {
			return err
		}
		if l = b.ours.leases[p.run]; l != nil && !l.over {
			no, err := b.post(p)
			if err == nil {
				b.hand(l, letterMark{no, p.kind})
			}
			return err
		}
	}
	var workflow, wake, crashes int64
	found := false
	err := b.j.rows(sqlWakeOf, []any{p.run}, []any{&workflow, &wake, &crashes}, func() error {
		found = true
		return nil
	})
	if err != nil || !found {
		return err
	}
	no, err := b.post(p)
	if err != nil {
		return err
	}
	if l != nil { // released by this transaction: its update is told
		l.mail = append(l.mail[:len(l.mail):len(l.mail)], letterMark{no, p.kind})
	}
	switch {
	case runwake.WokenBy(wake, p.kind):
		b.wake(workflow)
		return b.j.exec(sqlSetWake, p.run, runwake.ReadySince(crashes, b.now))
	case wake >= runwake.Leased && wake < runwake.Mail:
		b.wake(workflow)
	}
	return nil
}

// post writes the mail's row.
func (b *runbook) post(p parcel) (no int64, err error) {
	if no, err = b.next(&b.mails); err != nil {
		return 0, err
	}
	if b.ours != nil {
		b.ours.mailSeen = no
	}
	return no, b.j.exec(sqlNewMail, no, p.run, b.now, int64(p.kind), p.n, intOrNull(p.pos), intOrNull(p.child), intOrNull(p.fence),
		textOrNull(p.step), blobOrNull(p.value), p.failed, textOrNull(p.by), textOrNull(p.why))
}

func intOrNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// hand gives a lease the mark of mail that has come.
func (b *runbook) hand(l *lease, m letterMark) {
	b.save(l)
	l.mail = append(l.mail[:len(l.mail):len(l.mail)], m)
	b.ours.mailed[l.no] = l
	b.wake(l.workflow)
}

// collect gives the leases the marks of mail that others have brought since the
// last look: a caller's own transaction, an operator, another process.
func (b *runbook) collect() error {
	if b.collected {
		return nil
	}
	b.collected = true
	b.seenBefore = b.ours.mailSeen
	var no, run, kind int64
	return b.j.rows(sqlMailAfter, []any{b.ours.mailSeen}, []any{&no, &run, &kind}, func() error {
		b.ours.mailSeen = no
		if l := b.ours.leases[run]; l != nil {
			b.hand(l, letterMark{no, store.MailKind(kind)})
		}
		return nil
	})
}

// read deletes a run's mail up to a number.
func (b *runbook) read(l *lease, upTo int64) error {
	if len(l.mail) == 0 || l.mail[0].no > upTo {
		return nil
	}
	b.save(l)
	n := 0
	for n < len(l.mail) && l.mail[n].no <= upTo {
		n++
	}
	l.mail = l.mail[n:]
	if len(l.mail) == 0 {
		delete(b.ours.mailed, l.no)
	}
	return b.j.exec(sqlDropMail, l.no, upTo)
}

// postman reads mail with what it carries.
type postman struct {
	c     *conn
	lives lives.Lives
	w     *scribe // when first needed
}

// letters reads mail by a statement with mailColumns.
func (p *postman) letters(query string, args ...any) ([]store.Mail, error) {
	var out []store.Mail
	type carried struct{ pos, child int64 }
	var load []carried
	err := p.c.query(query, args, func(st *sqlite.Stmt) error {
		out = append(out, store.Mail{
			No: st.ColumnInt64(0), Run: store.RunNo(st.ColumnInt64(1)), At: moment(st, 2),
			Kind: store.MailKind(st.ColumnInt64(3)), N: st.ColumnInt(4), Fence: st.ColumnInt64(7),
			Step: st.ColumnText(8), Value: blob(st, 9), Failed: st.ColumnBool(10), By: st.ColumnText(11), Why: st.ColumnText(12),
		})
		load = append(load, carried{st.ColumnInt64(5), st.ColumnInt64(6)})
		if m := &out[len(out)-1]; !st.ColumnIsNull(13) { // the child is no more
			m.Child = &store.RunEnd{No: store.RunNo(st.ColumnInt64(6)), ID: m.Step, Outcome: store.Outcome(st.ColumnInt64(13)),
				Result: m.Value, Reason: m.Why, EndedAt: moment(st, 14)}
			m.Step, m.Value, m.Why = "", nil, ""
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, l := range load {
		if l.pos != 0 {
			if out[i].Message, err = p.message(l.pos); err != nil {
				return nil, err
			}
		}
		if l.child != 0 && out[i].Child == nil {
			if out[i].Child, err = p.end(l.child); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (p *postman) message(pos int64) (*store.Message, error) {
	if p.w == nil {
		topics, err := readTopics(p.c)
		if err != nil {
			return nil, err
		}
		p.w = &scribe{lives: p.lives, topics: topics}
	}
	return p.w.read(p.c, pos, true)
}

// end is how a run ended.
func (p *postman) end(no int64) (*store.RunEnd, error) {
	var end *store.RunEnd
	err := p.c.query(sqlEndOf, []any{no}, func(st *sqlite.Stmt) error {
		end = &store.RunEnd{No: store.RunNo(no), ID: st.ColumnText(2), Outcome: store.Outcome(st.ColumnInt64(3)),
			Result: blob(st, 4), Reason: st.ColumnText(5), EndedAt: moment(st, 6)}
		return nil
	})
	return end, err
}
