package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weir-go/weir/store"
)

// undoing is a run's compensations: those that this execution of its function has registered,
// and those that are recorded of earlier ones. They have names of their own, apart from the steps'.
type undoing struct {
	slots    []*undo          // in the order in which they were first registered
	recorded map[string]*undo // by the name in the records
	now      map[string]*undo // by the name in this execution
	asked    []*undo          // in this execution's order
	noted    int              // so many of slots are recorded
}

// undo is one compensation.
type undo struct {
	name   string // that it is recorded under
	now    string
	prefix string // of the strand that registered it
	call   *Call  // nil: this execution has not come to it
}

const (
	noteUndo      = ":undo" // registrations of compensations; more have a # and their record's number behind
	noteUndoBytes = 64 << 10
	// undoSuffix tells a compensation from a step of its name: no step's name has a # and no number behind it.
	undoSuffix = "#compensate"
)

func isUndoNote(r *store.Record) bool {
	return r.Kind == store.KindNote && (r.Name == noteUndo || strings.HasPrefix(r.Name, noteUndo+"#"))
}

// load takes in what a note records.
func (u *undoing) load(note *store.Record) {
	var names []string
	_ = json.Unmarshal(note.Value, &names) // our own
	for _, name := range names {
		if u.recorded[name] == nil {
			u.add(&undo{name: name})
		}
	}
	u.noted = len(u.slots)
}

func (u *undoing) add(one *undo) {
	if u.recorded == nil {
		u.recorded = map[string]*undo{}
	}
	u.slots = append(u.slots, one)
	u.recorded[one.name] = one
}

// inNote is a name as JSON keeps it: a key may have any bytes.
func inNote(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return strconv.Quote(name)
}

// register notes a call, under a name or one that it had earlier; false when there are too many.
// One that a branch registers again, because it has begun again, keeps its place.
func (u *undoing) register(c *Call, name, prefix string, earlier []string) bool {
	if one := u.now[name]; one != nil {
		one.call = c
		return true
	}
	if len(u.asked) >= compensationsMax {
		return false
	}
	var one *undo
	for _, known := range append([]string{name}, earlier...) {
		if one = u.recorded[inNote(known)]; one != nil && one.call == nil {
			break
		}
		one = nil
	}
	if one == nil {
		one = &undo{name: inNote(name)}
		u.add(one)
	}
	one.now, one.prefix, one.call = name, prefix, c
	if u.now == nil {
		u.now = map[string]*undo{}
	}
	u.now[name] = one
	u.asked = append(u.asked, one)
	return true
}

// inOrder gives the compensations in the order in which they were registered. Within a strand that is the code's, among
// strands the recorded one: in a replay they do not go on in the order in which they once did.
func (u *undoing) inOrder() []*undo {
	strands := map[string][]*undo{}
	for _, one := range u.asked {
		strands[one.prefix] = append(strands[one.prefix], one)
	}
	all := make([]*undo, 0, len(u.asked))
	for _, slot := range u.slots {
		if slot.call != nil {
			queue := strands[slot.prefix]
			all, strands[slot.prefix] = append(all, queue[0]), queue[1:]
		}
	}
	return all
}

// Compensate registers a call for the case that the run does not complete.
func (st *Strand) Compensate(c *Call) {
	st.enter()
	defer st.exit()
	if fault := faultyName(c.Name); fault != "" {
		st.Park(fault)
	}
	base := st.prefix + c.Name + c.suffix()
	name := st.undoCounts.name(base)
	suffix := c.suffix() + name[len(base):]
	var earlier []string
	for _, prefix := range st.was {
		earlier = append(earlier, prefix+c.Name+suffix)
	}
	for _, was := range c.Was {
		for _, path := range st.paths(was) {
			earlier = append(earlier, path+suffix)
		}
	}
	st.s.mu.Lock()
	registered := st.s.undos.register(c, name, st.prefix, earlier)
	st.s.mu.Unlock()
	if !registered {
		st.Park(fmt.Sprintf("more than %d compensations in one run: register one for several steps, or give parts of the work to child runs", compensationsMax))
	}
}

// noteUndos records registrations with what is written anyway. The caller holds s.mu.
func (s *slice) noteUndos(c *chapter) {
	var names []string
	size := 0
	flush := func() {
		if len(names) == 0 {
			return
		}
		r := store.Record{N: s.ledger.last + 1, Kind: store.KindNote, State: store.StepDone, Name: noteUndo, StartedAt: s.w.e.Now()}
		if s.ledger.find(r.Name) != nil {
			r.Name += "#" + strconv.Itoa(r.N)
		}
		r.Value, _ = json.Marshal(names)
		r.Reason = clip("registered to compensate: "+strings.Join(names, ", "), store.MaxReason)
		rec := s.ledger.begin(r)
		c.undos = append(c.undos, rec)
		c.write(rec.get())
		names, size = nil, 0
	}
	for _, one := range s.undos.slots[s.undos.noted:] {
		if size += len(one.name); size > noteUndoBytes {
			flush()
			size = len(one.name)
		}
		names = append(names, one.name)
	}
	flush()
	s.undos.noted = len(s.undos.slots)
}

// toUndo gives the calls to be made, the last registered first, with the names of their records.
func (s *slice) toUndo() []*Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.undos.inOrder()
	slices.Reverse(all)
	calls := make([]*Call, len(all))
	for i, one := range all {
		calls[i] = one.call
		one.call.name = one.now
		rec := s.undoRecord(one)
		if rec != nil {
			rec.asked, one.call.name = true, rec.get().Name
		} else if s.ledger.find(one.now) != nil { // a step's: nothing new is begun any more, so it stays so
			one.call.name += undoSuffix
		}
	}
	return calls
}

// undoRecord is the record of a compensation that has begun, nil otherwise. The caller holds s.mu.
func (s *slice) undoRecord(one *undo) *record {
	for _, name := range []string{one.now, one.now + undoSuffix, one.name, one.name + undoSuffix} {
		if rec := s.ledger.find(name); rec != nil && rec.get().Kind == store.KindCompensate {
			return rec
		}
	}
	return nil
}

// leaving is what a compensation sends: it leaves with the record that it is done.
type leaving struct {
	messages []*store.Message
	states   []store.State
	runs     []*store.RunStart
}

func (l *leaving) any() bool { return len(l.messages)+len(l.runs) > 0 }

// Leaves takes in what is sent in a compensation, with its context; not ours when that is no compensation's. Of messages[i],
// as far as there are any, states[i].
func (st *Strand) Leaves(ctx context.Context, messages []*store.Message, states []store.State, runs ...*store.RunStart) (ours bool, err error) {
	c, ok := ctx.Value(attemptKey{}).(*stepContext)
	if !ok || c.call == nil || c.call.Kind != store.KindCompensate {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &c.leaving
	switch {
	case c.st.s != st.s:
		return true, errors.New("weir: a compensation sends through its own run, not through another")
	case c.cause != nil:
		return true, fmt.Errorf("weir: the compensation is over: %w", c.cause)
	case len(l.messages)+len(messages) > store.MaxSends || len(l.runs)+len(runs) > store.MaxSends:
		return true, fmt.Errorf("weir: a compensation sends more than %d messages, or starts more runs", store.MaxSends)
	}
	for i, m := range messages {
		sent := *m
		c.st.caused(&sent)
		l.messages = append(l.messages, &sent)
		if i < len(states) {
			state := states[i]
			state.Of = &sent
			l.states = append(l.states, state)
		}
	}
	for _, start := range runs {
		begun := *start
		begun.Cause, begun.Correlation = st.Reference(), st.correlation()
		l.runs = append(l.runs, &begun)
	}
	return true, nil
}

func (c *stepContext) left() leaving {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// depart has what a compensation sends leave with a chapter.
func (st *Strand) depart(ch *chapter, l leaving) {
	ch.change.Sends, ch.change.States, ch.change.Runs = l.messages, l.states, l.runs
	ch.change.Outside = l.any() && len(l.runs) == 0 // runs that a run starts are admitted
}

// roomless makes of a refusal for want of room one that is no failure: it is tried again.
func (st *Strand) roomless(err error) error {
	if full, ok := errors.AsType[*store.FullError](err); ok {
		return &notYetError{after: retryAfter(full, st.s.w.e.drainRate(context.Background(), full.Queue)), reason: err.Error()}
	}
	return err
}
