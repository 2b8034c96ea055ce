package sqlite

import (
	"cmp"
	"context"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
)

// Both come from the index alone.
const (
	conversationMessages = `select pos from weir_messages where correlation = ?1 limit ?2`
	conversationKept     = `select pos from weir_kept where correlation = ?1 limit ?2`

	referencesLive = `select cause, correlation, origin from weir_messages where pos = ?1`
	referencesKept = `select cause, correlation, origin from weir_kept where pos = ?1`
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
	c    *conn
	seen map[int64]bool // positions in it
	done map[any]bool   // roots asked for: int64 or, of another store, string
}

// Trace tells everything that happened to a business key. Of more than max
// messages it tells the newest, in the order they were sent.
func (r reader) Trace(ctx context.Context, key string, max int) ([]store.MessageStory, error) {
	if key == "" {
		return nil, nil
	}
	var out []store.MessageStory
	err := r.s.read(ctx, func(c *conn) error {
		w, err := r.scribe(c)
		if err != nil {
			return err
		}
		positions, err := r.traced(c, w, key, listMax(max))
		if err != nil {
			return err
		}
		t := newTeller(c)
		for _, pos := range positions {
			m, err := w.read(c, pos, false)
			if err != nil {
				return err
			}
			if m == nil {
				continue // the root of a conversation may be gone already
			}
			story := store.MessageStory{Message: *m}
			if story.Queues, err = t.tell(pos); err != nil {
				return err
			}
			out = append(out, story)
		}
		return nil
	})
	return out, err
}

// traced gives the positions of a trace, by seq.
func (r reader) traced(c *conn, w scribe, key string, max int) ([]int64, error) {
	talk := conversation{c: c, seen: map[int64]bool{}, done: map[any]bool{}}
	list := newMerge(c, w, store.MessageQuery{Key: key, Max: max})
	for range max {
		m, err := list.next()
		if err != nil {
			return nil, err
		}
		if m == nil {
			break
		}
		if err := talk.join(int64(m.Pos)); err != nil {
			return nil, err
		}
	}
	if err := talk.joinRuns(w.lives, key); err != nil {
		return nil, err
	}
	positions := make([]int64, 0, len(talk.seen))
	for pos := range talk.seen {
		positions = append(positions, pos)
	}
	slices.SortFunc(positions, func(a, b int64) int { return cmp.Compare(numberOf(a), numberOf(b)) })
	return positions[len(positions)-min(len(positions), max):], nil
}

// join adds a message and all others of its conversation.
func (t *conversation) join(pos int64) error {
	t.seen[pos] = true
	root, err := t.root(pos)
	if err != nil {
		return err
	}
	return t.joinRoot(root)
}

// joinRoot adds a conversation by its root.
func (t *conversation) joinRoot(root any) error {
	if t.done[root] {
		return nil
	}
	t.done[root] = true
	switch root := root.(type) {
	case int64:
		t.seen[root] = true
	case string: // the root may have come from elsewhere
		pos, err := ofOrigin(t.c, root)
		if err != nil {
			return err
		}
		if pos != 0 {
			t.seen[pos] = true
		}
	}
	for _, query := range [...]string{conversationMessages, conversationKept} {
		err := t.c.query(query, []any{root, conversationMax - min(conversationMax, len(t.seen))}, func(s *sqlite.Stmt) error {
			t.seen[s.ColumnInt64(0)] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// runsNamed finds the conversations of the runs that have a key for their ID.
const runsNamed = `select r.no, r.correlation from weir_workflows w cross join weir_runs r on r.workflow = w.id and r.id = ?1 order by r.no`

// joinRuns adds the conversations of runs whose ID is the key.
func (t *conversation) joinRuns(l lives.Lives, key string) error {
	var roots []any
	err := t.c.query(runsNamed, []any{key}, func(s *sqlite.Stmt) error {
		if root := rawReference(s, 1); root != nil {
			roots = append(roots, root)
			return nil
		}
		for _, id := range l.RunIDs(store.RunNo(s.ColumnInt64(0))) {
			roots = append(roots, id)
		}
		return nil
	})
	for _, root := range roots {
		if err == nil {
			err = t.joinRoot(root)
		}
	}
	return err
}

// root is the root of a message's conversation: its correlation; without one,
// the end of its causes; without one, itself. What came from elsewhere is named as there.
func (t *conversation) root(pos int64) (any, error) {
	for range causeMax {
		r, err := t.references(pos)
		if err != nil || r.correlation != nil {
			return r.correlation, err
		}
		var next int64
		switch cause := r.cause.(type) {
		case nil:
			return r.self, nil
		case int64:
			next = cause
		case string:
			if next, err = ofOrigin(t.c, cause); err != nil {
				return nil, err
			}
		}
		if next == 0 || next >= pos && ownerOf(next) == ownerOf(pos) {
			return r.cause, nil
		}
		pos = next
	}
	return pos, nil
}

// references are what a message refers to, and how others refer to it: as positions, or IDs from elsewhere.
type references struct{ cause, correlation, self any }

func (t *conversation) references(pos int64) (references, error) {
	r := references{self: pos}
	row := func(s *sqlite.Stmt) error {
		r.cause, r.correlation = rawReference(s, 0), rawReference(s, 1)
		if s.ColumnIsNull(2) {
			return nil
		}
		o, err := origin.Unpack(s.ColumnText(2))
		if err == nil {
			r.self = o.ID
		}
		return err
	}
	err := t.c.query(referencesLive, []any{pos}, row)
	if err == nil && r.cause == nil && r.correlation == nil {
		err = t.c.query(referencesKept, []any{pos}, row)
	}
	return r, err
}

func rawReference(s *sqlite.Stmt, col int) any {
	switch s.ColumnType(col) {
	case sqlite.TypeNull:
		return nil
	case sqlite.TypeInteger:
		return s.ColumnInt64(col)
	}
	return s.ColumnText(col)
}
