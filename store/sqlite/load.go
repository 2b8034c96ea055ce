package sqlite

import (
	"errors"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
	"zombiezen.com/go/sqlite"
)

// loader reads messages of one topic for a batch: bodies and headers into shared
// chunks, and all IDs and keys into one string, so that a thousand messages take
// some dozen allocations.
type loader struct {
	lives lives.Lives
	topic string
	kind  store.Kind

	messages []store.Message
	bytes    int // of bodies and headers
	arena    []byte
	text     []byte
	spans    []textSpan
	cause    int64 // of the reference before: the messages of a batch often share it
	causeID  string
}

// textSpan says where in the text a message's ID and key end.
type textSpan struct{ id, key int }

const (
	// Chunks grow with what was read; what keeps one message keeps its chunk.
	arenaMin = 4 << 10
	arenaMax = 64 << 10
	// loadMax ends a batch early: what a claim brings into memory is bounded.
	loadMax = 16 << 20

	loadColumns = ` pos, sent_us, version, key, due_us, cause, correlation, origin, headers, body `
	sqlFresh    = `select` + loadColumns + `from weir_messages where pos > ?1 and pos < ?2 order by pos limit ?3`
	sqlLoad     = `select` + loadColumns + `from weir_messages where pos = ?1
		union all select` + loadColumns + `from weir_kept where pos = ?1 limit 1`
)

// full reports whether the batch is to end here.
func (l *loader) full() bool { return l.bytes >= loadMax }

// row reads the current row of a statement with loadColumns.
func (l *loader) row(st *sqlite.Stmt) (err error) {
	pos := st.ColumnInt64(0)
	l.text = l.lives.AppendID(l.text, store.Pos(pos))
	span := textSpan{id: len(l.text)}
	if n := st.ColumnLen(3); n > 0 {
		l.text = append(l.text, make([]byte, n)...)
		st.ColumnBytes(3, l.text[span.id:])
	}
	span.key = len(l.text)
	l.spans = append(l.spans, span)
	l.messages = append(l.messages, store.Message{
		Pos: store.Pos(pos), SentAt: at(st.ColumnInt64(1)), Stamp: l.lives.Stamp(store.Pos(pos)),
		Topic: l.topic, Kind: l.kind, Version: st.ColumnInt(2), Due: at(st.ColumnInt64(4)),
		Cause: l.reference(st, 5), Correlation: l.reference(st, 6),
		Headers: l.blob(st, 8), Body: l.blob(st, 9),
	})
	if !st.ColumnIsNull(7) {
		l.messages[len(l.messages)-1].Origin, err = origin.Unpack(st.ColumnText(7))
	}
	return err
}

func (l *loader) reference(st *sqlite.Stmt, col int) string {
	switch st.ColumnType(col) {
	case sqlite.TypeInteger:
		pos := st.ColumnInt64(col)
		if pos != l.cause {
			l.cause, l.causeID = pos, l.lives.ID(store.Pos(pos))
		}
		return l.causeID
	case sqlite.TypeNull:
		return ""
	}
	return st.ColumnText(col)
}

// blob copies a column into the arena; NULL is nil.
func (l *loader) blob(st *sqlite.Stmt, col int) []byte {
	n := st.ColumnLen(col)
	if n == 0 {
		if st.ColumnIsNull(col) {
			return nil
		}
		return []byte{}
	}
	l.bytes += n
	if n > len(l.arena) {
		l.arena = make([]byte, max(n, min(l.bytes, arenaMax), arenaMin))
	}
	b := l.arena[:n:n]
	l.arena = l.arena[n:]
	st.ColumnBytes(col, b)
	return b
}

// done gives the messages their IDs and keys.
func (l *loader) done() []store.Message {
	text, from := string(l.text), 0
	for i, s := range l.spans {
		m := &l.messages[i]
		m.ID, m.Key = text[from:s.id], text[s.id:s.key]
		origin.Apply(m)
		from = s.key
	}
	l.text, l.spans = l.text[:0], l.spans[:0]
	return l.messages
}

// fresh reads the messages of a topic after a position.
func (l *loader) fresh(c *conn, after int64, most int) error {
	_, before := idRange(ownerOf(after))
	err := c.query(sqlFresh, []any{after, before, most}, func(st *sqlite.Stmt) error {
		if err := l.row(st); err != nil || !l.full() {
			return err
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// one reads the message at a position, from where retention may have copied it;
// found is false when it is in neither place.
func (l *loader) one(c *conn, pos int64) (found bool, err error) {
	err = c.query(sqlLoad, []any{pos}, func(st *sqlite.Stmt) error {
		found = true
		return l.row(st)
	})
	return found, err
}
