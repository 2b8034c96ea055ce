package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
)

// appender appends messages in one transaction. It holds the counters that the
// transaction reads once and writes back once: the store's sequence number, and
// of each topic touched its tail.
type appender struct {
	j     journal
	lives lives.Lives
	now   int64

	seq   int64
	first int64 // seq before the transaction
	tails map[string]*tail
	last  *tail // of the message before: neighbours share it
	// queues holds those of the topics touched, and those whose deliveries the transaction settles.
	queues   map[int64]*queueTail
	appended []*store.Message
	flushed  int // of appended
	repeated []*store.Message
	// origins are the messages of appended that have one, by its ID.
	origins  map[string]*store.Message
	entities map[string]*entity // by name
}

// tail is the end of a topic.
type tail struct {
	id       int64 // 0: not yet made
	name     string
	kind     store.Kind
	appended int64
	lastPos  int64
	before   int64 // lastPos before the transaction
	had      int64 // appended before it
	queues   []*queueTail
	dirty    bool
	free     bool // not yet made, and no queue has its name
	asked    bool // whether runs wait for its messages:
	awaited  int64
}

// queueTail is a queue with its counters.
type queueTail struct {
	id, topic        int64
	name             string
	base, done, gone int64
	capacity, maxLag int64
	required, onDead int64
	parked, paused   int64

	wanted                    int64               // by the change under decision
	newDone, newGone, newDied int64               // since the transaction began
	keys                      *keyring            // nil until a keyed delivery is settled
	moved                     map[string]struct{} // keys whose followers may have to move
}

const (
	sqlSeq       = `select v from weir_meta where k = 'seq'`
	sqlSetSeq    = `update weir_meta set v = ?1 where k = 'seq'`
	sqlTopic     = `select id, kind, appended, last_pos from weir_topics where name = ?1`
	sqlNewTopic  = `insert into weir_topics (name, kind) values (?1, ?2) returning id`
	sqlSetTopic  = `update weir_topics set appended = ?2, last_pos = ?3 where id = ?1`
	queueColumns = ` id, topic, name, base, done, gone, capacity, max_lag, required, on_dead,
		coalesce(parked_us, 0), coalesce(paused_us, 0) `
	sqlTopicQueues = `select` + queueColumns + `from weir_queues where topic = ?1`
	sqlQueueByID   = `select` + queueColumns + `from weir_queues where id = ?1`
	sqlPark        = `update weir_queues set parked_us = ?2 where id = ?1`
	sqlNewQueue    = `insert into weir_queues (name, topic, start_pos, base, capacity, required, max_lag, on_dead, sampled_sent)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) returning id`
	sqlFirstBatch = `insert into weir_batches (id, epoch, owner, state, high, open, claimed_us, done_us, manifest, bits, times)
		values (?1, 0, 0, 2, ?2, 0, ?3, ?3, x'', x'', x'')`
	sqlNameTaken = `select t.name from weir_queues q join weir_topics t on t.id = q.topic where q.name = ?1`
)

// capacityDefault is a command queue's until Declare says otherwise.
const capacityDefault = 100_000

func newAppender(j journal, l lives.Lives, now time.Time) *appender {
	return &appender{j: j, lives: l, now: us(now), tails: map[string]*tail{}, queues: map[int64]*queueTail{}}
}

// append takes a change's sends, all or none. refused says why none; nothing of
// them is written then. The rows themselves are written by flush.
func (a *appender) append(sends []*store.Message, outside bool) (refused, err error) {
	if len(sends) == 0 {
		return nil, nil
	}
	if len(sends) > store.MaxSends {
		return fmt.Errorf("%d messages in one change, at most %d", len(sends), store.MaxSends), nil
	}
	if err := a.begin(); err != nil {
		return nil, err
	}
	unique := false
	for _, m := range sends {
		if m.Topic == "" || m.Version < 1 || m.Kind < store.KindCommand || m.Kind > store.KindSignal {
			return fmt.Errorf("send to topic %q as %s, version %d: want a topic, a kind and a version of 1 or more",
				m.Topic, m.Kind, m.Version), nil
		}
		if m.Origin != nil {
			if refused := origin.Check(m.Origin); refused != nil {
				return fmt.Errorf("send to %s: %w", m.Topic, refused), nil
			}
		}
		t, err := a.tail(m)
		if err != nil {
			return nil, err
		}
		if refused, err := a.misnamed(m, t); refused != nil || err != nil {
			return refused, err
		}
		unique = unique || m.Dedup != "" || m.Origin != nil
	}
	var twins []*twin
	if unique {
		if twins, refused, err = a.findTwins(sends); refused != nil || err != nil {
			return refused, err
		}
	}
	if outside {
		if refused := a.room(sends, twins); refused != nil {
			return refused, nil
		}
	}
	for i, m := range sends {
		if twins != nil && twins[i] != nil && a.repeat(m, twins[i]) {
			a.repeated = append(a.repeated, m)
			continue
		}
		if err := a.add(m); err != nil {
			return nil, err
		}
		if twins != nil && m.Dedup != "" {
			if err := a.remember(m, twins[i]); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// begin reads the sequence number: another process may have moved it.
func (a *appender) begin() error {
	if a.first != 0 {
		return nil
	}
	err := a.j.rows(sqlSeq, nil, []any{&a.seq}, func() error { return nil })
	a.first = a.seq + 1
	return err
}

// tail is the topic of a message, made later (see add) if there is none.
func (a *appender) tail(m *store.Message) (*tail, error) {
	if a.last != nil && a.last.name == m.Topic {
		return a.last, nil
	}
	t := a.tails[m.Topic]
	if t == nil {
		var err error
		if t, err = a.readTail(m.Topic, m.Kind); err != nil {
			return nil, err
		}
		a.tails[m.Topic] = t
	}
	a.last = t
	return t, nil
}

func (a *appender) readTail(name string, kind store.Kind) (*tail, error) {
	t := &tail{name: name, kind: kind}
	var k int64
	err := a.j.rows(sqlTopic, []any{name}, []any{&t.id, &k, &t.appended, &t.lastPos}, func() error {
		t.kind = store.Kind(k)
		t.before, t.had = t.lastPos, t.appended
		return nil
	})
	if err != nil || t.id == 0 {
		return t, err
	}
	return t, a.readQueues(sqlTopicQueues, t.id, func(q *queueTail) { t.queues = append(t.queues, q) })
}

// readQueues reads queues, but for those that the transaction has changed already.
func (a *appender) readQueues(query string, arg any, each func(q *queueTail)) error {
	var q queueTail
	into := []any{&q.id, &q.topic, &q.name, &q.base, &q.done, &q.gone, &q.capacity, &q.maxLag,
		&q.required, &q.onDead, &q.parked, &q.paused}
	return a.j.rows(query, []any{arg}, into, func() error {
		known := a.queues[q.id]
		if known == nil {
			row := q
			known = &row
			a.queues[q.id] = known
		}
		each(known)
		return nil
	})
}

// depth is what is to be worked, with what this transaction has done so far.
func (q *queueTail) depth(t *tail) int64 {
	return t.appended - q.base - q.done - q.gone - q.newDone - q.newGone
}

// limited reports whether a full queue refuses senders: a command's always, an
// event's subscriber if it was declared to.
func (q *queueTail) limited(t *tail) bool {
	return q.capacity > 0 && (t.kind == store.KindCommand || q.required != 0)
}

// room refuses sends that a queue has no room for, counting those before them in the change.
func (a *appender) room(sends []*store.Message, twins []*twin) error {
	var refused error
	for i, m := range sends {
		if twins != nil && twins[i] != nil && twins[i].live {
			continue
		}
		t := a.tails[m.Topic]
		for _, q := range t.queues {
			if !q.limited(t) {
				continue
			}
			limit := q.capacity
			if m.BestEffort {
				limit -= limit / bestEffortReserve
			}
			if q.depth(t)+q.wanted+1 > limit {
				refused = &store.FullError{Queue: q.name, Depth: int(q.depth(t)), Capacity: int(q.capacity)}
			}
			q.wanted++
		}
		if refused != nil {
			break
		}
	}
	for _, m := range sends {
		for _, q := range a.tails[m.Topic].queues {
			q.wanted = 0
		}
	}
	return refused
}

// bestEffortReserve: the last fifth of a queue is not for best-effort sends.
const bestEffortReserve = 5

// add gives a message its place.
func (a *appender) add(m *store.Message) error {
	t, err := a.tail(m)
	if err != nil {
		return err
	}
	if t.id == 0 {
		if err := a.makeTopic(t); err != nil {
			return err
		}
	}
	a.seq++
	t.appended++
	t.lastPos = t.id<<numberBits | a.seq
	t.dirty = true
	m.Pos, m.SentAt = store.Pos(t.lastPos), at(a.now)
	m.Stamp = a.lives.Current().Base + a.seq
	if m.Origin != nil {
		origin.Apply(m)
		if a.origins == nil {
			a.origins = map[string]*store.Message{}
		}
		a.origins[m.ID] = m
	}
	a.appended = append(a.appended, m)
	return nil
}

// makeTopic declares a topic; a command's queue exists from then on.
func (a *appender) makeTopic(t *tail) error {
	err := a.j.rows(sqlNewTopic, []any{t.name, int64(t.kind)}, []any{&t.id}, func() error { return nil })
	if err != nil || t.kind != store.KindCommand {
		return err
	}
	q := &queueTail{topic: t.id, name: t.name, capacity: capacityDefault}
	if err := a.makeQueue(q, t, t.id<<numberBits); err != nil {
		return err
	}
	t.queues = append(t.queues, q)
	return nil
}

func (a *appender) makeQueue(q *queueTail, t *tail, start int64) error {
	other, err := a.queueNamed(q.name)
	if err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("queue %s of topic %s: the name is taken by a queue of topic %s", q.name, t.name, other)
	}
	err = a.j.rows(sqlNewQueue, []any{q.name, t.id, start, q.base, q.capacity, q.required, q.maxLag, q.onDead, t.appended},
		[]any{&q.id}, func() error { return nil })
	if err != nil {
		return err
	}
	a.queues[q.id] = q
	return a.j.exec(sqlFirstBatch, q.id<<numberBits, start, a.now)
}

// queueNamed is the topic of the queue with a name; empty if there is none.
func (a *appender) queueNamed(name string) (topic string, err error) {
	err = a.j.rows(sqlNameTaken, []any{name}, []any{&topic}, func() error { return nil })
	return topic, err
}

// misnamed refuses a message whose topic's name stands for something else. That is
// the sender's mistake, and must not be everybody's.
func (a *appender) misnamed(m *store.Message, t *tail) (refused, err error) {
	if t.kind != m.Kind {
		return fmt.Errorf("send to %s as %s: it is declared as %s", m.Topic, m.Kind, t.kind), nil
	}
	if t.id != 0 || t.free || t.kind != store.KindCommand {
		return nil, nil
	}
	other, err := a.queueNamed(t.name) // a command's queue is made with its topic
	if other != "" {
		return fmt.Errorf("send to %s as command: the name is taken by a queue of topic %s", t.name, other), nil
	}
	t.free = err == nil
	return nil, err
}

// idChunk is how many IDs share one string: one allocation for many, without
// a message that is kept for long keeping thousands.
const idChunk = 64

// flush writes what was added.
func (a *appender) flush() error {
	todo := a.appended[a.flushed:]
	var text []byte
	var ends [idChunk]int
	for rest := todo; len(rest) > 0; {
		chunk := rest[:min(idChunk, len(rest))]
		rest = rest[len(chunk):]
		text = text[:0]
		for i, m := range chunk {
			if m.Origin == nil {
				text = a.lives.AppendID(text, m.Pos)
			}
			ends[i] = len(text)
		}
		ids, from := string(text), 0
		for i, m := range chunk {
			if m.Origin == nil {
				m.ID = ids[from:ends[i]]
			}
			from = ends[i]
		}
	}
	a.flushed = len(a.appended)
	return a.j.insert(todo, a.lives, a.now)
}

// finish writes the counters back, after flush.
func (a *appender) finish() error {
	if len(a.appended) == 0 {
		return nil
	}
	if err := a.j.exec(sqlSetSeq, a.seq); err != nil {
		return err
	}
	for _, t := range a.tails {
		if !t.dirty {
			continue
		}
		if err := a.j.exec(sqlSetTopic, t.id, t.appended, t.lastPos); err != nil {
			return err
		}
		for _, q := range t.queues {
			if !q.falls(t) {
				continue
			}
			q.parked = a.now
			if err := a.j.exec(sqlPark, q.id, q.parked); err != nil {
				return err
			}
		}
	}
	return nil
}

// falls reports whether a queue is to be parked: its lag has grown past its bound,
// or, since it was resumed beyond it, past the next multiple of that.
func (q *queueTail) falls(t *tail) bool {
	if t.kind == store.KindCommand || q.required != 0 || q.maxLag == 0 || q.parked != 0 {
		return false
	}
	depth := q.depth(t)
	return (depth-1)/q.maxLag > max(depth-(t.appended-t.had)-1, 0)/q.maxLag
}

// forget takes back what callers see of an append that did not come about.
func (a *appender) forget() {
	for _, m := range append(a.appended, a.repeated...) {
		m.Pos, m.ID, m.SentAt, m.Stamp = 0, "", time.Time{}, 0
	}
}

const (
	sqlSavepoint = `savepoint weir_append`
	sqlRelease   = `release weir_append`
	sqlUndo      = `rollback to weir_append`
)

// AppendIn implements store.Store. While the caller's transaction is open nobody
// else can commit to the file, so the counters are exact.
func (s *Store) AppendIn(ctx context.Context, tx store.Tx, ch *store.Change) (err error) {
	if err := s.checkOpen(); err != nil {
		return err
	}
	own, ok := tx.(callersTx)
	switch {
	case !ok:
		return fmt.Errorf("the transaction is a %T: want sqlite.Tx(tx), of one on %s", tx, s.path)
	case own.tx == nil:
		return errors.New("the transaction given to sqlite.Tx is nil")
	}
	j := &callerTx{ctx: ctx, tx: own.tx}
	if err := j.exec(sqlSavepoint); err != nil {
		return err
	}
	b := newRunbook(newAppender(j, nil, s.now()), 0, nil)
	if b.lives, err = readLives(j); err != nil {
		err = fmt.Errorf("%w: is the transaction of another file than %s?", err, s.path)
	} else if !b.lives.Continue(s.lives()) {
		err = fmt.Errorf("the transaction is of another file than %s: begin it on a pool for that file, such as sqlite.OpenDB gives", s.path)
	}
	if err == nil {
		err = checkLease(j, s.process.Load())
	}
	if err == nil {
		err = b.appendIn(ch)
	}
	if err == nil {
		return j.exec(sqlRelease)
	}
	b.forget()
	forgetStarts(ch.Runs)
	forgetStates(ch.States)
	if undo := errors.Join(j.exec(sqlUndo), j.exec(sqlRelease)); undo != nil {
		return errors.Join(err, undo)
	}
	return err
}

// appendIn writes a change that has only sends, states and starts.
func (b *runbook) appendIn(ch *store.Change) error {
	if ch.Arrival != nil || len(ch.Drained) > 0 {
		return errors.New("an arrival in a transaction of the caller's own: give it to Commit")
	}
	if refused := checks.States(ch); refused != nil {
		return refused
	}
	plans, refused, err := b.planStarts(ch.Runs, true)
	if err == nil && refused == nil {
		refused, err = b.append(ch.Sends, true)
	}
	if err == nil {
		err = refused
	}
	if err != nil {
		return err
	}
	if err := b.start(ch.Runs, plans); err != nil {
		return err
	}
	if err := b.writeStates(ch.States); err != nil {
		return err
	}
	for _, step := range []func() error{b.flush, b.flushRuns, b.meetWaits, b.finish, b.closeEntities, b.closeBook} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
