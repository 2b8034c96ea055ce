package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// Most records are written once, when their step is done. An insert that may meet an earlier
// one costs the server three times as much as a COPY. So a process remembers of each run that
// it leases the highest record there is: what is above that is new. Should it be wrong, the
// transaction fails, and is tried again with inserts that bear with earlier records.

const (
	sqlCopySteps = `copy weir.steps (run, n, kind, state, attempt, started_us, took_us, due_us, pos, name, headers, value, reason)
		from stdin (format binary)`
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

// written are the highest records of runs that this process leases, by the run's number.
type written map[int64]int

// know notes a run's records, when it is leased.
func (w written) know(run int64, records []*store.Record) {
	high := 0
	for _, r := range records {
		high = max(high, r.N)
	}
	w[run] = high
}

// note notes an update that is committed.
func (w written) note(u *store.RunUpdate) {
	high, known := w[int64(u.No)]
	switch {
	case u.Verdict != store.Leased:
		delete(w, int64(u.No))
	case known:
		for _, r := range u.Records {
			high = max(high, r.N)
		}
		w[int64(u.No)] = high
	}
}

// isNew picks those records of updates that are new for sure.
func (s *Store) isNew(updates []*store.Change) map[*store.Record]bool {
	found := map[*store.Record]bool{}
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	for _, ch := range updates {
		high, known := s.runs.written[int64(ch.Run.No)]
		for _, r := range ch.Run.Records {
			if known && r.N > high {
				found[r] = true
			}
		}
	}
	return found
}

// hadSteps reports whether a transaction failed since a record that was taken for new is there.
func hadSteps(err error) bool {
	fault, ok := errors.AsType[*pgconn.PgError](err)
	return ok && fault.Code == uniqueViolation && fault.ConstraintName == "steps_pkey"
}

// copyStepsMin is from how many records on COPY is worth its round trip.
const copyStepsMin = 32

// writeSteps writes the records of updates, or queues that. Their closures may have set values.
func (d *runDesk) writeSteps(updates []*store.Change) error {
	last := map[waitID]*store.Record{}
	for _, ch := range updates {
		for _, r := range ch.Run.Records {
			if err := checks.TooLong("value", r.Value); err != nil {
				return &closureError{ch, fmt.Errorf("update run number %d: record %d: %w", ch.Run.No, r.N, err)}
			}
			last[waitID{int64(ch.Run.No), r.N}] = r
		}
	}
	var fresh map[*store.Record]bool
	wire, copies := d.w.(copier)
	if copies && !d.doubtful && len(last) >= copyStepsMin {
		fresh = d.s.isNew(updates)
	}
	var added, others stepColumns
	for _, ch := range updates {
		for _, r := range ch.Run.Records {
			run := int64(ch.Run.No)
			if last[waitID{run, r.N}] != r {
				continue
			}
			delete(last, waitID{run, r.N}) // should the same be there twice
			if fresh[r] {
				added.add(run, r)
				continue
			}
			if others.add(run, r); len(others.runs) == rowsMost {
				others.write(d)
			}
		}
	}
	others.write(d)
	d.writeStepAttempts(updates)
	if len(added.runs) == 0 {
		return nil
	}
	return added.copy(d, wire)
}

// write queues the records, and forgets them.
func (c *stepColumns) write(d *runDesk) {
	if len(c.runs) > 0 {
		d.do(sqlNewSteps, c.runs, c.ns, c.kinds, c.states, c.attempts, sparse(c.started), sparse(c.took), sparse(c.due), sparse(c.pos),
			c.names, sparseBytes(c.headers), sparseBytes(c.values), sparse(c.reasons))
	}
	*c = stepColumns{}
}

const stepColumnsCopied = 13

// copy sends the records by COPY, ahead of what is queued.
func (c *stepColumns) copy(d *runDesk, wire copier) error {
	size := len(copyHeader) + 2
	for i := range c.runs {
		size += 2 + stepColumnsCopied*4 + 52 + len(c.names[i]) + len(c.headers[i]) + len(c.values[i]) + len(c.reasons[i])
	}
	b := append(make([]byte, 0, size), copyHeader...)
	for i, run := range c.runs {
		b = binary.BigEndian.AppendUint16(b, stepColumnsCopied)
		b = appendInt4(appendInt8(b, run), uint32(c.ns[i]))
		b = appendInt2(appendInt2(b, uint16(c.kinds[i])), uint16(c.states[i]))
		b = appendInt4(b, uint32(c.attempts[i]))
		for _, n := range [...]int64{c.started[i], c.took[i], c.due[i], c.pos[i]} {
			if n == 0 {
				b = appendNull(b)
			} else {
				b = appendInt8(b, n)
			}
		}
		b = appendText(b, c.names[i])
		for _, v := range [...][]byte{c.headers[i], c.values[i]} {
			if v == nil {
				b = appendNull(b)
			} else {
				b = appendBytes(b, v)
			}
		}
		b = appendText(b, c.reasons[i])
	}
	b = binary.BigEndian.AppendUint16(b, 0xffff) // the end
	_, err := wire.pgConn().CopyFrom(d.ctx, bytes.NewReader(b), d.s.text(sqlCopySteps))
	return outage(d.ctx, err)
}

func appendInt2(b []byte, n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), n)
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
