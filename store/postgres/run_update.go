package postgres

import (
	"errors"
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

func checkUpdate(u *store.RunUpdate) error {
	for _, r := range u.Records {
		switch {
		case r == nil:
			return errors.New("a record is nil")
		case r.N < 1 || r.N > store.MaxRecords:
			return fmt.Errorf("record %d: want a number from 1 to %d", r.N, store.MaxRecords)
		case !storable(r.Name):
			return fmt.Errorf("record %d: its name %q is no text that PostgreSQL can keep", r.N, r.Name)
		}
		if err := tooLong("value", r.Value); err != nil {
			return fmt.Errorf("record %d: %w", r.N, err)
		}
	}
	for i := range u.Attempts {
		if n := u.Attempts[i].N; n < 1 || n > store.MaxRecords {
			return fmt.Errorf("attempt of record %d: want a number from 1 to %d", n, store.MaxRecords)
		}
	}
	if len(u.Locks) > store.MaxLocks {
		return fmt.Errorf("%d acts on locks in one update, at most %d", len(u.Locks), store.MaxLocks)
	}
	for i := range u.Locks {
		if a := &u.Locks[i]; a.Name == "" || len(a.Name) > store.MaxRunID || !storable(a.Name) {
			return fmt.Errorf("the name of a lock, %q, has %d bytes, want 1 to %d, in UTF-8 and without NUL", a.Name, len(a.Name), store.MaxRunID)
		}
	}
	if err := tooLong("result", u.Result); err != nil {
		return err
	}
	if u.Verdict > store.Ended {
		return fmt.Errorf("verdict %d: unknown", u.Verdict)
	}
	if u.Verdict == store.Ended && (u.Outcome < store.Completed || u.Outcome > store.Cancelled) {
		return fmt.Errorf("ended with outcome %d: want completed, failed or cancelled", u.Outcome)
	}
	return nil
}

// refuseUpdate refuses an update whose run this process does not hold under its epoch,
// and what no state of the store would make right.
func (d *runDesk) refuseUpdate(ch *store.Change) error {
	u := ch.Run
	r := d.rows[int64(u.No)]
	if d.process == 0 || r == nil || r.over || r.freed || r.wake != runwake.LeasedBy(d.process) || r.epoch != u.Epoch {
		return store.ErrFenced
	}
	refused := checkUpdate(u)
	if refused == nil && (len(u.Waits) > 0 || len(u.Unwait) > 0) {
		refused = d.refuseWaits(ch)
	}
	if refused != nil {
		return fmt.Errorf("update run number %d: %w", u.No, refused)
	}
	return nil
}

// tied reports whether an update changes more than its records: then its run's row is locked.
func tied(u *store.RunUpdate) bool {
	return u.Verdict != store.Leased || u.Sober || len(u.Waits)+len(u.Unwait)+len(u.Locks) > 0
}

// wantFor has locked what an update changes, and counts the numbers that it may need. A
// later update in the group, of a run that this one releases, meets the fence.
func (d *runDesk) wantFor(u *store.RunUpdate) {
	r := d.rows[int64(u.No)]
	if tied(u) {
		d.want(r.no)
	}
	d.need += len(u.Waits) + 2*len(u.Locks)
	if u.Verdict == store.Leased {
		return
	}
	r.freed = true
	if u.Verdict != store.Ended {
		d.look = true // for its mail
	} else {
		if r.parent != 0 {
			d.want(r.parent)
			d.need++
		}
		for _, line := range d.locks.lines { // it may be given all it waits for, and pass it on
			for _, p := range line {
				if p.run == r.no {
					d.need += 2
				}
			}
		}
		for _, l := range d.locks.held {
			if l.run == r.no {
				d.need += 2
			}
		}
	}
}

// release carries out the verdict.
func (d *runDesk) release(u *store.RunUpdate, r *runRow) {
	if u.Sober && r.crashes > 0 {
		r.crashes, r.sober = 0, true
	}
	switch u.Verdict {
	case store.Leased:
		return
	case store.Ended:
		d.end(u, r)
		return
	}
	wake := runwake.WaitingUntil(r.crashes, u.Wake)
	if u.Verdict == store.Parked {
		wake, r.reason = runwake.Parked, textOrNull(reasonOf(u.Reason))
	}
	for _, m := range r.mail {
		if runwake.WokenBy(wake, m.kind) {
			wake = runwake.ReadySince(r.crashes, d.now)
		}
	}
	if wake < runwake.UntilSuspect && wake <= d.now || wake >= runwake.Ready && wake < runwake.Leased {
		d.wake(r.workflow)
	}
	r.wake, r.released = wake, true
}

// end ends a run: its parent is told, and all that it waited for or held is gone.
func (d *runDesk) end(u *store.RunUpdate, r *runRow) {
	d.read(r, 1<<63-1)
	r.over, r.ending = true, u
	d.endedBy(r.workflow, u.Outcome)
	d.leaveLocks(r.no)
	if r.parent != 0 {
		d.deliver(parcel{run: r.parent, kind: store.ChildEnded, n: r.parentStep, child: r.no})
	}
}

const (
	sqlNewSteps = `insert into weir.steps (run, n, kind, state, attempt, started_us, took_us, due_us, pos, name, headers, value, reason)
		select u.run, u.n, u.kind, u.state, u.attempt, nullif(u.started, 0), nullif(u.took, 0), nullif(u.due, 0), nullif(u.pos, 0),
			u.name, u.headers, u.value, nullif(u.reason, '')
		from unnest($1::bigint[], $2::int[], $3::smallint[], $4::smallint[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
			$10::text[], $11::bytea[], $12::bytea[], $13::text[])
			as u(run, n, kind, state, attempt, started, took, due, pos, name, headers, value, reason)
		on conflict (run, n) do update set kind = excluded.kind, state = excluded.state, attempt = excluded.attempt,
			started_us = excluded.started_us, took_us = excluded.took_us, due_us = excluded.due_us, pos = excluded.pos,
			name = excluded.name, headers = excluded.headers, value = excluded.value, reason = excluded.reason`
	sqlNewStepAttempts = `insert into weir.step_attempts (run, n, i, attempt, started_us, took_us, reason, stack)
		select u.run, u.n, (select coalesce(max(a.i), 0) from weir.step_attempts a where a.run = u.run and a.n = u.n)
				+ row_number() over (partition by u.run, u.n order by u.ord),
			u.attempt, nullif(u.started, 0), u.took, nullif(u.reason, ''), nullif(u.stack, '')
		from unnest($1::bigint[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
			with ordinality as u(run, n, attempt, started, took, reason, stack, ord)`
)

// stepColumns are records as arrays. Of several that have one place the last counts.
type stepColumns struct {
	runs, started, took, due, pos []int64
	ns, attempts                  []int32
	kinds, states                 []int16
	names, reasons                []string
	headers, values               [][]byte
}

func (c *stepColumns) add(run int64, r *store.Record) {
	c.runs, c.ns = append(c.runs, run), append(c.ns, int32(r.N))
	c.kinds, c.states, c.attempts = append(c.kinds, int16(r.Kind)), append(c.states, int16(r.State)), append(c.attempts, int32(r.Attempt))
	c.started, c.took = append(c.started, us(r.StartedAt)), append(c.took, r.Took.Microseconds())
	c.due, c.pos = append(c.due, us(r.Due)), append(c.pos, int64(r.Pos))
	c.names, c.reasons = append(c.names, r.Name), append(c.reasons, reasonOf(r.Reason))
	c.headers, c.values = append(c.headers, r.Headers), append(c.values, r.Value)
}

// writeSteps queues the records of updates. Their closures may have set values.
func (d *runDesk) writeSteps(updates []*store.Change) error {
	last := map[waitID]*store.Record{}
	for _, ch := range updates {
		for _, r := range ch.Run.Records {
			if err := tooLong("value", r.Value); err != nil {
				return &closureError{ch, fmt.Errorf("update run number %d: record %d: %w", ch.Run.No, r.N, err)}
			}
			last[waitID{int64(ch.Run.No), r.N}] = r
		}
	}
	var c stepColumns
	flush := func() {
		if len(c.runs) > 0 {
			d.do(sqlNewSteps, c.runs, c.ns, c.kinds, c.states, c.attempts, sparse(c.started), sparse(c.took), sparse(c.due), sparse(c.pos),
				c.names, sparseBytes(c.headers), sparseBytes(c.values), sparse(c.reasons))
		}
		c = stepColumns{}
	}
	for _, ch := range updates {
		for _, r := range ch.Run.Records {
			if run := int64(ch.Run.No); last[waitID{run, r.N}] == r {
				delete(last, waitID{run, r.N}) // should the same be there twice
				c.add(run, r)
			}
			if len(c.runs) == rowsMost {
				flush()
			}
		}
	}
	flush()
	d.writeStepAttempts(updates)
	return nil
}

func (d *runDesk) writeStepAttempts(updates []*store.Change) {
	var runs, started, took []int64
	var ns, attempts []int32
	var reasons, stacks []string
	for _, ch := range updates {
		for i := range ch.Run.Attempts {
			a := &ch.Run.Attempts[i]
			runs, ns, attempts = append(runs, int64(ch.Run.No)), append(ns, int32(a.N)), append(attempts, int32(a.Attempt))
			started, took = append(started, us(a.StartedAt)), append(took, a.Took.Microseconds())
			reasons, stacks = append(reasons, reasonOf(a.Reason)), append(stacks, cut(a.Stack, store.MaxStack))
		}
	}
	if len(runs) > 0 {
		d.do(sqlNewStepAttempts, runs, ns, attempts, started, took, reasons, stacks)
	}
}
