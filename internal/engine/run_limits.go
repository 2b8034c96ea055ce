package engine

import "fmt"

// Limits of one run. That of its steps, and of its bytes, is its workflow's.
const (
	nameMax          = 200    // bytes of a step's or a branch's name
	sentinelMax      = 1_000  // bytes of the text that FailIf's errors are told apart by
	branchesMax      = 1_000  // goroutines of one All
	depthMax         = 10     // of an All in a branch of an All: names of records grow with it
	compensationsMax = 10_000 // their records come on top of the steps'
	actsNoted        = 10_000 // people's decisions in a run's records; the audit has all
)

// takePlace is passed before a step begins that is not recorded yet: a run that may have no
// more is parked. What branches are about to record at the same time counts.
func (st *Strand) takePlace() {
	s := st.s
	s.mu.Lock()
	reason := ""
	if !st.compensating && !st.placed {
		if reason = s.noPlace(); reason == "" {
			st.placed = true
			s.places++
		}
	}
	s.mu.Unlock()
	if reason != "" {
		st.checkpoint() // a run that ends needs no place
		st.Park(reason)
	}
}

// givePlace ends that: the step is recorded, or will not be. The caller holds s.mu.
func (st *Strand) givePlace() {
	if st.placed {
		st.placed = false
		st.s.places--
	}
}

// noPlace is why the run may begin no further step. The caller holds s.mu.
func (s *slice) noPlace() string {
	l, set := &s.ledger, &s.w.settings
	switch {
	case l.steps+s.places >= set.MaxSteps:
		return fmt.Sprintf("it has begun %d steps, which is its limit (Runs.MaxSteps), and comes to another: %s", set.MaxSteps, beyond)
	case l.bytes > set.MaxBytes:
		return fmt.Sprintf("its input and its steps' results and errors are %d bytes, and its limit is %d (Runs.MaxBytes): keep large things elsewhere and record their address, or %s",
			l.bytes, set.MaxBytes, beyond)
	}
	return ""
}

const beyond = "raise the limit, deploy, then weir run retry; or weir run cancel: its compensations run beyond the limit; or move a loop into child runs"
