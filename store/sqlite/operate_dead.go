package sqlite

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

// letter is a dead letter that an act settles.
type letter struct {
	queue    int64
	pos      int64
	key      string // empty: none
	attempts int
	reason   string
	parked   bool // it follows a dead message of its key and never ran
	follows  bool // settled because its head is
}

// settling is what an act will do, found before anything is written, so that a
// dry run counts exactly what the act would do.
type settling struct {
	letters []letter
	queues  map[int64]queueRow // those of letters
	more    bool
}

// settleDead retries or discards dead letters.
func (o operation) settleDead() (store.Acted, error) {
	plan, err := o.plan()
	if err != nil {
		return store.Acted{}, err
	}
	acted := store.Acted{Count: int64(len(plan.letters)), More: plan.more}
	if o.act.DryRun || len(plan.letters) == 0 {
		return acted, nil
	}
	if o.act.Verb == store.RetryDead {
		err = o.retry(plan)
	} else {
		err = o.discard(plan)
	}
	if err != nil {
		return store.Acted{}, err
	}
	return acted, o.auditDead(plan)
}

func (o operation) plan() (settling, error) {
	var queues []queueRow
	if o.act.Queue != "" {
		q, err := o.queue()
		if err != nil {
			return settling{}, err
		}
		queues = []queueRow{q}
	} else {
		var err error
		if queues, err = readQueues(o.c, nil); err != nil {
			return settling{}, err
		}
	}
	plan := settling{queues: map[int64]queueRow{}}
	for _, q := range queues {
		plan.queues[q.id] = q
	}
	if o.act.ID != "" {
		return plan, o.planOne(&plan, queues)
	}
	for _, q := range queues {
		if err := o.planQueue(&plan, q); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

const (
	letterFields  = ` pos, key, attempts, reason, behind is not null `
	letterAt      = `select` + letterFields + `from weir_dead where queue = ?1 and pos = ?2`
	lettersOf     = `select` + letterFields + `from weir_dead where queue = ?1 order by pos`
	lettersBehind = `select` + letterFields + `from weir_dead indexed by weir_dead_key
		where queue = ?1 and key = ?2 and pos > ?3 order by pos limit ?4`
	deadBefore = `select pos from weir_dead indexed by weir_dead_key where queue = ?1 and key = ?2 and pos < ?3 order by pos limit 1`
)

func letterRow(s *sqlite.Stmt, queue int64) letter {
	return letter{queue: queue, pos: s.ColumnInt64(0), key: s.ColumnText(1),
		attempts: s.ColumnInt(2), reason: s.ColumnText(3), parked: s.ColumnBool(4)}
}

// planOne finds the dead letters of one message, and with a retry those parked behind it.
func (o operation) planOne(plan *settling, queues []queueRow) error {
	pos, err := o.s.locate(o.c, o.act.ID)
	if err != nil {
		return err
	}
	for _, q := range queues {
		if q.topic != ownerOf(pos) {
			continue
		}
		var found []letter
		err := o.c.query(letterAt, []any{q.id, pos}, func(s *sqlite.Stmt) error {
			found = append(found, letterRow(s, q.id))
			return nil
		})
		if err != nil {
			return err
		}
		for _, l := range found {
			if err := o.planLetter(plan, q, l); err != nil {
				return err
			}
		}
	}
	if len(plan.letters) == 0 {
		return o.notDead(pos)
	}
	return nil
}

func (o operation) planLetter(plan *settling, q queueRow, l letter) error {
	plan.letters = append(plan.letters, l)
	if o.act.Verb != store.RetryDead || l.key == "" {
		return nil
	}
	if q.OnDead != store.Skip || l.parked {
		first, found, err := o.c.number(deadBefore, q.id, l.key, l.pos)
		if err != nil {
			return err
		}
		if found {
			name, err := nameOf(o.c, o.s.lives(), first)
			return errors.Join(err, fmt.Errorf("%w: message %s of key %q waits in %s for %s, which is dead too: retry or discard that one first",
				store.ErrConflict, o.act.ID, l.key, q.Name, name))
		}
	}
	others := false // a later one that died by itself: what follows waits for that
	return o.c.query(lettersBehind, []any{q.id, l.key, l.pos, store.MaxOperate}, func(s *sqlite.Stmt) error {
		next := letterRow(s, q.id)
		others = others || !next.parked
		switch {
		case others:
		case len(plan.letters) == store.MaxOperate:
			plan.more = true
		default:
			next.follows = true
			plan.letters = append(plan.letters, next)
		}
		return nil
	})
}

// notDead explains why there is no dead letter to settle.
func (o operation) notDead(pos int64) error {
	w := scribe{lives: o.s.lives()}
	m, err := w.read(o.c, pos, false)
	if err != nil {
		return err
	}
	if m == nil {
		return fmt.Errorf("%w: message %s was never sent, or retention has deleted it", store.ErrNotFound, o.act.ID)
	}
	stories, err := newTeller(o.c).tell(pos)
	if err != nil {
		return err
	}
	var states []string
	for _, story := range stories {
		if o.act.Queue == "" || o.act.Queue == story.Queue {
			states = append(states, story.State+" in "+story.Queue)
		}
	}
	if len(states) == 0 {
		return fmt.Errorf("%w: no queue %s got message %s: weir message show %s tells where it went",
			store.ErrNotFound, o.act.Queue, o.act.ID, o.act.ID)
	}
	return fmt.Errorf("%w: message %s is not dead, it is %s", store.ErrConflict, o.act.ID, strings.Join(states, ", "))
}

var errEnough = errors.New("enough rows")

// planQueue walks a queue's dead letters, oldest first, and takes those that
// match. A keyed one is retried only if no earlier one of its key stays dead
// (unless the queue skips); those parked behind it come along, whatever their reason.
func (o operation) planQueue(plan *settling, q queueRow) error {
	retry := o.act.Verb == store.RetryDead
	taken := map[string]bool{}  // keys with a letter that is retried
	closed := map[string]bool{} // keys with a letter that stays dead
	err := o.c.query(lettersOf, []any{q.id}, func(s *sqlite.Stmt) error {
		l := letterRow(s, q.id)
		take := strings.Contains(l.reason, o.act.Matching)
		if retry && l.key != "" {
			l.follows = l.parked && taken[l.key] && !closed[l.key]
			take = l.follows || take && (!closed[l.key] || q.OnDead == store.Skip && !l.parked)
			taken[l.key] = taken[l.key] || take
			closed[l.key] = closed[l.key] || !take
		}
		if !take {
			return nil
		}
		if len(plan.letters) == store.MaxOperate {
			plan.more = true
			return errEnough
		}
		plan.letters = append(plan.letters, l)
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

const (
	deleteDead  = `delete from weir_dead where queue = ?1 and pos = ?2`
	deleteStart = `delete from weir_starts where queue = ?1 and pos = ?2`
	// due_us 0 is at once, before all that is due by the clock, by position.
	insertRetried = `insert into weir_deferred (queue, pos, kind, due_us, key, attempt, reason)
		values (?1, ?2, 2, 0, ?3, 1, ?4)`
	insertFollower = `insert into weir_deferred (queue, pos, kind, due_us, key, attempt, reason)
		values (?1, ?2, 4, null, ?3, 1, ?4)`
	// Without the hints the planner walks the queue in the order of its primary key.
	deferredBefore = `select pos from weir_deferred indexed by weir_deferred_key where queue = ?1 and key = ?2 and pos < ?3 and kind <> 1
		order by pos limit 1`
	putEdit = `insert into weir_edits (queue, pos, body, headers) values (?1, ?2, ?3, ?4)
		on conflict (queue, pos) do update set
		body = coalesce(excluded.body, body), headers = coalesce(excluded.headers, headers)`
	returned = `update weir_queues set gone = gone - ?2 where id = ?1`
)

// retry makes dead letters deferred again: due at once, or, where an earlier
// message of the key is on its way, behind it. Attempts are counted anew.
func (o operation) retry(plan settling) error {
	reason := o.reason("retried")
	count := map[int64]int64{}
	for _, l := range plan.letters {
		if err := o.c.exec(deleteDead, l.queue, l.pos); err != nil {
			return err
		}
		if err := o.c.exec(deleteStart, l.queue, l.pos); err != nil {
			return err
		}
		behind := l.follows
		if l.key != "" && !behind {
			var err error
			if _, behind, err = o.c.number(deferredBefore, l.queue, l.key, l.pos); err != nil {
				return err
			}
		}
		insert := insertRetried
		if behind {
			insert = insertFollower
		}
		if err := o.c.exec(insert, l.queue, l.pos, nullable(l.key), reason); err != nil {
			return err
		}
		if acts.Edits(o.act) && !l.follows {
			if err := o.c.exec(putEdit, l.queue, l.pos, o.act.Body, o.act.Headers); err != nil {
				return err
			}
		}
		count[l.queue]++
	}
	for queue, n := range count {
		if err := o.c.exec(returned, queue, n); err != nil {
			return err
		}
	}
	return o.settleKeys(plan)
}

const insertDiscarded = `insert into weir_attempts (queue, pos, n, attempt, took_us, verdict, reason, process)
	select ?1, ?2, coalesce(max(n), 0) + 1, ?3, 0, 'discarded', ?4, 0
	from weir_attempts where queue = ?1 and pos = ?2`

// discard drops dead letters; their keys go on, where nothing else stops them.
// Letters parked behind one stay: the first of them is then the head.
func (o operation) discard(plan settling) error {
	reason := o.reason("discarded")
	for _, l := range plan.letters {
		if err := o.c.exec(deleteDead, l.queue, l.pos); err != nil {
			return err
		}
		if err := o.c.exec(deleteStart, l.queue, l.pos); err != nil {
			return err
		}
		if err := o.c.exec(insertDiscarded, l.queue, l.pos, l.attempts, reason); err != nil {
			return err
		}
	}
	return o.settleKeys(plan)
}

// newHead makes the first letter of a key a head if the one it was parked behind
// has left without it. With the reason of that one, the next call of the same
// act finds it. The lowest dead of a key is a head always: claims look only for heads.
const newHead = `update weir_dead set behind = null, reason = coalesce(?3, reason)
	where queue = ?1 and behind is not null
	and pos = (select pos from weir_dead indexed by weir_dead_key where queue = ?1 and key = ?2 order by pos limit 1)`

// settleKeys brings the keys of what has left the dead to order: see resolve.
func (o operation) settleKeys(plan settling) error {
	type name struct {
		queue int64
		key   string
	}
	seen := map[name]bool{}
	tails := map[int64]*queueTail{}
	for _, l := range plan.letters {
		if l.key == "" || l.follows || seen[name{l.queue, l.key}] {
			continue
		}
		seen[name{l.queue, l.key}] = true
		var reason any // a parked letter's own tells more than none
		if o.act.Verb == store.RetryDead {
			reason = l.reason
		}
		if err := o.c.exec(newHead, l.queue, l.key, reason); err != nil {
			return err
		}
		q := tails[l.queue]
		if q == nil {
			q = &queueTail{id: l.queue, onDead: int64(plan.queues[l.queue].OnDead)}
			tails[l.queue] = q
		}
		if err := resolve(o.c, q, l.key, us(o.now)); err != nil {
			return err
		}
	}
	for _, q := range tails {
		if err := o.c.exec(sqlCount, q.id, 0, q.newGone, q.newDied); err != nil {
			return err
		}
	}
	return nil
}

// reason tells the next reader who did it.
func (o operation) reason(done string) string {
	return done + " by " + o.act.By + ": " + o.act.Why
}

func nullable(key string) any {
	if key == "" {
		return nil
	}
	return key
}

// auditDead writes the act's one row.
func (o operation) auditDead(plan settling) error {
	if o.act.ID == "" {
		first, err := nameOf(o.c, o.s.lives(), plan.letters[0].pos)
		if err != nil {
			return err
		}
		last, err := nameOf(o.c, o.s.lives(), plan.letters[len(plan.letters)-1].pos)
		if err != nil {
			return err
		}
		return o.audit(acts.SettledAll(o.act, first, last, len(plan.letters), plan.more))
	}
	var list []acts.Dead
	for _, l := range plan.letters {
		list = append(list, acts.Dead{Queue: plan.queues[l.queue].Name, Attempts: l.attempts, Reason: l.reason, Follows: l.follows})
	}
	var body, headers []byte
	if acts.Edits(o.act) {
		var err error
		if body, headers, err = o.contentNow(plan.letters[0].pos); err != nil {
			return err
		}
	}
	return o.audit(acts.Settled(o.act, list, body, headers))
}

// contentNow is the journal's body and headers of a message.
func (o operation) contentNow(pos int64) (body, headers []byte, err error) {
	m, err := scribe{lives: o.s.lives()}.read(o.c, pos, true)
	if m != nil {
		body, headers = m.Body, m.Headers
	}
	return body, headers, err
}
