package engine

import (
	"strconv"
	"sync/atomic"

	"github.com/weir-go/weir/store"
)

// record is a step as the process knows it. What is written is never changed
// after: a new state is a new store.Record, set under the slice's lock; the strand
// whose step it is reads it without.
type record struct {
	at    atomic.Pointer[store.Record]
	asked bool         // the function has asked for it in this execution
	met   bool         // its wait is gone: mail came for it
	after store.Pos    // of the message that came last for it
	own   store.Record // what it is at first, if it began here
	size  int          // that the ledger counts
}

func (r *record) get() *store.Record  { return r.at.Load() }
func (r *record) set(s *store.Record) { r.at.Store(s) }

// nowhere is a record that is in no ledger yet.
func nowhere(s *store.Record) *record {
	r := new(record)
	r.set(s)
	return r
}

func (r *record) settled() bool {
	switch r.get().State {
	case store.StepDone, store.StepFailed, store.StepOmitted:
		return true
	}
	return false
}

// ledger holds a run's records and finds them by name.
type ledger struct {
	all    []*record
	few    [4]*record         // room for the first of all
	byName map[string]*record // once there are more than a few
	last   int                // the highest N
	steps  int                // records that its function has begun
	notes  int
	bytes  int // of all records, and of the run's input
	locks  map[string]*lockUse
}

// ledgerScan is up to how many records looking at each is cheaper than a map.
const ledgerScan = 8

func (l *ledger) add(r *store.Record) *record {
	return l.put(nowhere(r))
}

// begin adds a new record.
func (l *ledger) begin(r store.Record) *record {
	rec := &record{own: r, asked: true}
	rec.set(&rec.own)
	return l.put(rec)
}

func (l *ledger) put(rec *record) *record {
	r := rec.get()
	if l.all == nil {
		l.all = l.few[:0]
	}
	l.all = append(l.all, rec)
	l.last = max(l.last, r.N)
	switch r.Kind {
	case store.KindNote:
		if !isUndoNote(r) {
			l.notes++
		}
	case store.KindCompensate:
	case store.KindLock:
		l.noteLock(rec)
		l.steps++
	default:
		l.steps++
	}
	l.weigh(rec)
	switch {
	case l.byName != nil:
		l.byName[r.Name] = rec
	case len(l.all) > ledgerScan:
		l.byName = make(map[string]*record, 2*len(l.all))
		for _, known := range l.all {
			l.byName[known.get().Name] = known
		}
	}
	return rec
}

// weigh counts a record's bytes as they are now.
func (l *ledger) weigh(rec *record) {
	r := rec.get()
	size := len(r.Name) + len(r.Headers) + len(r.Value) + len(r.Reason)
	l.bytes += size - rec.size
	rec.size = size
}

func (l *ledger) find(name string) *record {
	if l.byName != nil {
		return l.byName[name]
	}
	for _, r := range l.all {
		if r.get().Name == name {
			return r
		}
	}
	return nil
}

// byNumber is the record N, nil if there is none.
func (l *ledger) byNumber(n int) *record {
	for i := len(l.all) - 1; i >= 0; i-- {
		if l.all[i].get().N == n {
			return l.all[i]
		}
	}
	return nil
}

// taken reports whether a record other than r has got the message at pos.
func (l *ledger) taken(pos store.Pos, r *record) bool {
	for _, other := range l.all {
		if other != r && other.get().Kind == store.KindWaitFor && other.get().Pos == pos {
			return true
		}
	}
	return false
}

// unasked lists the names of steps that the function has not asked for, as many as a note has room for.
func (l *ledger) unasked() []string {
	var names []string
	size := 0
	for _, r := range l.all {
		if !r.asked && r.get().Kind != store.KindNote && size <= store.MaxReason {
			names = append(names, r.get().Name)
			size += len(r.get().Name)
		}
	}
	return names
}

// counter counts how often each name was used: the second "a" is "a#2".
type counter struct {
	few  []counted
	room [4]counted
	many map[string]int
}

type counted struct {
	name string
	n    int
}

func (c *counter) name(base string) string {
	if n := c.next(base); n > 1 {
		return base + "#" + strconv.Itoa(n)
	}
	return base
}

func (c *counter) next(base string) int {
	if c.many != nil {
		c.many[base]++
		return c.many[base]
	}
	for i := range c.few {
		if c.few[i].name == base {
			c.few[i].n++
			return c.few[i].n
		}
	}
	if c.few == nil {
		c.few = c.room[:0]
	}
	c.few = append(c.few, counted{base, 1})
	if len(c.few) > ledgerScan {
		c.many = make(map[string]int, 4*ledgerScan)
		for _, k := range c.few {
			c.many[k.name] = k.n
		}
	}
	return 1
}
