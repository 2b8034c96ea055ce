package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// reader answers people's questions. Each call sees one committed state and holds back
// nobody. A round trip costs more than a statement, so what is asked for many messages is
// asked for all of them at once.
type reader struct{ s *Store }

var _ store.Reader = reader{}

// Reader implements store.Store.
func (s *Store) Reader() store.Reader { return reader{s} }

// Changed implements store.Reader.
func (r reader) Changed(ctx context.Context) (bool, error) { return r.s.changed(ctx) }

// listDefault is what a list returns that did not say how much: a screenful.
const listDefault = 50

// listMax bounds what a list may ask for.
func listMax(max int) int {
	if max <= 0 {
		return listDefault
	}
	return min(max, store.MaxList)
}

// seenTopic is a topic as its messages are read with.
type seenTopic struct {
	name string
	kind store.Kind
}

const askTopics = `select id, name, kind from weir.topics`

// scribe turns rows of messages and kept into messages.
type scribe struct {
	t      *tx
	topics map[int64]seenTopic
	came   map[store.Pos]time.Time // when those read last were written here: SentAt may be of another store's clock
}

// newScribe reads the topics, together with what is queued, and the store's lives: whoever only reads is
// told of a new one by nobody.
func newScribe(t *tx) (*scribe, error) {
	w := &scribe{t: t, topics: map[int64]seenTopic{}, came: map[store.Pos]time.Time{}}
	t.askLives()
	return w, t.get(askTopics, func(read scan) error {
		var id int64
		var topic seenTopic
		err := read(&id, &topic.name, &topic.kind)
		w.topics[id] = topic
		return err
	})
}

// messageColumns are what scribe.message reads, in its order.
const messageColumns = ` topic, seq, sent_us, version, coalesce(key, ''), due_us, coalesce(cause, ''), coalesce(correlation, ''), coalesce(origin, ''), headers `

// message reads a row of messageColumns, and what comes behind them.
func (w *scribe) message(read scan, more ...any) (store.Message, error) {
	var m store.Message
	var topic, seq, sent int64
	var due *int64
	var from string
	into := append([]any{&topic, &seq, &sent, &m.Version, &m.Key, &due, &m.Cause, &m.Correlation, &from, &m.Headers}, more...)
	if err := read(into...); err != nil {
		return m, err
	}
	m.Pos = store.Pos(posOf(topic, seq))
	m.SentAt, m.Due = at(sent), moment(due)
	w.came[m.Pos] = m.SentAt
	m.Topic, m.Kind = w.topics[topic].name, w.topics[topic].kind
	return m, w.t.s.christenRow(&m, from)
}

// askMessagesAt reads the messages at positions, wherever they are kept.
const (
	askMessagesAt = `select m.* from unnest($1::bigint[]) as p(pos) cross join lateral (
		select` + messageColumns + `, case when $2 then body end from weir.messages
			where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
		union all select` + messageColumns + `, case when $2 then body end from weir.kept
			where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
		limit 1) m`
)

// read gives the messages at positions; those that are gone are not among them.
func (w *scribe) read(positions []int64, withBody bool) (map[int64]*store.Message, error) {
	if len(positions) == 0 {
		return nil, w.t.flush()
	}
	found := make(map[int64]*store.Message, len(positions))
	clear(w.came)
	err := w.t.get(askMessagesAt, func(read scan) error {
		var body []byte
		m, err := w.message(read, &body)
		m.Body = body
		found[int64(m.Pos)] = &m
		return err
	}, positions, withBody)
	return found, err
}

// took is a stored duration.
func took(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

// locate is the position behind an ID given by a person: one of this store's, or that of a message that
// came from another.
func (t *tx) locate(id string) (int64, error) {
	if pos, ok := t.s.lives().Local(id); ok {
		return int64(pos), nil
	}
	at, err := t.origins([]string{id})
	if err != nil {
		return 0, err
	}
	if first := at[id]; first != nil {
		return first.pos, nil
	}
	inc, _, err := store.ParseID(id)
	if err != nil {
		return 0, fmt.Errorf("%w: nothing with the ID %q has come here, as far as retention goes, and %w", store.ErrNotFound, id, err)
	}
	return 0, fmt.Errorf("%w: message %s is of store %s, this is %s, and it has not come here, as far as retention goes: look there",
		store.ErrNotFound, id, inc, t.s.lives().Current().Incarnation)
}

const askProcesses = `select id, pid, host, version, owns, started_us, beat_us, ended_us
	from weir.processes order by id desc limit $1`

// Processes lists processes, newest first. One that was taken for lost ended without saying so.
func (r reader) Processes(ctx context.Context, max int) ([]store.Process, error) {
	var out []store.Process
	err := r.s.read(ctx, func(t *tx) error {
		return t.get(askProcesses, func(read scan) error {
			var p store.Process
			var owns string
			var started, beat int64
			var ended *int64
			if err := read(&p.ID, &p.PID, &p.Host, &p.Version, &owns, &started, &beat, &ended); err != nil {
				return err
			}
			p.Owns, p.StartedAt, p.BeatAt, p.EndedAt = strings.Fields(owns), at(started), at(beat), moment(ended)
			out = append(out, p)
			return nil
		}, listMax(max))
	})
	return out, err
}

const askAudit = `select at_us, who, verb, why, target, before, after from weir.audit order by id desc limit $1`

// Audit lists operators' acts, newest first.
func (r reader) Audit(ctx context.Context, max int) ([]store.AuditRow, error) {
	var out []store.AuditRow
	err := r.s.read(ctx, func(t *tx) error {
		return t.get(askAudit, func(read scan) error {
			var a store.AuditRow
			var when int64
			err := read(&when, &a.By, &a.Verb, &a.Why, &a.Target, &a.Before, &a.After)
			a.At = at(when)
			out = append(out, a)
			return err
		}, listMax(max))
	})
	return out, err
}

// numbers is the first column of all rows, as they come.
func (t *tx) numbers(query string, args ...any) ([]int64, error) {
	var out []int64
	err := t.get(query, func(read scan) error {
		var n int64
		err := read(&n)
		out = append(out, n)
		return err
	}, args...)
	return out, err
}
