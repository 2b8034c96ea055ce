package postgres

import (
	"context"
	"slices"

	"github.com/weir-go/weir/store"
)

const (
	// The newest of a key, with what leads to their conversations.
	askTalkOfKey = `select n.pos, n.cause, n.correlation, n.origin from (
			select topic::bigint << 40 | seq as pos, seq, coalesce(cause, '') as cause, coalesce(correlation, '') as correlation,
				coalesce(origin, '') as origin from weir.messages where key = $1
			union
			select topic::bigint << 40 | seq, seq, coalesce(cause, ''), coalesce(correlation, ''), coalesce(origin, '') from weir.kept where key = $1) n
		order by n.seq desc limit $2`
	askTalkAt = `select p.pos, m.cause, m.correlation, m.origin from unnest($1::bigint[]) as p(pos) cross join lateral (
			select coalesce(cause, '') as cause, coalesce(correlation, '') as correlation, coalesce(origin, '') as origin from weir.messages
				where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			union all select coalesce(cause, ''), coalesce(correlation, ''), coalesce(origin, '') from weir.kept
				where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			limit 1) m`
	askConversations = `select topic::bigint << 40 | seq from weir.messages where correlation = any($1)
		union select topic::bigint << 40 | seq from weir.kept where correlation = any($1) limit $2`
	// Runs whose ID is the key have conversations of their own.
	askRunsNamed = `select r.no, r.correlation from weir.workflows w cross join lateral (
			select no, coalesce(correlation, '') as correlation from weir.runs where workflow = w.id and id = $1 limit 1) r
		order by r.no`
)

const (
	// conversationMax bounds the positions read of all conversations of a trace;
	// they come from an index, so that is some milliseconds.
	conversationMax = 100_000
	// causeMax bounds the steps from a message without correlation to its root.
	causeMax = 100
)

// conversation collects positions.
type conversation struct {
	t     *tx
	seen  map[int64]bool  // positions in it
	roots map[string]bool // IDs of roots
	// climb is the positions whose causes are followed up to a root; abroad, the IDs of causes of elsewhere.
	climb  []int64
	abroad []string
}

// Trace tells everything that happened to a business key. Of more than max
// messages it tells the newest, in the order they were sent.
func (r reader) Trace(ctx context.Context, key string, max int) ([]store.MessageStory, error) {
	if key == "" || !storable(key) {
		return nil, nil
	}
	var out []store.MessageStory
	err := r.s.read(ctx, func(t *tx) error {
		w, err := newScribe(t)
		if err != nil {
			return err
		}
		talk := &conversation{t: t, seen: map[int64]bool{}, roots: map[string]bool{}}
		positions, err := talk.of(key, listMax(max))
		if err != nil {
			return err
		}
		found, err := w.read(positions, false)
		if err != nil {
			return err
		}
		// The root of a conversation may be gone already.
		positions = slices.DeleteFunc(positions, func(pos int64) bool { return found[pos] == nil })
		told, err := tell(t, positions)
		if err != nil {
			return err
		}
		for _, pos := range positions {
			out = append(out, store.MessageStory{Message: *found[pos], Queues: told[pos]})
		}
		return nil
	})
	return out, err
}

// of gives the positions of a trace, by seq.
func (c *conversation) of(key string, max int) ([]int64, error) {
	c.t.ask(askRunsNamed, func(read scan) error {
		var no int64
		var root string
		err := read(&no, &root)
		if root != "" {
			c.roots[root] = true
			return err
		}
		for _, id := range c.t.s.lives().RunIDs(store.RunNo(no)) {
			c.roots[id] = true
		}
		return err
	}, key)
	err := c.t.get(askTalkOfKey, c.row, key, max)
	for range causeMax {
		if err == nil {
			err = c.come()
		}
		if err != nil || len(c.climb) == 0 {
			break
		}
		climb := c.climb
		c.climb = nil
		err = c.t.get(askTalkAt, c.row, climb)
	}
	if err == nil {
		err = c.join()
	}
	positions := make([]int64, 0, len(c.seen))
	for pos := range c.seen {
		positions = append(positions, pos)
	}
	bySeq(positions)
	return positions[len(positions)-min(len(positions), max):], err
}

// row takes a message in, and goes from it towards its root: its correlation; without
// one, the end of its causes; without one, itself.
func (c *conversation) row(read scan) error {
	var pos int64
	var cause, correlation, from string
	if err := read(&pos, &cause, &correlation, &from); err != nil {
		return err
	}
	c.seen[pos] = true
	m := store.Message{Pos: store.Pos(pos)}
	if err := c.t.s.christenRow(&m, from); err != nil {
		return err
	}
	above, local := c.t.s.lives().Local(cause)
	switch {
	case correlation != "":
		c.roots[correlation] = true
	case cause == "":
		c.roots[m.ID] = true
	case !local:
		if !c.roots[cause] {
			c.abroad = append(c.abroad, cause)
		}
		c.roots[cause] = true
	case !c.seen[int64(above)]:
		c.climb = append(c.climb, int64(above))
		c.roots[cause] = true // should it be gone, or too far up
	}
	return nil
}

// come finds the messages that causes of elsewhere name, if they have come here.
func (c *conversation) come() error {
	if len(c.abroad) == 0 {
		return nil
	}
	found, err := c.t.origins(c.abroad)
	c.abroad = nil
	for _, f := range found {
		if !c.seen[f.pos] {
			c.climb = append(c.climb, f.pos)
		}
	}
	return err
}

// join adds all messages of the conversations.
func (c *conversation) join() error {
	roots := make([]string, 0, len(c.roots))
	var abroad []string
	for root := range c.roots {
		roots = append(roots, root)
		if pos, ok := c.t.s.lives().Local(root); ok {
			c.seen[int64(pos)] = true
		} else {
			abroad = append(abroad, root)
		}
	}
	if len(roots) == 0 {
		return nil
	}
	came, err := c.t.origins(abroad)
	if err != nil {
		return err
	}
	for _, f := range came {
		c.seen[f.pos] = true
	}
	found, err := c.t.numbers(askConversations, roots, conversationMax)
	for _, pos := range found {
		c.seen[pos] = true
	}
	return err
}
