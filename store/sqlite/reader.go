package sqlite

import (
	"context"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
)

// reader answers people's questions. Each call is one snapshot on a read-only
// connection: it neither waits for the writer nor holds it back, but it does
// hold back checkpoints, so every call is bounded in what it reads.
type reader struct{ s *Store }

var _ store.Reader = reader{}

// Reader answers people's questions.
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

// Positions as the schema lays them out: topic or queue above, number below.
const (
	numberBits = 40
	numberMask = 1<<numberBits - 1
)

// numberOf is the seq of a position or the number of a batch. Of two messages
// of different topics it tells which was committed first.
func numberOf(id int64) int64 { return id & numberMask }

// ownerOf is the topic of a position or the queue of a batch.
func ownerOf(id int64) int64 { return id >> numberBits }

// idRange holds what is strictly between the first and the last ID of a topic
// or queue: seq 0 is not given out, and neither is the last.
func idRange(owner int64) (after, before int64) {
	return owner << numberBits, owner<<numberBits | numberMask
}

// topicRow is a topic as its messages are read with.
type topicRow struct {
	id      int64
	name    string
	kind    store.Kind
	lastPos int64
}

const selectTopics = `select id, name, kind, last_pos from weir_topics order by id`

func readTopics(c *conn) (map[int64]topicRow, error) {
	topics := map[int64]topicRow{}
	err := c.query(selectTopics, nil, func(s *sqlite.Stmt) error {
		t := topicRow{s.ColumnInt64(0), s.ColumnText(1), store.Kind(s.ColumnInt64(2)), s.ColumnInt64(3)}
		topics[t.id] = t
		return nil
	})
	return topics, err
}

// scribe turns rows of messages and kept into messages.
type scribe struct {
	lives  lives.Lives
	topics map[int64]topicRow
}

func (r reader) scribe(c *conn) (scribe, error) {
	topics, err := readTopics(c)
	return scribe{lives: r.s.lives(), topics: topics}, err
}

// messageColumns are what scribe.message reads, in its order. The body comes
// last, where it is asked for: behind it in the row nothing has to be skipped.
const (
	messageColumns = ` pos, sent_us, version, key, due_us, cause, correlation, origin, headers `
	sentColumn     = 1 // when it came, of a message from elsewhere
	bodyColumn     = 9
)

func (w scribe) message(s *sqlite.Stmt) (store.Message, error) {
	pos := s.ColumnInt64(0)
	topic := w.topics[ownerOf(pos)]
	m := store.Message{
		Pos:         store.Pos(pos),
		ID:          w.lives.ID(store.Pos(pos)),
		SentAt:      at(s.ColumnInt64(sentColumn)),
		Stamp:       w.lives.Stamp(store.Pos(pos)),
		Topic:       topic.name,
		Kind:        topic.kind,
		Version:     s.ColumnInt(2),
		Key:         s.ColumnText(3),
		Cause:       w.reference(s, 5),
		Correlation: w.reference(s, 6),
		Due:         moment(s, 4),
		Headers:     blob(s, 8),
	}
	if s.ColumnIsNull(7) {
		return m, nil
	}
	var err error
	m.Origin, err = origin.Unpack(s.ColumnText(7))
	if err == nil {
		origin.Apply(&m)
	}
	return m, err
}

// reference is the ID in a column that holds a position of this store or
// another store's ID.
func (w scribe) reference(s *sqlite.Stmt, col int) string {
	if s.ColumnType(col) == sqlite.TypeInteger {
		return w.lives.ID(store.Pos(s.ColumnInt64(col)))
	}
	return s.ColumnText(col)
}

// moment is a column's time; zero for NULL and for 0, which means "at once".
func moment(s *sqlite.Stmt, col int) time.Time { return at(s.ColumnInt64(col)) }

// took is a stored duration.
func took(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

const selectProcesses = `select id, pid, host, version, owns, started_us, beat_us, ended_us
	from weir_processes order by id desc limit ?1`

// Processes lists processes, newest first.
func (r reader) Processes(ctx context.Context, max int) ([]store.Process, error) {
	var out []store.Process
	err := r.s.read(ctx, func(c *conn) error {
		return c.query(selectProcesses, []any{listMax(max)}, func(s *sqlite.Stmt) error {
			out = append(out, store.Process{
				ID: s.ColumnInt64(0), PID: s.ColumnInt(1), Host: s.ColumnText(2), Version: s.ColumnText(3),
				Owns:      strings.Fields(s.ColumnText(4)),
				StartedAt: at(s.ColumnInt64(5)), BeatAt: at(s.ColumnInt64(6)), EndedAt: moment(s, 7),
			})
			return nil
		})
	})
	return out, err
}

const selectAudit = `select at_us, who, verb, why, target, before, after from weir_audit order by id desc limit ?1`

// Audit lists operators' acts, newest first.
func (r reader) Audit(ctx context.Context, max int) ([]store.AuditRow, error) {
	var out []store.AuditRow
	err := r.s.read(ctx, func(c *conn) error {
		return c.query(selectAudit, []any{listMax(max)}, func(s *sqlite.Stmt) error {
			out = append(out, store.AuditRow{
				At: at(s.ColumnInt64(0)), By: s.ColumnText(1), Verb: s.ColumnText(2), Why: s.ColumnText(3),
				Target: s.ColumnText(4), Before: s.ColumnText(5), After: s.ColumnText(6),
			})
			return nil
		})
	})
	return out, err
}
