package postgres

import (
	"context"
	"fmt"

	"github.com/weir-go/weir/store"
)

const (
	sqlDeclareLock = `select pg_advisory_xact_lock($1)`
	sqlTopicsNamed = `select id, name, kind from weir.topics where name = any($1::text[])`
	sqlQueuesNamed = `select q.id, q.name, q.topic, t.name, q.on_dead from weir.queues q join weir.topics t on t.id = q.topic where q.name = any($1::text[])`
	sqlNewTopic    = `insert into weir.topics (name, kind) values ($1, $2) returning id`
	sqlSetQueue    = `update weir.queues set capacity = $2, required = $3, max_lag = $4, on_dead = $5 where id = $1`

	// In one statement, so that all is of one snapshot: what it shows of the topic came
	// before the subscription, or (from the earliest) nothing of it did.
	sqlNewQueue = `with t as (
			select t.topic as id, t.appended, t.topic::bigint << 40 as first, (select max(m.seq) from weir.messages m where m.topic = t.topic) as last
			from weir.topic_counts t where t.topic = $2),
		q as (
			insert into weir.queues (name, topic, start_pos, start_seen, base, capacity, required, max_lag, on_dead, sampled_sent)
			select $1::text, t.id, case when $7 then t.first else t.first | coalesce(t.last, 0) end,
				case when $7 then '1:1:'::pg_snapshot else pg_current_snapshot() end,
				case when $7 then t.appended - (select count(*) from weir.messages m where m.topic = t.id) else t.appended end,
				$3, $4, $5, $6, t.appended
			from t returning id, start_pos),
		l as (
			insert into weir.lanes (queue, lane) select q.id, g.lane from q, generate_series(0, 15) as g(lane))
		insert into weir.batches (queue, no, epoch, owner, state, high, masks, highs, seens, targets, uptos, beyond,
			lanes, open, claimed_us, done_us, manifest, bits, times)
		select q.id, 0, 0, 0, 2, q.start_pos, array[131071], array[q.start_pos], array[pg_current_snapshot()], array[null::pg_snapshot], array[0::bigint],
			case when $7 then '3'::xid8 end, 0, 0, $8, $8, '', '', '' from q returning queue`
	sqlDeadKeysOf = `select distinct key from weir.dead where queue = $1 and key is not null`
)

// takenError refuses a name that stands for something else.
type takenError struct{ what string }

func (e *takenError) Error() string { return e.what }

func taken(format string, args ...any) error { return &takenError{fmt.Sprintf(format, args...)} }

// Declare implements store.Store.
func (s *Store) Declare(ctx context.Context, topics []store.Topic, queues []store.Queue) ([]store.QueueState, error) {
	var states []store.QueueState
	err := s.write(ctx, func(t *tx) error {
		t.again = true
		d, err := s.newDeclaration(t, topics, queues)
		if err != nil {
			return err
		}
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
		states, err = s.statesOf(t, queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// statesOf is the queues' states, in their order.
func (s *Store) statesOf(t *tx, queues []store.Queue) ([]store.QueueState, error) {
	all, err := readStates(t)
	if err != nil {
		return nil, err
	}
	byName := map[string]store.QueueState{}
	for _, q := range all {
		byName[q.Name] = q
	}
	states := make([]store.QueueState, len(queues))
	for i, q := range queues {
		states[i] = byName[q.Name]
	}
	return states, nil
}

// declaration makes topics and queues, one process at a time.
type declaration struct {
	*tx
	topics map[string]*declaredTopic
	queues map[string]*declaredQueue
}

type declaredTopic struct {
	id   int64
	kind store.Kind
}

type declaredQueue struct {
	id, topic int64
	topicName string
	onDead    store.OnDead
}

func (s *Store) newDeclaration(t *tx, topics []store.Topic, queues []store.Queue) (*declaration, error) {
	d := &declaration{tx: t, topics: map[string]*declaredTopic{}, queues: map[string]*declaredQueue{}}
	var topicNames, queueNames []string
	for _, t := range topics {
		topicNames = append(topicNames, t.Name)
	}
	for _, q := range queues {
		topicNames, queueNames = append(topicNames, q.Topic.Name), append(queueNames, q.Name)
	}
	for _, n := range append(queueNames, topicNames...) {
		if !storable(n) {
			return nil, fmt.Errorf("declare %q: no text that PostgreSQL can keep", n)
		}
	}
	t.do(sqlDeclareLock, s.lockNumber("declare"))
	t.ask(sqlTopicsNamed, func(read scan) error {
		var name string
		var row declaredTopic
		err := read(&row.id, &name, &row.kind)
		d.topics[name] = &row
		return err
	}, topicNames)
	err := t.get(sqlQueuesNamed, func(read scan) error {
		var name string
		var row declaredQueue
		err := read(&row.id, &name, &row.topic, &row.topicName, &row.onDead)
		d.queues[name] = &row
		return err
	}, append(queueNames, topicNames...)) // a command's queue has its topic's name
	return d, err
}

func (d *declaration) topic(want store.Topic) (*declaredTopic, error) {
	if want.Name == "" || want.Kind < store.KindCommand || want.Kind > store.KindSignal {
		return nil, fmt.Errorf("declare topic %q as %s: want a name, and command, event, reply or signal", want.Name, want.Kind)
	}
	if t := d.topics[want.Name]; t != nil {
		if t.kind != want.Kind {
			return nil, taken("declare topic %s as %s: it is declared as %s", want.Name, want.Kind, t.kind)
		}
		return t, nil
	}
	if q := d.queues[want.Name]; q != nil && want.Kind == store.KindCommand {
		return nil, taken("queue %s of topic %s: the name is taken by a queue of topic %s", want.Name, want.Name, q.topicName)
	}
	t := &declaredTopic{kind: want.Kind}
	err := d.get(sqlNewTopic, func(read scan) error { return read(&t.id) }, want.Name, int(want.Kind))
	if err != nil {
		return nil, err
	}
	d.topics[want.Name] = t
	if want.Kind == store.KindCommand {
		err = d.subscribe(store.Queue{Name: want.Name, Topic: want, Capacity: capacityDefault, FromEarliest: true}, t)
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
	if t.kind == store.KindCommand && want.Name != want.Topic.Name {
		return fmt.Errorf("a command's queue is named like its topic, %s", want.Topic.Name)
	}
	q := d.queues[want.Name]
	if q == nil {
		return d.subscribe(want, t)
	}
	if q.topic != t.id {
		return taken("the name is taken by a queue of another topic than %s", want.Topic.Name)
	}
	d.do(sqlSetQueue, q.id, want.Capacity, want.Required, want.MaxLag, int(want.OnDead))
	return d.change(q, want.OnDead)
}

// subscribe makes a queue, and where it starts.
func (d *declaration) subscribe(want store.Queue, t *declaredTopic) error {
	if err := d.flush(); err != nil { // the time is needed
		return err
	}
	q := &declaredQueue{topic: t.id, topicName: want.Topic.Name, onDead: want.OnDead}
	err := d.get(sqlNewQueue, func(read scan) error { return read(&q.id) },
		want.Name, t.id, want.Capacity, want.Required, want.MaxLag, int(want.OnDead), want.FromEarliest, d.now)
	d.queues[want.Name] = q
	return err
}

// change gives a queue another rule for keys with a dead message, and those who
// wait for one under the old rule what the new one says.
func (d *declaration) change(q *declaredQueue, onDead store.OnDead) error {
	if q.onDead == onDead {
		return nil
	}
	q.onDead = onDead
	d.do(sqlQueueLock, d.s.queueLock(q.id))
	moved := map[queueKey]bool{}
	err := d.get(sqlDeadKeysOf, func(read scan) error {
		k := queueKey{queue: q.id}
		err := read(&k.key)
		moved[k] = true
		return err
	}, q.id)
	resolve(d.tx, moved)
	return err
}
