package sqlite

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// A topic's messages lie together, so the newest of all topics are a merge of
// one stream a topic, by seq. Each stream is read in chunks: with hundreds of
// topics a page of 50 reads little more than 50 rows.
const (
	newestMessages = `select` + messageColumns + `from weir_messages
		where pos > ?1 and pos < ?2 order by pos desc limit ?3`
	newestKept = `select` + messageColumns + `from weir_kept
		where pos > ?1 and pos < ?2 order by pos desc limit ?3`
	newestMessagesOfKey = `select` + messageColumns + `from weir_messages
		where key = ?4 and pos > ?1 and pos < ?2 order by pos desc limit ?3`
	newestKeptOfKey = `select` + messageColumns + `from weir_kept
		where key = ?4 and pos > ?1 and pos < ?2 order by pos desc limit ?3`
)

// Chunks grow by a factor of 4 between these, so that a busy topic among many
// idle ones costs few statements.
const (
	firstChunk   = 8
	largestChunk = 512
)

// stream gives one topic's messages, newest first: those of messages, then the
// older ones in kept.
type stream struct {
	after, below int64 // what is still to be read lies between
	kept         bool  // messages is exhausted
	chunk        int
	head         []store.Message
}

// bound is the highest seq the stream can give next; exact when head is filled.
func (t *stream) bound() int64 {
	if len(t.head) > 0 {
		return numberOf(int64(t.head[0].Pos))
	}
	return numberOf(t.below) - 1
}

// merge gives the messages of many topics, newest first.
type merge struct {
	c       *conn
	w       scribe
	q       store.MessageQuery
	streams []*stream
}

func newMerge(c *conn, w scribe, q store.MessageQuery) *merge {
	m := &merge{c: c, w: w, q: q}
	for _, t := range w.topics {
		if q.Topic != "" && q.Topic != t.name {
			continue
		}
		after, below := idRange(t.id)
		below = min(below, t.lastPos+1)
		if q.Before > 0 {
			below = min(below, after|numberOf(int64(q.Before)))
		}
		if below > after+1 {
			m.streams = append(m.streams, &stream{after: after, below: below, chunk: firstChunk})
		}
	}
	return m
}

// next is the newest message not yet given; nil at the end.
func (m *merge) next() (*store.Message, error) {
	for len(m.streams) > 0 {
		best := 0
		for i, t := range m.streams {
			if t.bound() > m.streams[best].bound() {
				best = i
			}
		}
		t := m.streams[best]
		if len(t.head) > 0 {
			got := &t.head[0]
			t.head = t.head[1:]
			return got, nil
		}
		more, err := m.fill(t)
		if err != nil {
			return nil, err
		}
		if !more {
			m.streams[best] = m.streams[len(m.streams)-1]
			m.streams = m.streams[:len(m.streams)-1]
		}
	}
	return nil, nil
}

// fill reads the stream's next chunk and reports whether there is one.
func (m *merge) fill(t *stream) (bool, error) {
	if len(m.streams) == 1 {
		t.chunk = max(t.chunk, min(listMax(m.q.Max), largestChunk))
	}
	for {
		tooOld := false
		args := []any{t.after, t.below, t.chunk}
		if m.q.Key != "" {
			args = append(args, m.q.Key)
		}
		err := m.c.query(m.statement(t.kept), args, func(s *sqlite.Stmt) error {
			msg, err := m.w.message(s)
			if err != nil {
				return err
			}
			t.below = int64(msg.Pos)
			if at(s.ColumnInt64(sentColumn)).Before(m.q.Since) {
				tooOld = true // and so are all before it
				return nil
			}
			t.head = append(t.head, msg)
			return nil
		})
		t.chunk = min(4*t.chunk, largestChunk)
		switch {
		case err != nil:
			return false, err
		case tooOld:
			t.after = t.below // ends the stream
			return len(t.head) > 0, nil
		case len(t.head) > 0:
			return true, nil
		case t.kept || t.after >= t.below:
			return false, nil
		}
		t.kept = true
	}
}

func (m *merge) statement(kept bool) string {
	switch {
	case m.q.Key != "" && kept:
		return newestKeptOfKey
	case m.q.Key != "":
		return newestMessagesOfKey
	case kept:
		return newestKept
	}
	return newestMessages
}

// take gives the next max messages.
func (m *merge) take(max int) ([]store.Message, error) {
	var out []store.Message
	for len(out) < max {
		msg, err := m.next()
		if msg == nil || err != nil {
			return out, err
		}
		out = append(out, *msg)
	}
	return out, nil
}

// Messages lists messages, newest first.
func (r reader) Messages(ctx context.Context, q store.MessageQuery) ([]store.Message, error) {
	var out []store.Message
	err := r.s.read(ctx, func(c *conn) error {
		w, err := r.scribe(c)
		if err != nil {
			return err
		}
		out, err = newMerge(c, w, q).take(listMax(q.Max))
		return err
	})
	return out, err
}

const (
	messageInFull = `select` + messageColumns + `, body from weir_messages where pos = ?1`
	keptInFull    = `select` + messageColumns + `, body from weir_kept where pos = ?1`
	messageBare   = `select` + messageColumns + `from weir_messages where pos = ?1`
	keptBare      = `select` + messageColumns + `from weir_kept where pos = ?1`
)

// at reads the message at a position, wherever it is kept; nil when it is gone.
func (w scribe) read(c *conn, pos int64, withBody bool) (*store.Message, error) {
	var got *store.Message
	row := func(s *sqlite.Stmt) error {
		m, err := w.message(s)
		if withBody {
			m.Body = blob(s, bodyColumn)
		}
		got = &m
		return err
	}
	live, kept := messageBare, keptBare
	if withBody {
		live, kept = messageInFull, keptInFull
	}
	if err := c.query(live, []any{pos}, row); got != nil || err != nil {
		return got, err
	}
	err := c.query(kept, []any{pos}, row)
	return got, err
}

// Message is one message with its body and everything that happened to it.
func (r reader) Message(ctx context.Context, id string) (store.MessageStory, error) {
	var out store.MessageStory
	err := r.s.read(ctx, func(c *conn) error {
		pos, err := r.s.locate(c, id)
		if err != nil {
			return err
		}
		w, err := r.scribe(c)
		if err != nil {
			return err
		}
		m, err := w.read(c, pos, true)
		if err != nil {
			return err
		}
		if m == nil {
			return fmt.Errorf("%w: message %s was never sent, or retention has deleted it", store.ErrNotFound, id)
		}
		out.Message = *m
		out.Queues, err = newTeller(c).tell(pos)
		return err
	})
	return out, err
}
