package sqlite

import (
	"bytes"
	"crypto/sha256"

	"github.com/weir-go/weir/store"
)

const (
	sqlDedup       = `select hash, pos, expires_us from weir_dedup where topic = ?1 and key = ?2`
	sqlSetDedup    = `insert or replace into weir_dedup (topic, key, hash, pos, expires_us) values (?1, ?2, ?3, ?4, ?5)`
	sqlSentMessage = `select sent_us from weir_messages where pos = ?1 union all select sent_us from weir_kept where pos = ?1`
)

// twin is what is known of a message's deduplication key.
type twin struct {
	hash [sha256.Size]byte
	live bool // an earlier message has the key
	pos  int64
	sent int64
	// within is the earlier message when it is in the same change: its place is not known yet.
	within *store.Message
}

// findTwins looks for the earlier messages that deduplicated sends repeat.
func (a *appender) findTwins(sends []*store.Message) (twins []*twin, refused, err error) {
	twins = make([]*twin, len(sends))
	type name struct{ topic, key string }
	within := map[name]int{}
	for i, m := range sends {
		if m.Dedup == "" {
			continue
		}
		w := &twin{hash: sha256.Sum256(m.Body)}
		twins[i] = w
		if first, ok := within[name{m.Topic, m.Dedup}]; ok {
			w.live, w.within = true, sends[first]
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

func (a *appender) findTwin(m *store.Message, w *twin) (refused, err error) {
	t := a.tails[m.Topic]
	if t.id == 0 {
		return nil, nil
	}
	var hash []byte
	var expires int64
	err = a.j.rows(sqlDedup, []any{t.id, m.Dedup}, []any{&hash, &w.pos, &expires}, func() error {
		w.live = expires > a.now
		return nil
	})
	if err != nil || !w.live {
		return nil, err
	}
	if !bytes.Equal(hash, w.hash[:]) {
		return &store.DuplicateError{Topic: m.Topic, Key: m.Dedup, ID: a.inc.ID(store.Pos(w.pos))}, nil
	}
	if w.pos&numberMask >= a.first { // of this transaction: not flushed yet
		w.sent = a.now
		return nil, nil
	}
	return nil, a.j.rows(sqlSentMessage, []any{w.pos}, []any{&w.sent}, func() error { return nil })
}

// repeat gives m the place of the message it repeats; false when there is none.
func (w *twin) repeat(m *store.Message, inc store.Incarnation) bool {
	switch {
	case !w.live:
		return false
	case w.within != nil:
		m.Pos, m.ID, m.SentAt = w.within.Pos, inc.ID(w.within.Pos), w.within.SentAt
	default:
		m.Pos, m.ID, m.SentAt = store.Pos(w.pos), inc.ID(store.Pos(w.pos)), at(w.sent)
	}
	return true
}

func (a *appender) remember(m *store.Message, w *twin) error {
	expires := a.now + m.DedupFor.Microseconds()
	return a.j.exec(sqlSetDedup, a.tails[m.Topic].id, m.Dedup, w.hash[:], int64(m.Pos), expires)
}
