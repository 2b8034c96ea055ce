package sqlite

import (
	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

// The order within a key is kept by two rules. A claim files a fresh message
// behind an earlier one of its key that is deferred or dead (blockers). And
// whenever a delivery with a key was settled, the key's followers are looked at
// again (resolve): with the lowest gone they are released, with one failing
// they go behind it.
//
// Keys with such rows are rare, and most queues have none. So the keys that have
// any are read first: as long as they are few, all other keys cost nothing.

// keyring is the keys of a queue that have rows in deferred or dead.
type keyring struct {
	all  bool // keys holds all of them
	keys map[string]struct{}
}

// keysMax bounds what is read up front; beyond it each key is looked up.
const keysMax = 64

const (
	// One step along the index for each key, however many rows a key has.
	sqlDeferredKey = `select key from weir_deferred where queue = ?1 and key > ?2 order by key limit 1`
	sqlDeadKey     = `select key from weir_dead where queue = ?1 and key > ?2 order by key limit 1`
)

func loadKeys(c *conn, q *queueTail) (*keyring, error) {
	k := &keyring{all: true}
	steps := []string{sqlDeferredKey, sqlDeadKey}
	if store.OnDead(q.onDead) == store.Skip {
		steps = steps[:1] // the dead are in nobody's way
	}
	for _, step := range steps {
		if err := k.walk(c, step, q.id); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *keyring) walk(c *conn, step string, queue int64) error {
	key := "" // no key is empty
	for {
		found := false
		err := c.query(step, []any{queue, key}, func(st *sqlite.Stmt) error {
			key, found = st.ColumnText(0), true
			return nil
		})
		if err != nil || !found {
			return err
		}
		if len(k.keys) >= keysMax {
			k.all = false
			return nil
		}
		if k.keys == nil {
			k.keys = map[string]struct{}{}
		}
		k.keys[key] = struct{}{}
	}
}

// mayWait reports whether messages may wait for one of this key.
func (k *keyring) mayWait(key string) bool {
	if !k.all {
		return true
	}
	_, ok := k.keys[key]
	return ok
}

// note has the key's followers looked at before the transaction ends.
func (q *queueTail) note(key string) {
	if q.moved == nil {
		q.moved = map[string]struct{}{}
	}
	q.moved[key] = struct{}{}
}

// The planner, without statistics, would walk all of the queue by its primary key.
const (
	sqlWaiting  = `select pos, kind from weir_deferred indexed by weir_deferred_key where queue = ?1 and key = ?2 and kind <> 1 order by pos limit ?3`
	sqlDeadOf   = `select min(pos) from weir_dead where queue = ?1 and key = ?2`
	sqlRelease1 = `update weir_deferred set kind = 5, due_us = 0 where queue = ?1 and pos = ?2`
	sqlReblock  = `update weir_deferred indexed by weir_deferred_key set kind = 4, due_us = null where queue = ?1 and key = ?2 and kind = 5 and pos > ?3`
	sqlPark1    = `insert or replace into weir_dead (queue, pos, died_us, key, attempts, reason, behind)
		select queue, pos, ?4, key, attempt - 1, ?5, ?3 from weir_deferred indexed by weir_deferred_key
		where queue = ?1 and key = ?2 and pos > ?3 and kind in (4, 5)`
	sqlParked = `delete from weir_deferred indexed by weir_deferred_key where queue = ?1 and key = ?2 and pos > ?3 and kind in (4, 5)`
)

// resolveKeys looks at the followers of all keys noted.
func (t *commit) resolveKeys() error {
	for _, q := range t.queues {
		for key := range q.moved {
			if err := resolve(t.c, q, key, t.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve releases a key's followers, sends them behind the failed one again, or
// parks them with the dead one.
func resolve(c *conn, q *queueTail, key string, now int64) error {
	dead, hasDead := int64(0), false
	if store.OnDead(q.onDead) != store.Skip {
		var err error
		if dead, hasDead, err = c.number(sqlDeadOf, q.id, key); err != nil {
			return err
		}
	}
	if hasDead && store.OnDead(q.onDead) == store.Park {
		if err := park(c, q, key, dead, now); err != nil {
			return err
		}
	}
	// The lowest of those deferred decides: followers are behind what failed.
	type row struct{ pos, kind int64 }
	var waiting []row
	err := c.query(sqlWaiting, []any{q.id, key, store.MaxRelease}, func(st *sqlite.Stmt) error {
		waiting = append(waiting, row{st.ColumnInt64(0), st.ColumnInt64(1)})
		return nil
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	blocker := int64(1) << 62
	if hasDead {
		blocker = dead
	}
	for _, w := range waiting {
		if w.kind == kindRetry || w.kind == kindNotYet {
			blocker = min(blocker, w.pos)
		}
	}
	if waiting[len(waiting)-1].pos > blocker {
		if err := c.exec(sqlReblock, q.id, key, blocker); err != nil {
			return err
		}
	}
	for _, w := range waiting {
		if w.kind == kindBehind && w.pos < blocker {
			if err := c.exec(sqlRelease1, q.id, w.pos); err != nil {
				return err
			}
		}
	}
	return nil
}

// park moves a key's followers to the dead one they follow.
func park(c *conn, q *queueTail, key string, dead, now int64) error {
	if err := c.exec(sqlPark1, q.id, key, dead, now, parkedReason); err != nil {
		return err
	}
	n := c.changes()
	if n == 0 {
		return nil
	}
	q.newGone += n
	q.newDied += n
	return c.exec(sqlParked, q.id, key, dead)
}

const parkedReason = "an earlier message of its key is dead"

// blockers says for fresh messages of a queue what they have to wait for.
type blockers struct {
	c    *conn
	q    *queueTail
	keys *keyring
	// found remembers keys, since those of a batch repeat.
	found map[string]blocker
}

// blocker is the earliest message that those of its key wait for; none when pos is 0.
type blocker struct {
	pos  int64
	dead bool // they join it rather than wait
}

const sqlLowest = `select pos from weir_deferred indexed by weir_deferred_key where queue = ?1 and key = ?2 and kind <> 1 order by pos limit 1`

func newBlockers(c *conn, q *queueTail) (*blockers, error) {
	keys, err := loadKeys(c, q)
	return &blockers{c: c, q: q, keys: keys}, err
}

// of is what a message at pos waits for.
func (b *blockers) of(key string, pos int64) (blocker, error) {
	if key == "" || !b.keys.mayWait(key) {
		return blocker{}, nil
	}
	found, ok := b.found[key]
	if !ok {
		var err error
		if found, err = b.look(key); err != nil {
			return blocker{}, err
		}
		if b.found == nil {
			b.found = map[string]blocker{}
		}
		b.found[key] = found
	}
	if found.pos >= pos {
		return blocker{}, nil
	}
	return found, nil
}

func (b *blockers) look(key string) (blocker, error) {
	var found blocker
	if on := store.OnDead(b.q.onDead); on != store.Skip {
		dead, ok, err := b.c.number(sqlDeadOf, b.q.id, key)
		if err != nil {
			return found, err
		}
		if ok {
			found = blocker{pos: dead, dead: on == store.Park}
		}
	}
	if found.dead {
		return found, nil
	}
	lowest, ok, err := b.c.number(sqlLowest, b.q.id, key)
	if ok && (found.pos == 0 || lowest < found.pos) {
		found.pos = lowest
	}
	return found, err
}

// file puts a message that waits for another among the deferred, or the dead.
func (b blocker) file(c *conn, q *queueTail, m *store.Message, now int64) error {
	if b.dead {
		q.newGone++
		q.newDied++
		return c.exec(sqlDie, q.id, int64(m.Pos), now, m.Key, 0, parkedReason, false, b.pos)
	}
	return c.exec(sqlDefer, q.id, int64(m.Pos), kindBehind, nil, m.Key, 1, 0, nil, nil)
}
