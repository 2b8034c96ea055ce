package sqlite

import (
	"bytes"
	"crypto/sha256"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/origin"
)

const (
	sqlDedup       = `select hash, pos, expires_us from weir_dedup where topic = ?1 and key = ?2`
	sqlSetDedup    = `insert or replace into weir_dedup (topic, key, hash, pos, expires_us) values (?1, ?2, ?3, ?4, ?5)`
	sqlSentMessage = `select sent_us, coalesce(origin, '') from weir_messages where pos = ?1
		union all select sent_us, coalesce(origin, '') from weir_kept where pos = ?1 limit 1`
)

// twin is what is known of the message that a send repeats, by its deduplication key or
// by what its origin calls it.
type twin struct {
	hash [sha256.Size]byte // of the send, for its deduplication key
	live bool              // there is an earlier message
	// first is as much of it as a repeated send gets. Its place is not known yet when it is in the same change.
	first *store.Message
}

// findTwins looks for the earlier messages that sends repeat: those that came from elsewhere, and
// those that are deduplicated.
func (a *appender) findTwins(sends []*store.Message) (twins []*twin, refused, err error) {
	twins = make([]*twin, len(sends))
	type name struct{ topic, key string }
	within := map[name]int{}
	var came map[string]*store.Message
	for i, m := range sends {
		if m.Origin != nil {
			if came == nil {
				came = make(map[string]*store.Message, len(sends))
			}
			if twins[i], err = a.findOrigin(m, came); err != nil {
				return nil, nil, err
			}
			if twins[i] != nil {
				continue
			}
			came[m.Origin.ID] = m
		}
		if m.Dedup == "" {
			continue
		}
		w := &twin{hash: sha256.Sum256(m.Body)}
		twins[i] = w
		if first, ok := within[name{m.Topic, m.Dedup}]; ok {
			w.live, w.first = true, sends[first]
			if twins[first].hash != w.hash {
				return nil, &store.DuplicateError{Topic: m.Topic, Key: m.Dedup}, nil
			}
			continue
		}
		within[name{m.Topic, m.Dedup}] = i
		if refused, err := a.findTwin(m, w); refused != nil || err != nil {
			return nil, refused, err
		}
	}
	return twins, nil, nil
}

// findOrigin looks for the message that has this one's origin already: in the same change, in the
// same transaction, in the store.
func (a *appender) findOrigin(m *store.Message, came map[string]*store.Message) (*twin, error) {
	if first := came[m.Origin.ID]; first != nil {
		return &twin{live: true, first: first}, nil
	}
	if first := a.origins[m.Origin.ID]; first != nil {
		return &twin{live: true, first: first}, nil
	}
	pos, err := ofOrigin(a.j, m.Origin.ID)
	if err != nil || pos == 0 {
		return nil, err
	}
	first, err := a.sentAt(pos)
	return &twin{live: true, first: first}, err
}

func (a *appender) findTwin(m *store.Message, w *twin) (refused, err error) {
	t := a.tails[m.Topic]
	if t.id == 0 {
		return nil, nil
	}
	var hash []byte
	var pos, expires int64
	err = a.j.rows(sqlDedup, []any{t.id, m.Dedup}, []any{&hash, &pos, &expires}, func() error {
		w.live = expires > a.now
		return nil
	})
	if err != nil || !w.live {
		return nil, err
	}
	if w.first, err = a.sentAt(pos); err != nil {
		return nil, err
	}
	if !bytes.Equal(hash, w.hash[:]) {
		return &store.DuplicateError{Topic: m.Topic, Key: m.Dedup, ID: w.first.ID}, nil
	}
	return nil, nil
}

// sentAt is what a repeated send gets of the message at a position. Retention may have deleted
// that; then all but its place in time is known.
func (a *appender) sentAt(pos int64) (*store.Message, error) {
	m := &store.Message{Pos: store.Pos(pos), ID: a.lives.ID(store.Pos(pos)), Stamp: a.lives.Stamp(store.Pos(pos))}
	if n := numberOf(pos) - a.first; n >= 0 { // of this transaction: not flushed yet
		first := a.appended[n]
		m.SentAt, m.Origin = first.SentAt, first.Origin
		origin.Apply(m)
		return m, nil
	}
	var sent int64
	var value string
	return m, a.j.rows(sqlSentMessage, []any{pos}, []any{&sent, &value}, func() (err error) {
		m.SentAt = at(sent)
		if value != "" {
			m.Origin, err = origin.Unpack(value)
		}
		if err == nil {
			origin.Apply(m)
		}
		return err
	})
}

// repeat gives m the place of the message it repeats; false when there is none.
func (a *appender) repeat(m *store.Message, w *twin) bool {
	if !w.live {
		return false
	}
	m.Pos, m.ID, m.SentAt, m.Stamp = w.first.Pos, w.first.ID, w.first.SentAt, w.first.Stamp
	if m.ID == "" { // given by flush
		m.ID = a.lives.ID(m.Pos)
	}
	return true
}

func (a *appender) remember(m *store.Message, w *twin) error {
	expires := a.now + m.DedupFor.Microseconds()
	return a.j.exec(sqlSetDedup, a.tails[m.Topic].id, m.Dedup, w.hash[:], int64(m.Pos), expires)
}
