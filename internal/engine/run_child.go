package engine

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/weir-go/weir/store"
)

// Child starts a child run and waits for its end.
func (st *Strand) Child(c *Call) ([]byte, error) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	for rec == nil || rec.get().Attempt == 0 && !rec.settled() {
		rec = st.dispatch(c, name, rec, func(ch *chapter, r *store.Record) {
			child := *c.Child
			child.ID = st.s.run.ID + "/" + name
			child.Parent, child.ParentStep = st.s.run.No, r.N
			child.Cause, child.Correlation = st.Reference(), st.correlation()
			ch.change.Runs = []*store.RunStart{&child}
			r.Reason = "waits for child run " + child.ID + " of " + child.Workflow
			r.Value, _ = json.Marshal(childRef{Workflow: child.Workflow, ID: child.ID})
		})
	}
	for !rec.settled() {
		// At once: another branch may have to wait for an outcome, and the child would run on meanwhile.
		if _, err := st.tellChild(rec); err != nil {
			st.s.w.e.log.Warn("child run not cancelled yet", keyWorkflow, st.s.w.settings.Name, keyRun, st.s.run.ID, "step", name, keyError, err)
		}
		st.blockWithin(c, rec)
	}
	return st.given(rec.get(), c)
}

// childRef is kept in an open child record's Value.
type childRef struct {
	Workflow, ID string
	Told         bool `json:",omitempty"` // that it is cancelled
}

// childrenPause is how long a run rests that could not tell its children.
const childrenPause = time.Second

// children are the records of child runs that have not ended, as far as is known. The caller holds s.mu.
func (s *slice) children() []*record {
	var open []*record
	for _, rec := range s.ledger.all {
		if r := rec.get(); r.Kind == store.KindChild && r.Attempt > 0 && !rec.settled() {
			open = append(open, rec)
		}
	}
	return open
}

// endChildren passes the run's end on to the children that have not ended, and waits until they have: what they still do
// is undone after it is done.
func (st *Strand) endChildren() {
	s := st.s
	s.mu.Lock()
	open := s.children()
	s.mu.Unlock()
	var blocks []block
	for _, rec := range open {
		b := block{rec: rec}
		gone, err := st.tellChild(rec)
		if err != nil {
			s.w.e.log.Warn("child run not cancelled", keyWorkflow, s.w.settings.Name, keyRun, s.run.ID, "step", rec.get().Name, keyError, err)
			b.due = s.w.e.Now().Add(childrenPause)
		}
		if !gone {
			blocks = append(blocks, b)
		}
	}
	if len(blocks) > 0 {
		st.block(blocks...)
	}
}

// tellChild cancels a child, once, for the reason for which its parent ends, which is durable before. gone: there is none.
func (st *Strand) tellChild(rec *record) (gone bool, err error) {
	s := st.s
	s.mu.Lock()
	end := s.ending
	over := end == nil || s.sealed || rec.settled()
	value := rec.get().Value
	s.mu.Unlock()
	if over {
		return false, nil
	}
	var ref childRef
	if json.Unmarshal(value, &ref) != nil || ref.ID == "" || ref.Told {
		return ref.ID == "", nil
	}
	st.await()
	_, err = s.w.e.Operate(s.w.e.work, store.Act{Verb: store.CancelRun, Workflow: ref.Workflow, ID: ref.ID, By: "weir", Why: clip("its parent ends: "+end.Reason, store.MaxReason)})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return true, nil
	case err != nil && !errors.Is(err, store.ErrConflict): // it has ended, and its end is about to come
		return false, err
	}
	ref.Told = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := *rec.get(); !rec.settled() && !s.sealed && s.retired == nil {
		r.Value, _ = json.Marshal(ref)
		s.replace(rec, &r)
	}
	return false, nil
}
