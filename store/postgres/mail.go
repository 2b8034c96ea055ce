package postgres

import (
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// parcel is mail on its way to a run.
type parcel struct {
	run   int64
	kind  store.MailKind
	n     int64 // the record that it is for
	pos   int64 // Arrived
	child int64 // ChildEnded
	fence int64 // Locked
}

// letterRow is mail with its number.
type letterRow struct {
	parcel
	no int64
}

const (
	sqlNewMail = `insert into weir.mail (no, run, at_us, kind, n, pos, child, fence)
		select u.no, u.run, $1, u.kind, u.n, nullif(u.pos, 0), nullif(u.child, 0), nullif(u.fence, 0)
		from unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[])
			as u(no, run, kind, n, pos, child, fence)`
	sqlDropMail = `delete from weir.mail m using unnest($1::bigint[], $2::bigint[]) as u(run, upto) where m.run = u.run and m.no <= u.upto`

	mailColumns = ` no, run, at_us, kind, n, coalesce(pos, 0), coalesce(child, 0), coalesce(fence, 0), coalesce(step, ''), value, failed,
			coalesce(who, ''), coalesce(why, ''), outcome, ended_us `
	sqlMailOfRuns = `select` + mailColumns + `from weir.mail where run = any($1::bigint[]) order by no`
	sqlMailNumber = `select` + mailColumns + `from weir.mail where no = any($1::bigint[]) order by no`
)

// deliver brings mail to a run whose row is locked: one that waits is ready now. Mail to
// a run that has ended, or is no more, is dropped.
func (d *runDesk) deliver(p parcel) {
	r := d.rows[p.run]
	if r == nil || !r.locked || r.over {
		return
	}
	l := letterRow{p, d.next()}
	d.letters = append(d.letters, l)
	r.mail = append(r.mail, letterMark{l.no, p.kind})
	switch {
	case runwake.WokenBy(r.wake, p.kind):
		d.wake(r.workflow)
		r.wake, r.woke = runwake.ReadySince(r.crashes, d.now), true
	case r.wake >= runwake.Leased && r.wake < runwake.Mail:
		d.wake(r.workflow)
	}
}

// read deletes a run's mail up to a number, also what this transaction has brought.
func (d *runDesk) read(r *runRow, upTo int64) {
	if len(r.mail) == 0 || r.mail[0].no > upTo {
		return
	}
	d.dropped = append(d.dropped, dropMail{r.no, upTo})
	r.mail = slices.DeleteFunc(slices.Clone(r.mail), func(m letterMark) bool { return m.no <= upTo })
	d.letters = slices.DeleteFunc(d.letters, func(l letterRow) bool { return l.run == r.no && l.no <= upTo })
}

// writeMail queues mail that is read, and mail that has come.
func (d *runDesk) writeMail() {
	if len(d.dropped) > 0 {
		var runs, upTos []int64
		for _, m := range d.dropped {
			runs, upTos = append(runs, m.run), append(upTos, m.upTo)
		}
		d.do(sqlDropMail, runs, upTos)
	}
	if len(d.letters) == 0 {
		return
	}
	var nos, runs, poss, children, fences []int64
	var kinds []int16
	var ns []int32
	for _, l := range d.letters {
		nos, runs, kinds, ns = append(nos, l.no), append(runs, l.run), append(kinds, int16(l.kind)), append(ns, int32(l.n))
		poss, children, fences = append(poss, l.pos), append(children, l.child), append(fences, l.fence)
	}
	d.do(sqlNewMail, d.now, nos, runs, kinds, ns, poss, children, fences)
}

// readLetters reads mail by a statement with mailColumns, with what it carries.
func readLetters(t *tx, query string, numbers []int64) ([]store.Mail, error) {
	var out []store.Mail
	var loads []carried
	var positions, children []int64
	err := t.get(query, func(read scan) error {
		m, load, err := seeMail(read)
		out, loads = append(out, m), append(loads, load)
		if load.pos != 0 {
			positions = append(positions, load.pos)
		}
		if load.child != 0 {
			children = append(children, load.child)
		}
		return err
	}, numbers)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	var messages map[int64]*store.Message
	if len(positions) > 0 {
		w, err := newScribe(t)
		if err != nil {
			return nil, err
		}
		if messages, err = w.read(positions, true); err != nil {
			return nil, err
		}
	}
	ended, err := readEnds(t, children)
	for i, load := range loads {
		if load.pos != 0 && messages[load.pos] != nil {
			m := *messages[load.pos] // each has its own
			out[i].Message = &m
		}
		if load.child != 0 && out[i].Child == nil && ended[load.child] != nil {
			e := *ended[load.child]
			out[i].Child = &e
		}
	}
	return out, err
}
