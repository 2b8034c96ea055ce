package postgres

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/origin"
)

// What another store sent keeps the ID that it has there, and is here once: who sends with an origin
// holds a lock of it until his transaction ends, and looks for the ID. Locks are of where the IDs
// are from, of which a change has few, though it may have 10,000 messages.

// first is the message that is here with an origin's ID.
type first struct {
	pos, sent int64
	origin    *store.Origin
}

const (
	sqlFirsts = `select u.i - 1, f.pos, f.sent_us, f.origin from unnest($1::text[], $2::text[]) with ordinality as u(low, high, i)
		cross join lateral (
			(select topic::bigint << 40 | seq as pos, sent_us, origin from weir.messages where origin > u.low and origin < u.high limit 1)
			union all
			(select topic::bigint << 40 | seq, sent_us, origin from weir.kept where origin > u.low and origin < u.high limit 1)
			limit 1) f`
	sqlOriginsAt = `select p.pos, coalesce(m.origin, '') from unnest($1::bigint[]) as p(pos) cross join lateral (
			select origin from weir.messages where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			union all select origin from weir.kept where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775 limit 1) m`

	// originLocks bounds the locks of one change.
	originLocks = 64
)

// originLock is the lock of all origins from one store, or program.
func (s *Store) originLock(id string) int64 {
	if i := strings.LastIndexAny(id, "#-"); i > 0 {
		id = id[:i]
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // it never fails
	return s.lockNumber("origin", strconv.Itoa(int(h.Sum32()%originLocks)))
}

// malformedOrigin says what is wrong with where a message comes from.
func malformedOrigin(m *store.Message) error {
	if m.Origin == nil {
		return nil
	}
	if err := origin.Check(m.Origin); err != nil {
		return fmt.Errorf("send to topic %q: %w", m.Topic, err)
	}
	if !storable(m.Origin.ID) || !storable(m.Origin.From) {
		return fmt.Errorf("send to topic %q: origin %q of %q is no text that PostgreSQL can keep: it is not UTF-8", m.Topic, m.Origin.ID, m.Origin.From)
	}
	return nil
}

// packed is an origin as it is stored.
func packed(o *store.Origin) *string {
	if o == nil {
		return nil
	}
	text := origin.Pack(o)
	return &text
}

// askFirsts queues a look for the messages that are here with the IDs of the sends' origins.
func (a *appender) askFirsts(sends []*store.Message) {
	var ids []string
	for _, m := range sends {
		if m.Origin != nil && malformedOrigin(m) == nil {
			ids = append(ids, m.Origin.ID)
		}
	}
	if len(ids) > 0 {
		a.firsts = make(map[string]*first, len(ids))
		a.askOrigins(ids, a.firsts)
	}
}

// askOrigins queues a look for messages by their origins' IDs.
func (t *tx) askOrigins(ids []string, into map[string]*first) {
	lows, highs := make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		lows[i], highs[i] = origin.Range(id)
	}
	t.ask(sqlFirsts, func(read scan) error {
		var i int
		var f first
		var text string
		if err := read(&i, &f.pos, &f.sent, &text); err != nil {
			return err
		}
		into[ids[i]] = &f
		var err error
		f.origin, err = origin.Unpack(text)
		return err
	}, lows, highs)
}

// origins finds messages by their origins' IDs.
func (t *tx) origins(ids []string) (map[string]*first, error) {
	found := map[string]*first{}
	var known []string
	for _, id := range ids {
		if storable(id) && len(id) <= store.MaxOrigin {
			known = append(known, id)
		}
	}
	if len(known) == 0 {
		return found, nil
	}
	t.askOrigins(known, found)
	return found, t.flush()
}

// firstOf says whether a message repeats one that has come here, or one before it in its change.
func (a *appender) firstOf(sends []*store.Message, i int, within map[string]int) *twin {
	id := sends[i].Origin.ID
	if before, ok := within[id]; ok {
		return &twin{live: true, within: sends[before]}
	}
	within[id] = i
	if f := a.firsts[id]; f != nil {
		return &twin{live: true, pos: f.pos, sent: f.sent, origin: f.origin}
	}
	return &twin{}
}

// namesAt gives the IDs of those messages at positions that came from elsewhere, by what they would be called here.
func (t *tx) namesAt(positions []int64) (map[string]string, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	names := map[string]string{}
	return names, t.get(sqlOriginsAt, func(read scan) error {
		var m store.Message
		var from string
		if err := read(&m.Pos, &from); err != nil || from == "" {
			return err
		}
		err := t.s.christenRow(&m, from)
		names[t.s.lives().ID(m.Pos)] = m.ID
		return err
	}, positions)
}

// nameAt is the ID of the message at a position.
func (t *tx) nameAt(pos int64) (string, error) {
	id := t.s.lives().ID(store.Pos(pos))
	names, err := t.namesAt([]int64{pos})
	if name := names[id]; name != "" {
		id = name
	}
	return id, err
}
