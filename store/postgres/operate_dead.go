package postgres

import (
	"fmt"
	"strings"

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
	queues  map[int64]*seenQueue // those of letters
	more    bool
}

// settleDead retries or discards dead letters. What frees a key takes the lock of the
// queue's claims first: a claim beside it might file a message behind one that has just gone.
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
		o.retry(plan)
	} else {
		o.discard(plan)
	}
	o.settleKeys(plan)
	return acted, o.auditDead(plan)
}

func (o operation) plan() (settling, error) {
	var queues []*seenQueue
	if o.act.Queue != "" {
		q, err := o.queue()
		if err != nil {
			return settling{}, err
		}
		queues = []*seenQueue{q}
	} else {
		var err error
		if queues, err = seeQueues(o.t, ""); err != nil {
			return settling{}, err
		}
	}
	plan := settling{queues: map[int64]*seenQueue{}}
	for _, q := range queues {
		plan.queues[q.id] = q
	}
	if o.act.ID != "" {
		return plan, o.planOne(&plan, queues)
	}
	o.lock(queues)
	for _, q := range queues {
		if err := o.planQueue(&plan, q); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

// lock queues the taking of the locks of the queues' claims, in the order of their numbers.
func (o operation) lock(queues []*seenQueue) {
	if o.act.DryRun {
		return
	}
	for _, q := range byID(queues) {
		o.t.do(sqlQueueLock, o.s.queueLock(q.id))
	}
}

const (
	letterColumns   = ` queue, pos, coalesce(key, ''), attempts, reason, behind is not null `
	actLettersAt    = `select` + letterColumns + `from weir.dead where queue = any($1) and pos = $2 order by queue`
	actLettersOf    = `select` + letterColumns + `from weir.dead where queue = $1 and pos > $2 order by pos limit $3`
	actLetterBehind = `select` + letterColumns + `from weir.dead where queue = $1 and key = $2 and pos > $3 order by pos limit $4`
	actDeadBefore   = `select pos from weir.dead where queue = $1 and key = $2 and pos < $3 order by pos limit 1`

	// lettersRead is how many dead letters are read at a time.
	lettersRead = 10_000
)

func seeLetter(read scan) (letter, error) {
	var l letter
	return l, read(&l.queue, &l.pos, &l.key, &l.attempts, &l.reason, &l.parked)
}

// planOne finds the dead letters of one message, and with a retry those parked behind it.
func (o operation) planOne(plan *settling, queues []*seenQueue) error {
	pos, err := o.t.locate(o.act.ID)
	if err != nil {
		return err
	}
	var ids []int64
	var touched []*seenQueue
	for _, q := range queues {
		if q.topic == topicOf(pos) {
			ids, touched = append(ids, q.id), append(touched, q)
		}
	}
	o.lock(touched)
	var found []letter
	err = o.t.get(actLettersAt, func(read scan) error {
		l, err := seeLetter(read)
		found = append(found, l)
		return err
	}, ids, pos)
	if err != nil {
		return err
	}
	for _, l := range found {
		if err := o.planLetter(plan, plan.queues[l.queue], l); err != nil {
			return err
		}
	}
	if len(plan.letters) == 0 {
		return o.notDead(pos)
	}
	return nil
}

func (o operation) planLetter(plan *settling, q *seenQueue, l letter) error {
	plan.letters = append(plan.letters, l)
	if o.act.Verb != store.RetryDead || l.key == "" {
		return nil
	}
	if q.OnDead != store.Skip || l.parked {
		first, found, err := o.t.number(actDeadBefore, q.id, l.key, l.pos)
		if err != nil {
			return err
		}
		if found {
			id, err := o.t.nameAt(first)
			if err != nil {
				return err
			}
			return fmt.Errorf("%w: message %s of key %q waits in %s for %s, which is dead too: retry or discard that one first",
				store.ErrConflict, o.act.ID, l.key, q.Name, id)
		}
	}
	others := false // a later one that died by itself: what follows waits for that
	return o.t.get(actLetterBehind, func(read scan) error {
		next, err := seeLetter(read)
		others = others || !next.parked
		switch {
		case others:
		case len(plan.letters) == store.MaxOperate:
			plan.more = true
		default:
			next.follows = true
			plan.letters = append(plan.letters, next)
		}
		return err
	}, q.id, l.key, l.pos, store.MaxOperate)
}

// notDead explains why there is no dead letter to settle.
func (o operation) notDead(pos int64) error {
	w, err := newScribe(o.t)
	if err != nil {
		return err
	}
	found, err := w.read([]int64{pos}, false)
	if err != nil {
		return err
	}
	if found[pos] == nil {
		return fmt.Errorf("%w: message %s was never sent, or retention has deleted it", store.ErrNotFound, o.act.ID)
	}
	told, err := tell(o.t, []int64{pos})
	if err != nil {
		return err
	}
	var states []string
	for _, story := range told[pos] {
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

// planQueue walks a queue's dead letters, oldest first, and takes those that
// match. A keyed one is retried only if no earlier one of its key stays dead
// (unless the queue skips); those parked behind it come along, whatever their reason.
func (o operation) planQueue(plan *settling, q *seenQueue) error {
	w := letterWalk{operation: o, plan: plan, q: q, taken: map[string]bool{}, closed: map[string]bool{}}
	for after := int64(0); ; {
		rows := 0
		err := o.t.get(actLettersOf, func(read scan) error {
			l, err := seeLetter(read)
			if rows++; err == nil {
				after = l.pos
				w.meet(l)
			}
			return err
		}, q.id, after, lettersRead)
		if err != nil || rows < lettersRead || plan.more {
			return err
		}
	}
}

// letterWalk is a walk over a queue's dead letters.
type letterWalk struct {
	operation
	plan   *settling
	q      *seenQueue
	taken  map[string]bool // keys with a letter that is retried
	closed map[string]bool // keys with a letter that stays dead
}

func (w *letterWalk) meet(l letter) {
	take := strings.Contains(l.reason, w.act.Matching)
	if w.act.Verb == store.RetryDead && l.key != "" {
		l.follows = l.parked && w.taken[l.key] && !w.closed[l.key]
		take = l.follows || take && (!w.closed[l.key] || w.q.OnDead == store.Skip && !l.parked)
		w.taken[l.key] = w.taken[l.key] || take
		w.closed[l.key] = w.closed[l.key] || !take
	}
	switch {
	case !take:
	case len(w.plan.letters) == store.MaxOperate:
		w.plan.more = true
	default:
		w.plan.letters = append(w.plan.letters, l)
	}
}

// letterArrays are letters as the columns of a statement.
type letterArrays struct {
	queues, attempts []int32
	poss             []int64
	follows          []bool
}

func arraysOf(letters []letter) (a letterArrays) {
	for _, l := range letters {
		a.queues, a.attempts = append(a.queues, int32(l.queue)), append(a.attempts, int32(l.attempts))
		a.poss, a.follows = append(a.poss, l.pos), append(a.follows, l.follows)
	}
	return a
}

const (
	// due_us 0 is at once, before all that is due by the clock, by position. Where an earlier
	// message of the key is on its way, the letter goes behind it.
	actRetry = `with u as (select * from unnest($1::int[], $2::bigint[], $3::boolean[]) as u(queue, pos, follows)),
		gone as (delete from weir.dead d using u where d.queue = u.queue and d.pos = u.pos
			returning d.queue, d.pos, d.lane, d.key, u.follows),
		judged as (select g.*, g.key is not null and (g.follows or exists (select 1 from weir.deferred f
			where f.queue = g.queue and f.key = g.key and f.pos < g.pos and f.kind <> 1)
			or g.pos > min(g.pos) over (partition by g.queue, g.key)) as behind from gone g),
		kept as (insert into weir.deferred (queue, pos, kind, lane, due_us, key, attempt, reason)
			select queue, pos, case when behind then 4 else 2 end, lane, case when not behind then 0 end, key, 1, $4 from judged
			on conflict (queue, pos) do nothing)
		insert into weir.tally (queue, gone) select queue, -count(*) from gone group by queue`
	actEdit = `insert into weir.edits as e (queue, pos, body, headers)
		select u.queue, u.pos, $3, $4 from unnest($1::int[], $2::bigint[]) as u(queue, pos)
		on conflict (queue, pos) do update set
		body = coalesce(excluded.body, e.body), headers = coalesce(excluded.headers, e.headers)`
	actDiscard = `with u as (select * from unnest($1::int[], $2::bigint[], $3::int[]) as u(queue, pos, attempts)),
		gone as (delete from weir.dead d using u where d.queue = u.queue and d.pos = u.pos)
		insert into weir.attempts (queue, pos, n, attempt, took_us, verdict, reason, process)
		select u.queue, u.pos, coalesce((select max(a.n) from weir.attempts a where a.queue = u.queue and a.pos = u.pos), 0) + 1,
			u.attempts, 0, 'discarded', $4, 0 from u`
	// newHead makes the first letter of a key a head if the one it was parked behind
	// has left without it. With the reason of that one, the next call of the same
	// act finds it. The lowest dead of a key is a head always: claims look only for heads.
	actNewHead = `update weir.dead d set behind = null, reason = coalesce(u.reason, d.reason)
		from unnest($1::int[], $2::text[], $3::text[]) as u(queue, key, reason)
		where d.queue = u.queue and d.behind is not null
		and d.pos = (select min(h.pos) from weir.dead h where h.queue = u.queue and h.key = u.key)`
)

// retry makes dead letters deferred again: due at once, or behind an earlier message of the
// key. Attempts are counted anew.
func (o operation) retry(plan settling) {
	a := arraysOf(plan.letters)
	o.t.do(sqlStop, a.queues, a.poss)
	o.t.do(actRetry, a.queues, a.poss, a.follows, o.reason("retried"))
	if !acts.Edits(o.act) {
		return
	}
	heads := letterArrays{}
	for i := range a.poss {
		if !a.follows[i] {
			heads.queues, heads.poss = append(heads.queues, a.queues[i]), append(heads.poss, a.poss[i])
		}
	}
	o.t.do(actEdit, heads.queues, heads.poss, o.act.Body, o.act.Headers)
}

// discard drops dead letters; their keys go on, where nothing else stops them.
// Letters parked behind one stay: the first of them is then the head.
func (o operation) discard(plan settling) {
	a := arraysOf(plan.letters)
	o.t.do(sqlStop, a.queues, a.poss)
	o.t.do(actDiscard, a.queues, a.poss, a.attempts, o.reason("discarded"))
}

// settleKeys brings the keys of what has left the dead to order: see resolve.
func (o operation) settleKeys(plan settling) {
	moved := map[queueKey]bool{}
	var queues []int32
	var keys []string
	var reasons []*string // a parked letter's own tells more than none
	for _, l := range plan.letters {
		k := queueKey{l.queue, l.key}
		if l.key == "" || l.follows || moved[k] {
			continue
		}
		moved[k] = true
		var reason *string
		if o.act.Verb == store.RetryDead {
			reason = &l.reason
		}
		queues, keys, reasons = append(queues, int32(l.queue)), append(keys, l.key), append(reasons, reason)
	}
	if len(keys) > 0 {
		o.t.do(actNewHead, queues, keys, reasons)
		resolve(o.t, moved)
	}
}

// reason tells the next reader who did it.
func (o operation) reason(done string) string {
	return reasonOf(done + " by " + o.act.By + ": " + o.act.Why)
}
