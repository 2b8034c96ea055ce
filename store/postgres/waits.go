package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-go/weir/store"
)

// A wait and a message that meets it find each other by the lock of the key: who sends
// with it, and who begins to wait for it, holds that until his transaction ends. So either
// the sender finds the wait, or the waiter, looking back, the message. Replies, which are
// found by what they reply to, need none: a request and the wait for its reply are of one
// transaction, unless the request repeats one sent before.
//
// A message of a caller's own transaction is not brought to anybody by that, which may stay
// open for long: it is put down among the arrived, and the next claim brings it (arrived.go).

// waits are what a transaction does to waits.
type waits struct {
	counts map[int64]map[int]bool // records that wait, by run
	found  []waiter               // waits that may be met by this transaction's messages
	met    map[waitID]bool        // of those, the ones that were there still
	looked map[waitID]int64       // the message that meets each of those
	begun  map[*store.Wait]*begun // waits that begin
	gone   map[waitID]bool        // to be deleted
	fresh  map[waitID]waitRow     // to be inserted
}

type waitID struct {
	run int64
	n   int
}

// waitRow is a wait as it is stored. reply is the position of the request, else key counts.
type waitRow struct {
	topic        int64
	key          string
	reply        int64
	since, after int64
}

// begun is a wait that begins. pos is of the message that meets it, 0: none yet.
type begun struct {
	waitID
	waitRow
	pos int64
}

// waiter is a wait that is there.
type waiter struct {
	waitID
	waitRow
	name string // the topic's
}

const (
	sqlWaiters = `select w.run, w.n, w.topic, coalesce(w.key, ''), coalesce(w.reply, 0), w.since_us, w.after_pos, t.name
		from unnest($1::text[], $2::text[]) as u(topic, key) join weir.topics t on t.name = u.topic
		join weir.waits w on w.topic = t.id and w.key = u.key
		union all
		select w.run, w.n, w.topic, '', w.reply, w.since_us, w.after_pos, t.name
		from unnest($3::text[], $4::bigint[]) as u(topic, reply) join weir.topics t on t.name = u.topic
		join weir.waits w on w.topic = t.id and w.reply = u.reply`
	sqlRecordsWaiting = `select run, n from weir.waits where run = any($1::bigint[])`
	sqlMeet           = `delete from weir.waits w using unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
			as u(run, n, topic, key, reply, since, after)
		where w.run = u.run and w.n = u.n and w.topic = u.topic and coalesce(w.key, '') = u.key and coalesce(w.reply, 0) = u.reply
		and w.since_us = u.since and w.after_pos = u.after returning w.run, w.n`
	// Written so that of the indexes only that of keys fits.
	sqlLookBack = `select u.i - 1, p.pos from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) with ordinality as u(topic, key, since, after, i)
		cross join lateral (select least(
			(select min((u.topic << 40) | m.seq) from weir.messages m where m.key = u.key and m.topic * 1 = u.topic
				and ((u.topic << 40) | m.seq) > u.after and m.sent_us >= u.since),
			(select min((u.topic << 40) | m.seq) from weir.kept m where m.key = u.key and m.topic * 1 = u.topic
				and ((u.topic << 40) | m.seq) > u.after and m.sent_us >= u.since)) as pos) p where p.pos is not null`
	sqlReplyTo = `select ($1::bigint << 40) | m.seq from (
			(select seq from weir.messages where topic = $1::bigint and seq > $2 and cause = $3 order by seq limit 1)
			union all (select seq from weir.kept where topic = $1::bigint and seq > $2 and cause = $3 order by seq limit 1)) m order by m.seq limit 1`
	sqlUnwait  = `delete from weir.waits w using unnest($1::bigint[], $2::int[]) as u(run, n) where w.run = u.run and w.n = u.n`
	sqlNewWait = `insert into weir.waits (run, n, topic, key, reply, since_us, after_pos)
		select u.run, u.n, u.topic, nullif(u.key, ''), nullif(u.reply, 0), u.since, u.after
		from unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
			as u(run, n, topic, key, reply, since, after)`
	sqlNoWaits = `delete from weir.waits where run = any($1::bigint[])`

	sqlReplies = `select pg_advisory_xact_lock($1)`
)

// askWaiters queues a look at the waits that messages may meet.
func (d *runDesk) askWaiters(sends []*store.Message) {
	var topics, keys, replyTopics []string
	var requests []int64
	seen := map[name]bool{}
	asked := map[[2]string]bool{}
	for _, m := range sends {
		if m.Kind == store.KindCommand || malformed(m) != nil {
			continue
		}
		if n := (name{m.Topic, m.Key}); m.Key != "" && !seen[n] {
			seen[n] = true
			topics, keys = append(topics, m.Topic), append(keys, m.Key)
		}
		if request, ok := d.s.lives().Local(m.Cause); ok && m.Kind == store.KindReply && !asked[[2]string{m.Topic, m.Cause}] {
			asked[[2]string{m.Topic, m.Cause}] = true
			replyTopics, requests = append(replyTopics, m.Topic), append(requests, int64(request))
		}
	}
	if len(keys) == 0 && len(requests) == 0 {
		return
	}
	if len(requests) > 0 && !d.lent {
		d.do(sqlShareProcess, d.s.lockNumber("replies"))
	}
	d.ask(sqlWaiters, func(read scan) error {
		var w waiter
		err := read(&w.run, &w.n, &w.topic, &w.key, &w.reply, &w.since, &w.after, &w.name)
		d.waits.found = append(d.waits.found, w)
		return err
	}, topics, keys, replyTopics, requests)
}

// askWaiting queues a look at what runs wait for already.
func (d *runDesk) askWaiting(runs []int64) {
	d.waits.counts = map[int64]map[int]bool{}
	d.ask(sqlRecordsWaiting, func(read scan) error {
		var id waitID
		err := read(&id.run, &id.n)
		if d.waits.counts[id.run] == nil {
			d.waits.counts[id.run] = map[int]bool{}
		}
		d.waits.counts[id.run][id.n] = true
		return err
	}, runs)
}

// refuseWaits says why waits cannot be met, or are too many.
func (d *runDesk) refuseWaits(ch *store.Change) error {
	u := ch.Run
	if len(u.Waits) > store.MaxWaits {
		return fmt.Errorf("%d waits in one update, at most %d", len(u.Waits), store.MaxWaits)
	}
	after := map[int]bool{}
	for n := range d.waits.counts[int64(u.No)] {
		after[n] = true
	}
	for _, n := range u.Unwait {
		delete(after, n)
	}
	for i := range u.Waits {
		w := &u.Waits[i]
		switch {
		case w.N < 1 || w.N > store.MaxRecords:
			return fmt.Errorf("wait of record %d: want a number from 1 to %d", w.N, store.MaxRecords)
		case w.Topic.Name == "" || w.Topic.Kind < store.KindEvent || w.Topic.Kind > store.KindSignal || !storable(w.Topic.Name):
			return fmt.Errorf("wait for topic %q as %s: want a name, and event, reply or signal", w.Topic.Name, w.Topic.Kind)
		case w.Reply < 0 || w.Reply > len(ch.Sends):
			return fmt.Errorf("wait for the reply to message %d of %d", w.Reply, len(ch.Sends))
		case w.Reply == 0 && (w.Key == "" || !storable(w.Key)):
			return errors.New("wait without a key, or with one that is no text that PostgreSQL can keep")
		}
		if k := d.s.topicOf(w.Topic.Name); k.kind != w.Topic.Kind || k.id == 0 {
			return fmt.Errorf("wait for %s as %s: it is declared as %s", w.Topic.Name, w.Topic.Kind, k.kind)
		}
		after[w.N] = true
	}
	if len(after) > store.MaxWaits {
		return fmt.Errorf("%d waits of one run, at most %d", len(after), store.MaxWaits)
	}
	if len(u.Waits) > 0 {
		d.waits.counts[int64(u.No)] = after
	}
	return nil
}

// wantMet has the runs locked whose waits the messages appended may meet.
func (d *runDesk) wantMet(appended []*store.Message) {
	if len(d.waits.found) == 0 {
		return
	}
	byKey, byCause := map[name][]*store.Message{}, map[name][]*store.Message{}
	for _, m := range appended {
		if m.Kind == store.KindCommand {
			continue
		}
		if m.Key != "" {
			byKey[name{m.Topic, m.Key}] = append(byKey[name{m.Topic, m.Key}], m)
		}
		if m.Kind == store.KindReply {
			byCause[name{m.Topic, m.Cause}] = append(byCause[name{m.Topic, m.Cause}], m)
		}
	}
	d.waits.looked = map[waitID]int64{}
	met := d.waits.found[:0]
	for _, w := range d.waits.found {
		messages := byKey[name{w.name, w.key}]
		if w.reply != 0 {
			messages = byCause[name{w.name, d.s.lives().ID(store.Pos(w.reply))}]
		}
		for _, m := range messages {
			if d.now >= w.since && int64(m.Pos) > w.after {
				d.waits.looked[w.waitID] = int64(m.Pos)
				met = append(met, w)
				d.want(w.run)
				d.need++
				break
			}
		}
	}
	d.waits.found = met
}

// takeMet queues the deletion of the waits that are met, when their runs are locked, and a
// look for lower messages that meet them: of callers' transactions.
func (d *runDesk) takeMet() {
	if len(d.waits.found) == 0 {
		return
	}
	d.waits.met = map[waitID]bool{}
	rows := map[waitID]waitRow{}
	for _, w := range d.waits.found {
		rows[w.waitID] = w.waitRow
	}
	c := waitColumnsOf(rows)
	d.ask(sqlMeet, func(read scan) error {
		var id waitID
		err := read(&id.run, &id.n)
		d.waits.met[id] = true
		return err
	}, c.runs, c.ns, c.topics, c.keys, c.replies, c.sinces, c.afters)
	var keyed []waitRow
	var ids []waitID
	for id, w := range rows {
		if w.reply == 0 {
			keyed, ids = append(keyed, w), append(ids, id)
		}
	}
	d.lookBack(keyed, func(i int, pos int64) { d.waits.looked[ids[i]] = pos })
}

// takeBegun queues a look for the messages that meet the waits that begin.
func (d *runDesk) takeBegun() {
	var keyed []waitRow
	var list []*begun
	for _, w := range d.waits.begun {
		if w.reply == 0 {
			keyed, list = append(keyed, w.waitRow), append(list, w)
		}
	}
	d.lookBack(keyed, func(i int, pos int64) { list[i].pos = pos })
}

// lookBack queues a look for the lowest messages that meet waits.
func (d *runDesk) lookBack(rows []waitRow, found func(i int, pos int64)) {
	if len(rows) == 0 {
		return
	}
	var topics, sinces, afters []int64
	var keys []string
	for _, w := range rows {
		topics, keys = append(topics, w.topic), append(keys, w.key)
		sinces, afters = append(sinces, w.since), append(afters, w.after)
	}
	d.ask(sqlLookBack, func(read scan) error {
		var i, pos int64
		err := read(&i, &pos)
		found(int(i), pos)
		return err
	}, topics, keys, sinces, afters)
}

// meet makes mail of the waits that are met, in the order of the messages.
func (d *runDesk) meet() {
	slices.SortFunc(d.waits.found, func(a, b waiter) int {
		return cmp.Or(cmp.Compare(seqOf(d.waits.looked[a.waitID]), seqOf(d.waits.looked[b.waitID])), cmp.Compare(a.run, b.run), cmp.Compare(a.n, b.n))
	})
	for _, w := range d.waits.found {
		if d.waits.met[w.waitID] {
			d.deliver(parcel{run: w.run, kind: store.Arrived, n: int64(w.n), pos: d.waits.looked[w.waitID]})
		}
	}
}

// unwait ends a record's wait.
func (d *runDesk) unwait(id waitID) {
	if d.waits.gone == nil {
		d.waits.gone = map[waitID]bool{}
	}
	d.waits.gone[id] = true
	delete(d.waits.fresh, id)
}

// wait begins a wait, or meets it at once.
func (d *runDesk) wait(w *begun) {
	d.unwait(w.waitID)
	if w.pos != 0 {
		d.deliver(parcel{run: w.run, kind: store.Arrived, n: int64(w.n), pos: w.pos})
		return
	}
	if d.waits.fresh == nil {
		d.waits.fresh = map[waitID]waitRow{}
	}
	d.waits.fresh[w.waitID] = w.waitRow
}

// writeWaits queues what becomes of waits.
func (d *runDesk) writeWaits(ended []int64) {
	if len(ended) > 0 {
		d.do(sqlNoWaits, ended)
		over := map[int64]bool{}
		for _, no := range ended {
			over[no] = true
		}
		for id := range d.waits.fresh {
			if over[id.run] {
				delete(d.waits.fresh, id)
			}
		}
	}
	if len(d.waits.gone) > 0 {
		rows := map[waitID]waitRow{}
		for id := range d.waits.gone {
			rows[id] = waitRow{}
		}
		c := waitColumnsOf(rows)
		d.do(sqlUnwait, c.runs, c.ns)
	}
	if len(d.waits.fresh) > 0 {
		c := waitColumnsOf(d.waits.fresh)
		d.do(sqlNewWait, c.runs, c.ns, c.topics, c.keys, c.replies, c.sinces, c.afters)
	}
}

// waitColumns are waits as arrays.
type waitColumns struct {
	runs, replies, sinces, afters []int64
	ns, topics                    []int32
	keys                          []string
}

func waitColumnsOf(rows map[waitID]waitRow) (c waitColumns) {
	for id, w := range rows {
		c.runs, c.ns, c.topics = append(c.runs, id.run), append(c.ns, int32(id.n)), append(c.topics, int32(w.topic))
		c.keys, c.replies = append(c.keys, w.key), append(c.replies, w.reply)
		c.sinces, c.afters = append(c.sinces, w.since), append(c.afters, w.after)
	}
	return c
}
