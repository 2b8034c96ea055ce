package postgres

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

const (
	sqlBatch = `select epoch, owner, state, open, claimed_us, manifest, bits, length(times) from weir.batches where queue = $1 and no = $2 for update`
	// beyond: the batch was seen before the transaction has got its number, which a claim gets with its first lock of a row.
	// Where that is not so, as when a process ends, nothing may be said: a commit of its own may be under way still.
	sqlTakeOver = `update weir.batches set epoch = $3, owner = $4, state = $5::smallint, open = $6, bits = $7, lanes = $8,
		done_us = case when $5::smallint = 2 then $9::bigint end, beyond = coalesce(beyond, pg_current_xact_id()), owners = owners || $10::bytea where queue = $1 and no = $2`

	sqlOldStarts = `select pos, process, started_us, lone from weir.starts where queue = $1 and pos = any($2::bigint[]) and process <> $3`
	sqlHistory   = `select pos, n, attempt, coalesce(started_us, 0), verdict from weir.attempts
		where queue = $1 and pos = any($2::bigint[]) order by pos, n`
	sqlCrashed = `insert into weir.attempts (queue, pos, n, attempt, started_us, took_us, verdict, reason, process)
		values ($1, $2, $3, $4, $5, 0, 'crashed', $6, $7) on conflict do nothing`
)

// takeOver leases what an earlier process left unsettled of a batch.
func (k *claim) takeOver(o openBatch) error {
	b := &leasedBatch{ref: store.BatchRef{Queue: k.request.Queue, No: o.no}}
	var manifest, set []byte
	var times int
	err := k.t.get(sqlBatch, func(read scan) error {
		return read(&b.epoch, &b.owner, &b.state, &b.open, &b.claimed, &manifest, &set, &times)
	}, k.queueID(), o.no)
	if err != nil {
		return err
	}
	b.bits = set
	if b.state == batchClosed { // by the last that its owner did
		k.claimed.More = true
		return nil
	}
	if b.manifest, err = batchrow.DecodeManifest(make([]int64, 0, store.MaxBatch), manifest); err != nil {
		return fmt.Errorf("batch %d of queue %d: %w", o.no, k.queueID(), err)
	}
	suspect, from := b.state == batchLeased, batchrow.AppendOwner(nil, b.owner, times)
	b.ref.Epoch = b.epoch + 1
	list, lanes, err := k.leaseRest(b)
	if err != nil {
		return err
	}
	state := batchLeased
	if len(list) == 0 {
		state = batchClosed
	} else {
		k.claimed.Batch = &store.Batch{BatchRef: b.ref, Suspect: suspect, ClaimedAt: at(k.t.now), Deliveries: list}
	}
	k.t.do(sqlTakeOver, k.queueID(), o.no, b.ref.Epoch, k.process, state, len(list), []byte(b.bits), lanes, k.t.now, from)
	if err := k.moreAfter(o.no); err != nil {
		return err
	}
	return k.finish(b.ref)
}

// leaseRest lists what of the batch is not settled, with its history. What has meanwhile got
// an earlier message of its key before it is filed behind that.
func (k *claim) leaseRest(b *leasedBatch) (list []store.Delivery, lanes int64, err error) {
	var rest []int // indices
	var positions []int64
	for i, pos := range b.manifest {
		if !b.bits.Has(i) {
			rest, positions = append(rest, i), append(positions, pos)
		}
	}
	if len(rest) == 0 {
		return nil, 0, nil
	}
	k.askKeys(&k.keys)
	messages, err := k.loadAll(positions)
	if err != nil {
		return nil, 0, err
	}
	histories, err := k.histories(positions)
	if err != nil {
		return nil, 0, err
	}
	keys := map[string]bool{}
	for _, m := range messages {
		if m != nil && m.Key != "" {
			keys[m.Key] = true
		}
	}
	if err := k.readBlockers(keys); err != nil {
		return nil, 0, err
	}
	for n, i := range rest {
		m, h := messages[n], histories[positions[n]]
		if m == nil {
			b.bits.Set(i)
			k.bury(positions[n], "", 0)
			continue
		}
		if k.behind(m) {
			b.bits.Set(i)
			if h != nil { // it waits as it was
				k.filed.asItWas(int64(m.Pos), h)
			}
			continue
		}
		d := store.Delivery{Message: m, Index: i, Attempt: 1}
		if h != nil {
			d.Attempt, d.Crashes, d.FirstAt = max(int(h.next), 1), int(h.crashes), at(h.first)
			k.watch = append(k.watch, watched{b.ref, i, len(b.manifest)})
		}
		list = append(list, d)
		lanes |= 1 << laneOf(m.Key)
	}
	return list, lanes, nil
}

// loadAll reads the messages at all positions; nil for those that are in no table any more.
// What was claimed together fits into memory together, or it was claimed late or edited.
func (k *claim) loadAll(positions []int64) ([]*store.Message, error) {
	var all []*store.Message
	for len(positions) > 0 {
		messages, err := k.load(positions)
		if err != nil {
			return nil, err
		}
		n, bytes := len(messages), 0
		for i, m := range messages {
			if m != nil {
				bytes += len(m.Body)
			} else if bytes >= loadMax {
				n = i
				break
			}
		}
		all, positions = append(all, messages[:n]...), positions[n:]
	}
	return all, nil
}

// history is what the attempts of a message in a queue amount to, since its last death.
type history struct {
	n, next, crashes, first int64 // next: the number of the next attempt
}

// histories reads them, after making a crash of each start that an earlier process did not
// live to settle, once. Only of one that ran alone: else any of those running may have been
// the cause.
func (k *claim) histories(positions []int64) (map[int64]*history, error) {
	type started struct {
		pos, process, at int64
		lone             bool
	}
	var starts []started
	k.t.ask(sqlOldStarts, func(read scan) error {
		var s started
		err := read(&s.pos, &s.process, &s.at, &s.lone)
		starts = append(starts, s)
		return err
	}, k.queueID(), positions, k.process)
	all, err := k.readHistories(positions)
	if err != nil || len(starts) == 0 {
		return all, err
	}
	var queues []int32
	var stopped []int64
	for _, s := range starts {
		queues, stopped = append(queues, int32(k.queueID())), append(stopped, s.pos)
		if !s.lone {
			continue
		}
		h := deref(all[s.pos])
		reason := fmt.Sprintf("process %d ended while this message ran alone", s.process)
		k.t.do(sqlCrashed, k.queueID(), s.pos, h.n+1, max(h.next, 1), s.at, reason, s.process)
	}
	k.t.do(sqlStop, queues, stopped)
	return k.readHistories(positions)
}

func (k *claim) readHistories(positions []int64) (map[int64]*history, error) {
	all := map[int64]*history{}
	err := k.t.get(sqlHistory, func(read scan) error {
		var pos, n, attempt, started int64
		var verdict string
		if err := read(&pos, &n, &attempt, &started, &verdict); err != nil {
			return err
		}
		h := all[pos]
		if h == nil {
			h = &history{}
			all[pos] = h
		}
		h.n = n
		if h.first == 0 {
			h.first = started
		}
		switch verdict {
		case "dead": // retried by a person: all begins anew
			*h = history{n: n}
		case "crashed":
			h.crashes++
		case "not-yet":
			h.next = attempt
		default:
			h.next = attempt + 1
		}
		return nil
	}, k.queueID(), positions)
	return all, err
}

// moreAfter says whether another claim would find work at once.
func (k *claim) moreAfter(no int64) error {
	for i := range k.open {
		b := &k.open[i]
		if b.no > no && b.abandoned() && k.tied(b.lanes&maskKeyed)&^(k.lanes.ours|k.lanes.free) == 0 {
			k.claimed.More = true
		}
	}
	if k.claimed.More || k.request.Abandoned {
		return nil
	}
	within, _ := k.cursor.split(k.lanes.mask | k.lanes.ours)
	l := k.look(within, 1)
	due := false
	err := k.t.get(sqlDue, func(scan) error {
		due = true
		return nil
	}, k.queueID(), k.t.now, k.lanes.mask|k.lanes.ours, 1)
	k.claimed.More = due || len(l.fresh) > 0
	for _, late := range l.late {
		k.claimed.More = k.claimed.More || len(late) > 0
	}
	return err
}
