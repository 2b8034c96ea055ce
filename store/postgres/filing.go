package postgres

import "github.com/weir-go/weir/store"

// never is the due time of a deferred row that no time wakes.
const never = -1

// deferral is a row of weir.deferred.
type deferral struct {
	queue, pos, kind, due   int64
	key                     string
	attempt, crashes, first int64
	reason                  string
}

// death is a row of weir.dead.
type death struct {
	queue, pos  int64
	key         string
	attempts    int64
	reason      string
	quarantined bool
	behind      int64
}

// filed gathers rows of the deferred and the dead, to be written by one statement each.
type filed struct {
	deferred []deferral
	dead     []death
}

func (f *filed) postpone(d deferral) { f.deferred = append(f.deferred, d) }

// asItWas gives the row of a message that was just postponed the history it had.
func (f *filed) asItWas(pos int64, h *history) {
	if n := len(f.deferred); n > 0 && f.deferred[n-1].pos == pos {
		d := &f.deferred[n-1]
		d.attempt, d.crashes, d.first = max(h.next, 1), h.crashes, h.first
	}
}

func (f *filed) die(d death) { f.dead = append(f.dead, d) }

// write queues them.
func (f *filed) write(t *tx) {
	f.writeDeferred(t)
	f.writeDead(t)
	f.deferred, f.dead = nil, nil
}

func (f *filed) writeDeferred(t *tx) {
	n := len(f.deferred)
	if n == 0 {
		return
	}
	queues, poss, kinds, lanes, dues := make([]int32, n), make([]int64, n), make([]int16, n), make([]int16, n), make([]int64, n)
	keys, attempts, crashes, firsts, reasons := make([]string, n), make([]int32, n), make([]int32, n), make([]int64, n), make([]string, n)
	for i, d := range f.deferred {
		queues[i], poss[i], kinds[i], lanes[i], dues[i] = int32(d.queue), d.pos, int16(d.kind), int16(laneOf(d.key)), d.due
		keys[i], attempts[i], crashes[i], firsts[i], reasons[i] = d.key, int32(d.attempt), int32(d.crashes), d.first, d.reason
	}
	t.do(sqlDefer, queues, poss, kinds, lanes, dues, keys, attempts, crashes, firsts, reasons)
}

func (f *filed) writeDead(t *tx) {
	n := len(f.dead)
	if n == 0 {
		return
	}
	queues, poss, lanes, keys := make([]int32, n), make([]int64, n), make([]int16, n), make([]string, n)
	attempts, reasons, quarantined, behind := make([]int32, n), make([]string, n), make([]bool, n), make([]int64, n)
	for i, d := range f.dead {
		queues[i], poss[i], lanes[i], keys[i] = int32(d.queue), d.pos, int16(laneOf(d.key)), d.key
		attempts[i], reasons[i], quarantined[i], behind[i] = int32(d.attempts), d.reason, d.quarantined, d.behind
	}
	t.do(sqlDie, t.now, queues, poss, lanes, keys, attempts, reasons, quarantined, behind)
}

// attemptRows gathers rows of weir.attempts.
type attemptRows struct {
	queues, ns, attempts      []int32
	poss, starts, tooks, dues []int64
	verdicts, reasons, stacks []string
}

// add records the attempt that a settlement ended.
func (r *attemptRows) add(x *exception, now int64) {
	due := int64(0)
	if x.Verdict == store.Retry || x.Verdict == store.NotYet {
		due = dueOf(x.Settlement, now)
	}
	r.queues, r.poss, r.ns = append(r.queues, int32(x.queue)), append(r.poss, x.pos), append(r.ns, int32(x.n+1))
	r.attempts, r.starts, r.tooks = append(r.attempts, int32(x.Attempt)), append(r.starts, us(x.Started)), append(r.tooks, x.Took.Microseconds())
	r.verdicts, r.reasons = append(r.verdicts, x.Verdict.String()), append(r.reasons, reasonOf(x.Reason))
	r.stacks, r.dues = append(r.stacks, cut(x.Stack, store.MaxStack)), append(r.dues, due)
}

// write queues them.
func (r *attemptRows) write(t *tx) {
	if len(r.poss) > 0 {
		t.do(sqlNewAttempts, t.process, r.queues, r.poss, r.ns, r.attempts, r.starts, r.tooks, r.verdicts, r.reasons, r.stacks, r.dues)
	}
}
