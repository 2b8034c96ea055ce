package sqlite

import (
	"context"
	"fmt"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

const (
	sqlCountKept  = `select count(*) from weir_messages where pos > ?1 and pos < ?2`
	sqlQueueNamed = `select` + queueColumns + `from weir_queues where name = ?1`
	sqlSetQueue   = `update weir_queues set capacity = ?2, required = ?3, max_lag = ?4, on_dead = ?5 where id = ?1`
	sqlDeadKeys   = `select distinct key from weir_dead where queue = ?1 and key is not null`
)

// Declare implements store.Store.
func (s *Store) Declare(ctx context.Context, topics []store.Topic, queues []store.Queue) ([]store.QueueState, error) {
	states := make([]store.QueueState, len(queues))
	err := s.write(ctx, func(c *conn) error {
		d := declaration{appender: newAppender(c, s.lives(), s.now()), c: c}
		for _, t := range topics {
			if _, err := d.topic(t); err != nil {
				return err
			}
		}
		for _, q := range queues {
			if err := d.queue(q); err != nil {
				return fmt.Errorf("declare queue %s: %w", q.Name, err)
			}
		}
		for i, q := range queues {
			rows, err := readQueues(c, q.Name)
			if err != nil {
				return err
			}
			if err := rows[0].count(c); err != nil {
				return err
			}
			states[i] = rows[0].QueueState
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// declaration makes topics and queues with the appender's means.
type declaration struct {
	*appender
	c *conn
}

func (d *declaration) topic(want store.Topic) (*tail, error) {
	if want.Name == "" || want.Kind < store.KindCommand || want.Kind > store.KindSignal {
		return nil, fmt.Errorf("declare topic %q as %s: want a name, and command, event, reply or signal", want.Name, want.Kind)
	}
	t, err := d.tail(&store.Message{Topic: want.Name, Kind: want.Kind})
	if err != nil {
		return nil, err
	}
	if t.kind != want.Kind {
		return nil, fmt.Errorf("declare topic %s as %s: it is declared as %s", want.Name, want.Kind, t.kind)
	}
	if t.id == 0 {
		err = d.makeTopic(t)
	}
	return t, err
}

func (d *declaration) queue(want store.Queue) error {
	t, err := d.topic(want.Topic)
	if err != nil {
		return err
	}
	if want.Name == "" || want.Capacity < 0 || want.MaxLag < 0 || want.OnDead > store.Skip {
		return fmt.Errorf("want a name, a capacity and a maximum lag of 0 or more, and block, park or skip")
	}
	if t.kind == store.KindCommand && want.Name != t.name {
		return fmt.Errorf("a command's queue is named like its topic, %s", t.name)
	}
	var q *queueTail
	if err := d.readQueues(sqlQueueNamed, want.Name, func(row *queueTail) { q = row }); err != nil {
		return err
	}
	if q == nil {
		return d.subscribe(want, t)
	}
	if q.topic != t.id {
		return fmt.Errorf("the name is taken by a queue of another topic than %s", t.name)
	}
	if err := d.exec(sqlSetQueue, q.id, want.Capacity, want.Required, want.MaxLag, int64(want.OnDead)); err != nil {
		return err
	}
	return d.change(q, want.OnDead)
}

func (d *declaration) exec(query string, args ...any) error { return d.c.exec(query, args...) }

// subscribe makes an event's queue, and where it starts.
func (d *declaration) subscribe(want store.Queue, t *tail) error {
	after, before := idRange(t.id)
	start, base := max(t.lastPos, after), t.appended
	if want.FromEarliest {
		kept, _, err := d.c.number(sqlCountKept, after, before)
		if err != nil {
			return err
		}
		start, base = after, t.appended-kept
	}
	q := &queueTail{topic: t.id, name: want.Name, base: base, capacity: int64(want.Capacity),
		maxLag: int64(want.MaxLag), onDead: int64(want.OnDead)}
	if want.Required {
		q.required = 1
	}
	t.queues = append(t.queues, q)
	return d.makeQueue(q, t, start)
}

// change gives a queue another rule for keys with a dead message, and those who
// wait for one under the old rule what the new one says.
func (d *declaration) change(q *queueTail, onDead store.OnDead) error {
	if store.OnDead(q.onDead) == onDead {
		return nil
	}
	q.onDead = int64(onDead)
	var keys []string
	err := d.c.query(sqlDeadKeys, []any{q.id}, func(st *sqlite.Stmt) error {
		keys = append(keys, st.ColumnText(0))
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := resolve(d.c, q, key, d.now); err != nil {
			return err
		}
	}
	return d.exec(sqlCount, q.id, q.newDone, q.newGone, q.newDied)
}
