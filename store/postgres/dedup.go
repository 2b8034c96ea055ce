package postgres

import (
	"crypto/sha256"

	"github.com/weir-go/weir/store"
)

const (
	sqlDedup = `select t.name, d.key, d.hash, d.pos, d.sent_us, d.expires_us
		from unnest($1::text[], $2::text[]) as u(topic, key)
		join weir.topics t on t.name = u.topic join weir.dedup d on d.topic = t.id and d.key = u.key`
	sqlSetDedup = `insert into weir.dedup (topic, key, hash, pos, sent_us, expires_us)
		select * from unnest($1::int[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[])
		on conflict (topic, key) do update set hash = excluded.hash, pos = excluded.pos, sent_us = excluded.sent_us, expires_us = excluded.expires_us`
)

// sent is what a deduplication key was used for.
type sent struct {
	hash               [sha256.Size]byte
	pos, sent, expires int64
	fresh              bool // by this transaction
}

// twin is what is known of a message's deduplication key.
type twin struct {
	hash [sha256.Size]byte
	live bool // an earlier message has the key
	pos  int64
	sent int64
	// within is the earlier message when it is in the same change: its place is not known yet.
	within *store.Message
	origin *store.Origin // of the earlier message, if it is known
}

func (a *appender) askDedup(sends []*store.Message) {
	var topics, keys []string
	for _, m := range sends {
		if m.Dedup != "" && storable(m.Dedup) && storable(m.Topic) {
			topics, keys = append(topics, m.Topic), append(keys, m.Dedup)
		}
	}
	if len(keys) == 0 {
		return
	}
	a.dedups = map[name]*sent{}
	a.ask(sqlDedup, func(read scan) error {
		var n name
		var d sent
		var hash []byte
		if err := read(&n.topic, &n.key, &hash, &d.pos, &d.sent, &d.expires); err != nil {
			return err
		}
		copy(d.hash[:], hash)
		a.dedups[n] = &d
		return nil
	}, topics, keys)
}

// findTwins looks for the earlier messages that deduplicated sends repeat.
func (a *appender) findTwins(sends []*store.Message) (twins []*twin, refused error) {
	twins = make([]*twin, len(sends))
	within, arrived := map[name]int{}, map[string]int{}
	for i, m := range sends {
		if m.Origin != nil {
			if twins[i] = a.firstOf(sends, i, arrived); twins[i].live || m.Dedup == "" {
				continue
			}
		}
		if m.Dedup == "" {
			continue
		}
		w := &twin{hash: sha256.Sum256(m.Body)}
		twins[i] = w
		n := name{m.Topic, m.Dedup}
		if first, ok := within[n]; ok {
			w.live, w.within = true, sends[first]
			if twins[first].hash != w.hash {
				return nil, &store.DuplicateError{Topic: m.Topic, Key: m.Dedup}
			}
			continue
		}
		within[n] = i
		d := a.dedups[n]
		if d == nil || d.expires <= a.now {
			continue
		}
		if d.hash != w.hash {
			return nil, &store.DuplicateError{Topic: m.Topic, Key: m.Dedup, ID: a.s.lives().ID(store.Pos(d.pos))}
		}
		w.live, w.pos, w.sent = true, d.pos, d.sent
	}
	return twins, nil
}

// repeat gives m the place of the message it repeats; false when there is none.
func (w *twin) repeat(s *Store, m *store.Message) bool {
	if !w.live {
		return false
	}
	first := w.within
	if first == nil {
		first = &store.Message{Pos: store.Pos(w.pos), SentAt: at(w.sent), Origin: w.origin}
		s.christen(first)
	}
	m.Pos, m.ID, m.SentAt, m.Stamp = first.Pos, first.ID, first.SentAt, first.Stamp
	return true
}

// writeDedup queues the deduplication keys used.
func (a *appender) writeDedup() {
	var topics []int32
	var keys []string
	var hashes [][]byte
	var poss, sents, ends []int64
	for n, d := range a.dedups {
		if !d.fresh {
			continue
		}
		topics, keys, hashes = append(topics, int32(topicOf(d.pos))), append(keys, n.key), append(hashes, d.hash[:])
		poss, sents, ends = append(poss, d.pos), append(sents, d.sent), append(ends, d.expires)
	}
	if len(keys) > 0 {
		a.do(sqlSetDedup, topics, keys, hashes, poss, sents, ends)
	}
}
