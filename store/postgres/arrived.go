package postgres

import (
	"context"
	"slices"

	"github.com/weir-go/weir/store"
)

const (
	sqlArrived    = `insert into weir.arrived (topic, seq) select * from unnest($1::int[], $2::bigint[])`
	sqlAnyArrived = `select exists (select 1 from weir.arrived)`
	sqlNewArrived = `select a.topic, a.seq, t.name, t.kind, coalesce(m.key, ''), coalesce(m.cause, ''), coalesce(m.sent_us, 0)
		from (select topic, seq from weir.arrived order by seq limit 500 for update skip locked) a
		join weir.topics t on t.id = a.topic left join lateral (
			select key, cause, sent_us from weir.messages where topic = a.topic and seq = a.seq
			union all select key, cause, sent_us from weir.kept where topic = a.topic and seq = a.seq limit 1) m on true order by a.seq`
	sqlBrought = `delete from weir.arrived where topic = any($1::int[]) and seq = any($2::bigint[])`
)

// noteArrived queues, in a caller's transaction, that runs wait for some of its messages.
func (d *runDesk) noteArrived(appended []*store.Message) {
	waited := map[name]bool{}
	for _, w := range d.waits.found {
		waited[name{w.name, w.key}] = true
	}
	var topics []int32
	var seqs []int64
	for _, m := range appended {
		if m.Kind == store.KindReply || m.Kind != store.KindCommand && m.Key != "" && waited[name{m.Topic, m.Key}] {
			topics, seqs = append(topics, int32(topicOf(int64(m.Pos)))), append(seqs, seqOf(int64(m.Pos)))
		}
	}
	if len(seqs) > 0 {
		d.do(sqlArrived, topics, seqs)
	}
}

// bringArrived brings messages of callers' transactions, which have been committed, to the
// runs that wait for them. Those whose keys others hold are left for the next time.
func (s *Store) bringArrived(ctx context.Context) error {
	return s.write(ctx, func(t *tx) error {
		t.again = true
		d := newDesk(t)
		var list []*store.Message
		var topics []int32
		var seqs []int64
		err := t.get(sqlNewArrived, func(read scan) error {
			m := &store.Message{Version: 1}
			var topic, seq, sent int64
			err := read(&topic, &seq, &m.Topic, &m.Kind, &m.Key, &m.Cause, &sent)
			m.Pos, m.SentAt = store.Pos(posOf(topic, seq)), at(sent)
			if sent == 0 { // it is nowhere, so nobody could read it
				topics, seqs = append(topics, int32(topic)), append(seqs, seq)
			} else {
				list = append(list, m)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(list)+len(seqs) == 0 {
			t.quit = true
			return nil
		}
		if list, err = d.takeKeys(list); err != nil {
			return err
		}
		d.askWaiters(list)
		if err := d.flush(); err != nil {
			return err
		}
		if d.wantMet(list); len(d.wanted) > 0 {
			d.lockWanted()
			d.takeMet()
			d.draw()
			if err := d.flush(); err != nil {
				return err
			}
			d.meet()
			d.writeRows()
			d.writeMail()
		}
		for _, m := range list {
			topics, seqs = append(topics, int32(topicOf(int64(m.Pos)))), append(seqs, seqOf(int64(m.Pos)))
		}
		t.do(sqlBrought, topics, seqs)
		return nil
	})
}

// takeKeys locks the keys of messages, and leaves out those that others hold.
func (d *runDesk) takeKeys(list []*store.Message) ([]*store.Message, error) {
	locks, busy := map[int64]bool{}, map[int64]bool{}
	lockOf := func(m *store.Message) int64 { return d.s.keyLock(m.Topic, m.Key) }
	var keys []int64
	for _, m := range list {
		if h := lockOf(m); m.Key != "" && !locks[h] {
			locks[h] = true
			keys = append(keys, h)
		}
	}
	slices.Sort(keys)
	err := d.get(sqlTryKeys, func(read scan) error {
		var h int64
		err := read(&h)
		busy[h] = true
		return err
	}, keys)
	return slices.DeleteFunc(list, func(m *store.Message) bool { return m.Key != "" && busy[lockOf(m)] }), err
}
