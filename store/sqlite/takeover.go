package sqlite

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
	"zombiezen.com/go/sqlite"
)

const (
	sqlAsItWas  = `update weir_deferred set attempt = ?3, crashes = ?4, first_us = ?5 where queue = ?1 and pos = ?2`
	sqlTakeOver = `update weir_batches set epoch = ?2, owner = ?3, state = ?4, open = ?5, bits = ?6, done_us = ?7, owners = cast(owners || ?8 as blob) where id = ?1`

	sqlOldStarts = `select pos, process, started_us, lone from weir_starts where queue = ?1 and pos between ?2 and ?3 and process <> ?4`
	sqlCrashed   = `insert or replace into weir_attempts (queue, pos, n, attempt, started_us, took_us, verdict, reason, process)
		values (?1, ?2, ?3, ?4, ?5, 0, 'crashed', ?6, ?7)`
	sqlHistory = `select pos, n, attempt, coalesce(started_us, 0), verdict from weir_attempts
		where queue = ?1 and pos between ?2 and ?3 order by pos, n`
)

// takeOver leases what an earlier process left unsettled of a batch.
func (k *claim) takeOver(id int64) error {
	b := &leasedBatch{id: id}
	var manifest []byte
	times := 0
	err := k.c.query(sqlBatch, []any{id}, func(st *sqlite.Stmt) error {
		b.epoch, b.owner, b.state = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)
		b.open, b.claimed = st.ColumnInt64(3), st.ColumnInt64(4)
		manifest, b.bits, times = blob(st, 5), blob(st, 6), st.ColumnLen(7)
		return nil
	})
	if err != nil {
		return err
	}
	if b.manifest, err = batchrow.DecodeManifest(make([]int64, 0, store.MaxBatch), manifest); err != nil {
		return fmt.Errorf("batch %d of queue %d: %w", numberOf(id), k.q.id, err)
	}
	suspect, from := b.state == batchLeased, batchrow.AppendOwner(nil, b.owner, times)
	list, err := k.leaseRest(b)
	if err != nil {
		return err
	}
	b.epoch, b.owner, b.state, b.open = b.epoch+1, k.process, batchLeased, int64(len(list))
	done := any(nil)
	if len(list) == 0 {
		b.state, done = batchClosed, k.now
	}
	err = k.c.exec(sqlTakeOver, id, b.epoch, b.owner, b.state, b.open, []byte(b.bits), done, from)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		ref := store.BatchRef{Queue: k.request.Queue, No: numberOf(id), Epoch: b.epoch}
		k.claimed.Batch = &store.Batch{BatchRef: ref, Suspect: suspect, ClaimedAt: at(k.now), Deliveries: list}
	}
	return k.moreAfter(id)
}

// leaseRest lists what of the batch is not settled, with its history. What has
// meanwhile got an earlier message of its key before it is filed behind that.
func (k *claim) leaseRest(b *leasedBatch) ([]store.Delivery, error) {
	var rest []int // indices
	for i := range b.manifest {
		if b.bits.Has(i) {
			continue
		}
		found, err := k.loader.one(k.c, b.manifest[i])
		if err != nil {
			return nil, err
		}
		if !found {
			b.bits.Set(i)
			if err := k.bury(deferral{pos: b.manifest[i], attempt: 1}); err != nil {
				return nil, err
			}
			continue
		}
		rest = append(rest, i)
	}
	if len(rest) == 0 {
		return nil, nil
	}
	messages := k.loader.done()
	first, last := b.manifest[rest[0]], b.manifest[rest[len(rest)-1]]
	if err := k.countCrashes(first, last); err != nil {
		return nil, err
	}
	history, err := k.readHistory(first, last)
	if err != nil {
		return nil, err
	}
	f := &filing{c: k.c, q: k.q, now: k.now}
	if f.blockers, err = newBlockers(k.c, k.q); err != nil {
		return nil, err
	}
	list := make([]store.Delivery, 0, len(rest))
	for n, i := range rest {
		m := &messages[n]
		filed, err := f.behind(m)
		if err != nil {
			return nil, err
		}
		h, past := history[b.manifest[i]]
		if filed {
			b.bits.Set(i)
			if past { // it waits as it was
				if err := k.c.exec(sqlAsItWas, k.q.id, b.manifest[i], max(h.next, 1), h.crashes, timeOrNull(at(h.first))); err != nil {
					return nil, err
				}
			}
			continue
		}
		d := store.Delivery{Message: m, Index: i, Attempt: 1}
		if past {
			d.Attempt, d.Crashes, d.FirstAt = max(int(h.next), 1), int(h.crashes), at(h.first)
			k.watch = append(k.watch, watched{b.id, i, len(b.manifest)})
		}
		list = append(list, d)
	}
	return list, editDeliveries(k.c, k.q.id, list)
}

// countCrashes makes a crash of each start that an earlier process did not live
// to settle, once. Only of one that ran alone: else any of those running may
// have been the cause.
func (k *claim) countCrashes(first, last int64) error {
	type started struct{ pos, process, at, lone int64 }
	var starts []started
	err := k.c.query(sqlOldStarts, []any{k.q.id, first, last, k.process}, func(st *sqlite.Stmt) error {
		starts = append(starts, started{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3)})
		return nil
	})
	if err != nil || len(starts) == 0 {
		return err
	}
	history, err := k.readHistory(first, last)
	if err != nil {
		return err
	}
	for _, s := range starts {
		if err := k.c.exec(sqlStop, k.q.id, s.pos); err != nil {
			return err
		}
		if s.lone == 0 {
			continue
		}
		h := history[s.pos]
		reason := fmt.Sprintf("process %d ended while this message ran alone", s.process)
		err := k.c.exec(sqlCrashed, k.q.id, s.pos, h.n+1, max(h.next, 1), s.at, reason, s.process)
		if err != nil {
			return err
		}
	}
	return nil
}

// history is what the attempts of a message in a queue amount to, since its last death.
type history struct {
	n, next, crashes, first int64 // next: the number of the next attempt
}

func (k *claim) readHistory(first, last int64) (map[int64]history, error) {
	all := map[int64]history{}
	err := k.c.query(sqlHistory, []any{k.q.id, first, last}, func(st *sqlite.Stmt) error {
		pos := st.ColumnInt64(0)
		h := all[pos]
		h.n = st.ColumnInt64(1)
		attempt, started := st.ColumnInt64(2), st.ColumnInt64(3)
		if h.first == 0 {
			h.first = started
		}
		switch st.ColumnText(4) {
		case "dead": // retried by a person: all begins anew
			h = history{n: h.n}
		case "crashed":
			h.crashes++
		case "not-yet":
			h.next = attempt
		default:
			h.next = attempt + 1
		}
		all[pos] = h
		return nil
	})
	return all, err
}

// moreAfter reports whether another claim would find work at once.
func (k *claim) moreAfter(id int64) error {
	next, err := k.s.abandonedBatch(k.c, k.process, k.queueID(), id)
	if err != nil {
		return err
	}
	if next != 0 {
		k.claimed.More = true
		return nil
	}
	if k.request.Abandoned {
		return nil
	}
	end, err := readCursor(k.c, k.q.id)
	if err != nil {
		return err
	}
	due, _, err := k.due(k.c)
	k.claimed.More = len(due) > 0 || end.high < k.row.lastPos
	return err
}
