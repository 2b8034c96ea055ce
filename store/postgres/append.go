package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
)

// appender appends messages in one transaction: the engine's own, or one that a caller
// brought. ask queues what has to be known first, add gives out positions, and write
// queues the rows.
type appender struct {
	*tx
	tails
	busy     map[int64]bool    // locks of keys that others hold
	dedups   map[name]*sent    // what the deduplication keys of the sends were used for
	firsts   map[string]*first // the messages that are here with the origins' IDs of the sends
	seqs     []int64           // drawn, and not given out yet
	appended []*store.Message
	repeated []*store.Message
	tallies  tallies
}

// name is a key within a topic.
type name struct{ topic, key string }

const (
	sqlSeqs    = `select array_agg(nextval('weir.seq'))::text from (select generate_series(1, $1::int)) as n`
	sqlTryKeys = `select u.h from unnest($1::bigint[]) as u(h) where not pg_try_advisory_xact_lock(u.h)`
	sqlKeys    = `select pg_advisory_xact_lock(u.h) from (select h from unnest($1::bigint[]) as k(h) order by h offset 0) as u`
	sqlPatient = `select set_config('lock_timeout', $1, true)`
	// Arrays are taken apart side by side in a list of columns: a function of many arrays in a from
	// keeps what each gives before it begins.
	sqlInsert = `insert into weir.messages (topic, seq, sent_us, version, lane, key, due_us, cause, correlation, origin, headers, body)
		select u.topic, u.seq, $1, u.version, u.lane, nullif(u.key, ''), nullif(u.due, 0), nullif(u.cause, ''), nullif(u.correlation, ''),
			u.origin, u.headers, coalesce(u.body, '')
		from (select unnest($2::int[]) as topic, unnest($3::bigint[]) as seq, unnest($4::int[]) as version, unnest($5::smallint[]) as lane,
			unnest($6::text[]) as key, unnest($7::bigint[]) as due, unnest($8::text[]) as cause, unnest($9::text[]) as correlation,
			unnest($10::text[]) as origin, unnest($11::bytea[]) as headers, unnest($12::bytea[]) as body) as u`
	// Of messages that have nothing but a body, as most have: columns cost more than rows.
	sqlInsertPlain = `insert into weir.messages (topic, seq, sent_us, version, lane, body)
		select u.topic, u.seq, $1, u.version, $2, coalesce(u.body, '')
		from (select unnest($3::int[]) as topic, unnest($4::bigint[]) as seq, unnest($5::int[]) as version, unnest($6::bytea[]) as body) as u`
	// sqlInsertAlike is of such messages of one topic and version.
	sqlInsertAlike = `insert into weir.messages (topic, seq, sent_us, version, lane, body)
		select $3, u.seq, $1, $5, $2, coalesce(u.body, '') from (select unnest($4::bigint[]) as seq, unnest($6::bytea[]) as body) as u`
	sqlPark = `update weir.queues set parked_us = $2 where id = any($1::int[]) and parked_us is null`
)

// capacityDefault is a command queue's until Declare says otherwise.
const capacityDefault = 100_000

// keysMost is how many different keys one change may send with: each is a lock, of which
// a server has some thousands.
const keysMost = 1_000

func newAppender(t *tx) *appender {
	return &appender{tx: t, tails: tails{known: map[string]*tail{}}}
}

// keyLock is the lock of a key of a topic. Whoever sends with the key holds it until the
// transaction ends, so that positions within a key ascend in the order of commits.
func (s *Store) keyLock(topic, key string) int64 { return s.lockNumber("key", topic, key) }

// dedupLock is the lock of a deduplication key.
func (s *Store) dedupLock(topic, key string) int64 { return s.lockNumber("dedup", topic, key) }

// locksOf is the locks that sends need, each once.
func (s *Store) locksOf(sends []*store.Message, into map[int64]bool) {
	for _, m := range sends {
		if m.Key != "" {
			into[s.keyLock(m.Topic, m.Key)] = true
		}
		if m.Dedup != "" {
			into[s.dedupLock(m.Topic, m.Dedup)] = true
		}
		if m.Origin != nil {
			into[s.originLock(m.Origin.ID)] = true
		}
	}
}

// prepare queues what has to be known, and held, before sends are decided about. The locks
// come before the positions. patient waits for locks that are held, else they are noted.
func (a *appender) prepare(sends []*store.Message, outside, patient bool) {
	if len(sends) == 0 {
		return
	}
	locks := map[int64]bool{}
	a.s.locksOf(sends, locks)
	if len(locks) > 0 {
		list := make([]int64, 0, len(locks))
		for h := range locks {
			list = append(list, h)
		}
		if patient {
			a.do(sqlKeys, list)
		} else {
			a.ask(sqlTryKeys, a.readBusy, list)
		}
	}
	names := map[string]bool{}
	for _, m := range sends {
		names[m.Topic] = true
	}
	a.askTails(names, outside)
	a.askDedup(sends)
	a.askFirsts(sends)
	a.ask(sqlSeqs, a.readSeqs, len(sends))
}

// readBusy reads a lock that others hold.
func (a *appender) readBusy(read scan) error {
	var h int64
	err := read(&h)
	if a.busy == nil {
		a.busy = map[int64]bool{}
	}
	a.busy[h] = true
	return err
}

func (a *appender) readSeqs(read scan) error {
	var list string
	if err := read(&list); err != nil {
		return err
	}
	for v := range strings.SplitSeq(strings.Trim(list, "{}"), ",") {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("sequence: %w", err)
		}
		a.seqs = append(a.seqs, n)
	}
	return nil
}

// unknown lists the topics of sends that are not declared; they are to be, in a
// transaction of their own, lest an open one keep all others from declaring them.
func (a *appender) unknown(sends []*store.Message) []store.Topic {
	var list []store.Topic
	for _, m := range sends {
		if a.known[m.Topic] == nil && malformed(m) == nil {
			a.known[m.Topic] = &tail{name: m.Topic, kind: m.Kind}
			list = append(list, store.Topic{Name: m.Topic, Kind: m.Kind})
		}
	}
	return list
}

// malformed says what is wrong with a message.
func malformed(m *store.Message) error {
	if m.Topic == "" || m.Version < 1 || m.Kind < store.KindCommand || m.Kind > store.KindSignal {
		return fmt.Errorf("send to topic %q as %s, version %d: want a topic, a kind and a version of 1 or more", m.Topic, m.Kind, m.Version)
	}
	for _, field := range [...]struct{ what, text string }{
		{"topic", m.Topic}, {"key", m.Key}, {"cause", m.Cause}, {"correlation", m.Correlation}, {"deduplication key", m.Dedup},
	} {
		if field.text != "" && !storable(field.text) {
			return fmt.Errorf("send to topic %q: the %s %q is no text that PostgreSQL can keep: it holds a NUL, or is not UTF-8", m.Topic, field.what, field.text)
		}
	}
	return malformedOrigin(m)
}

// admit decides whether a change's sends can be appended, all or none. twins, if any have a
// deduplication key or an origin, says which repeat earlier ones.
func (a *appender) admit(sends []*store.Message, outside bool) (twins []*twin, refused error) {
	if len(sends) > store.MaxSends {
		return nil, fmt.Errorf("%d messages in one change, at most %d", len(sends), store.MaxSends)
	}
	var keys map[name]bool
	deduplicated := false
	for _, m := range sends {
		if err := malformed(m); err != nil {
			return nil, err
		}
		t := a.known[m.Topic]
		if t == nil || t.id == 0 {
			return nil, fmt.Errorf("send to %s as %s: the topic could not be declared: its name is taken by a queue of another topic", m.Topic, m.Kind)
		}
		if t.kind != m.Kind {
			return nil, fmt.Errorf("send to %s as %s: it is declared as %s", m.Topic, m.Kind, t.kind)
		}
		if m.Key != "" {
			if keys == nil {
				keys = map[name]bool{}
			}
			keys[name{m.Topic, m.Key}] = true
		}
		deduplicated = deduplicated || m.Dedup != "" || m.Origin != nil
	}
	if len(keys) > keysMost {
		return nil, fmt.Errorf("messages of %d keys in one change, at most %d: each key is a lock; send them in several changes", len(keys), keysMost)
	}
	if deduplicated {
		if twins, refused = a.findTwins(sends); refused != nil {
			return nil, refused
		}
	}
	if outside {
		refused = a.room(sends, twins)
	}
	return twins, refused
}

// room refuses sends that a queue has no room for, counting those before them in the change.
func (a *appender) room(sends []*store.Message, twins []*twin) error {
	var refused error
	for i, m := range sends {
		if twins != nil && twins[i] != nil && twins[i].live {
			continue
		}
		t := a.known[m.Topic]
		for _, q := range t.queues {
			if !q.limited(t) {
				continue
			}
			limit := q.capacity
			if m.BestEffort {
				limit -= limit / bestEffortReserve
			}
			if q.depth+q.wanted+1 > limit {
				refused = &store.FullError{Queue: q.name, Depth: int(q.depth), Capacity: int(q.capacity)}
			}
			q.wanted++
		}
		if refused != nil {
			break
		}
	}
	for _, m := range sends {
		for _, q := range a.known[m.Topic].queues {
			q.wanted = 0
		}
	}
	return refused
}

// bestEffortReserve: the last fifth of a queue is not for best-effort sends.
const bestEffortReserve = 5

// add gives admitted messages their places.
func (a *appender) add(sends []*store.Message, twins []*twin) {
	for i, m := range sends {
		if twins != nil && twins[i] != nil && twins[i].repeat(a.s, m) {
			a.repeated = append(a.repeated, m)
			continue
		}
		t := a.known[m.Topic]
		m.Pos, m.SentAt = store.Pos(posOf(t.id, a.seqs[0])), at(a.now)
		a.s.christen(m)
		a.seqs = a.seqs[1:]
		t.added++
		for _, q := range t.queues {
			q.depth++
		}
		a.appended = append(a.appended, m)
		if m.Origin != nil {
			a.firsts[m.Origin.ID] = &first{pos: int64(m.Pos), sent: a.now, origin: m.Origin}
		}
		if twins != nil && twins[i] != nil && m.Dedup != "" {
			a.dedups[name{m.Topic, m.Dedup}] = &sent{hash: twins[i].hash, pos: int64(m.Pos), sent: a.now,
				expires: a.now + m.DedupFor.Microseconds(), fresh: true}
		}
	}
}

// write queues (or, where they are many, sends) the rows, and what they add to the counters. parks: the queues that have
// grown beyond their bound are parked; not in a caller's transaction, which may stay open.
func (a *appender) write(parks bool) error {
	if c, ok := a.w.(copier); ok && len(a.appended) >= copyMin {
		if err := a.copyIn(c, a.appended); err != nil {
			return err
		}
	} else {
		a.insert(a.appended)
	}
	a.writeDedup()
	var parked []int64
	for _, t := range a.known {
		if t.added == 0 {
			continue
		}
		a.tallies.sent(t.id, t.added)
		for _, q := range t.queues {
			if parks && q.falls(t) {
				parked = append(parked, q.id)
			}
		}
	}
	if len(parked) > 0 {
		a.do(sqlPark, parked, a.now)
	}
	return nil
}

// rowsMost is how many messages one statement inserts: what it holds in memory is bounded.
const rowsMost = 2_000

func (a *appender) insert(messages []*store.Message) {
	for len(messages) > 0 {
		n := min(len(messages), rowsMost)
		c := newColumns(messages[:n])
		switch {
		case !c.plain:
			a.do(sqlInsert, a.now, c.topics, c.seqs, c.versions, c.lanes, c.keys, c.dues, c.causes, c.roots, c.origins, c.headers, c.bodies)
		case !c.alike:
			a.do(sqlInsertPlain, a.now, laneFree, c.topics, c.seqs, c.versions, c.bodies)
		default:
			a.do(sqlInsertAlike, a.now, laneFree, topicOf(int64(messages[0].Pos)), c.seqs, messages[0].Version, c.bodies)
		}
		messages = messages[n:]
	}
}

// forget takes back what callers see of an append that did not come about.
func (a *appender) forget() {
	for _, m := range append(a.appended, a.repeated...) {
		m.Pos, m.ID, m.SentAt, m.Stamp = 0, "", at(0), 0
	}
}

// declareUnknown declares topics that sends name, in a transaction of its own. One that
// cannot be is left out: its senders are refused, the others are not.
func (s *Store) declareUnknown(ctx context.Context, topics []store.Topic) error {
	for _, t := range topics {
		err := s.transact(ctx, s.aside, func(tx *tx) error {
			tx.again = true
			d, err := s.newDeclaration(tx, []store.Topic{t}, nil)
			if err != nil {
				return err
			}
			_, err = d.topic(t)
			return err
		})
		if _, taken := errors.AsType[*takenError](err); err != nil && !taken {
			return err
		}
	}
	return nil
}
