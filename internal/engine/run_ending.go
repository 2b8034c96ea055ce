package engine

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weir-go/weir/store"
)

// noteUnreached says what a run has done, or has registered, that its code did not come to when it was to end.
const noteUnreached = ":unreached"

// unreached is kept in that note's Value.
type unreached struct {
	Names string `json:"names"`
	Left  bool   `json:"left,omitempty"` // a person has given these up
}

// faceUnreached parks a run that is to end and would be compensated by half: its function was cut short at something new,
// and so did not come to all that is recorded, or registers less than it did. A person who abandons it then gives that up.
func (st *Strand) faceUnreached(whole bool) {
	s := st.s
	s.mu.Lock()
	names := s.unreached(whole)
	stays := s.sealed || s.retired != nil || s.noteUnreached(names)
	s.mu.Unlock()
	if stays || names == "" {
		return
	}
	st.Park("it is to end, but its code does not come to all that is recorded: deploy code that does, then retry; or abandon it, which leaves as they are: " + names)
}

// noteUnreached keeps what was not reached; true when a person has given that up. The caller holds s.mu.
func (s *slice) noteUnreached(names string) (left bool) {
	note := s.ledger.find(noteUnreached)
	if note == nil && names == "" {
		return false
	}
	reason := "its code came to all that is recorded"
	if names != "" {
		reason = "it was to end, and its code did not come to all that is recorded: " + names
	}
	value, _ := json.Marshal(unreached{Names: names})
	if note == nil {
		s.note(noteUnreached, value, reason)
		return false
	}
	r := *note.get()
	var known unreached
	_ = json.Unmarshal(r.Value, &known) // our own
	if known.Names != names {
		r.Value, r.Reason = value, clip(reason, store.MaxReason)
		s.replace(note, &r)
	}
	return known.Names == names && known.Left
}

// leaveUnreached notes that a person has given up what the code does not come to.
func (s *slice) leaveUnreached(m *store.Mail) {
	note := s.ledger.find(noteUnreached)
	if note == nil {
		return
	}
	r := *note.get()
	var known unreached
	_ = json.Unmarshal(r.Value, &known) // our own
	if known.Names == "" {
		return
	}
	known.Left = true
	r.Value, _ = json.Marshal(known)
	r.Reason = clip(because("abandoned", m)+"; not undone, as the code did not come to it: "+known.Names, store.MaxReason)
	s.replace(note, &r)
}

// unreached names compensations that are recorded as registered, not done, and that the function has not registered; and, of
// a function that was cut short, the steps with effects that it has not come to. The caller holds s.mu.
func (s *slice) unreached(whole bool) string {
	var names []string
	more := 0
	add := func(name string) {
		if len(names) < unreachedNamed {
			names = append(names, name)
		} else {
			more++
		}
	}
	for _, one := range s.undos.slots {
		if rec := s.undoRecord(one); one.call == nil && (rec == nil || !rec.settled()) {
			add("compensation " + one.name)
		}
	}
	for _, rec := range s.ledger.all {
		if !whole && !rec.asked && hasEffect(rec.get().Kind) {
			add("step " + rec.get().Name)
		}
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return clip(strings.Join(names, ", "), store.MaxReason/2)
}

// unreachedNamed is how many names a person is told.
const unreachedNamed = 20

// hasEffect reports whether a kind of step may have done something outside that can be undone.
func hasEffect(k store.StepKind) bool {
	switch k {
	case store.KindStep, store.KindTry, store.KindOnce, store.KindAsk, store.KindChild, store.KindSend:
		return true
	}
	return false
}
