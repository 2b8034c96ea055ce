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
			r.Value, _ = json.Marshal(childRef{child.Workflow, child.ID})
		})
	}
	for !rec.settled() {
		st.blockWithin(c, rec)
	}
	return st.given(rec.get(), c)
}

// childRef is kept in an open child record's Value.
type childRef struct{ Workflow, ID string }

// childrenPause is how long a run rests that could not tell its children.
const childrenPause = time.Second

// cancelChildren passes the run's end on to children that it no longer waits for;
// false when not all could be told.
func (s *slice) cancelChildren() (told bool) {
	s.mu.Lock()
	var refs []childRef
	for _, rec := range s.ledger.all {
		if rec.get().Kind == store.KindChild && !rec.settled() {
			var ref childRef
			if json.Unmarshal(rec.get().Value, &ref) == nil && ref.ID != "" {
				refs = append(refs, ref)
			}
		}
	}
	reason := s.ending.Reason
	s.mu.Unlock()
	told = true
	for _, ref := range refs {
		_, err := s.w.e.Operate(s.w.e.work, store.Act{Verb: store.CancelRun, Workflow: ref.Workflow, ID: ref.ID, By: "weir", Why: "its parent ends: " + reason})
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			s.w.e.log.Warn("child run not cancelled", keyRun, ref.ID, keyError, err)
			told = false
		}
	}
	return told
}
