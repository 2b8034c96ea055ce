package engine

import (
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// A lock is the run's: its branches, and calls inside of each other, share it. They are told apart by their records, and
// the last one that is done with it releases it.

const (
	lockCall   = "lock"
	unlockCall = "unlock"
)

// lockOf is the lock that a record of kind lock is about, by its name: "all/branch/lock[table]#2".
func lockOf(name string) (lock string, release bool) {
	for rest := name; rest != ""; {
		for _, call := range [...]string{lockCall, unlockCall} {
			if inside, ok := strings.CutPrefix(rest, call+"["); ok {
				return inside[:max(strings.LastIndexByte(inside, ']'), 0)], call == unlockCall
			}
		}
		_, rest, _ = strings.Cut(rest, "/")
	}
	return "", false
}

// lockUse is what a run's records say about one lock.
type lockUse struct {
	takes    []*record
	releases int
}

// noteLock notes a record of kind lock.
func (l *ledger) noteLock(rec *record) {
	name, release := lockOf(rec.get().Name)
	if l.locks == nil {
		l.locks = map[string]*lockUse{}
	}
	use := l.locks[name]
	if use == nil {
		use = &lockUse{}
		l.locks[name] = use
	}
	if release {
		use.releases++
		return
	}
	use.takes = append(use.takes, rec)
}

// uses is by how many calls a lock is held, or waited for.
func (l *ledger) uses(lock string) int {
	use := l.locks[lock]
	if use == nil {
		return 0
	}
	n := -use.releases
	for _, rec := range use.takes {
		if s := rec.get().State; s != store.StepFailed && s != store.StepOmitted {
			n++
		}
	}
	return n
}

// granted gives the lock to all calls of the run that wait for it: its place in the line is one. The caller holds s.mu.
func (s *slice) granted(rec *record, m *store.Mail, now time.Time) {
	lock, _ := lockOf(rec.get().Name)
	use := s.ledger.locks[lock]
	if use == nil {
		return
	}
	for _, take := range use.takes {
		if take.settled() {
			continue
		}
		r := *take.get()
		r.State, r.Value, r.Reason = store.StepDone, strconv.AppendInt(nil, m.Fence, 10), ""
		r.Took, r.Due = now.Sub(r.StartedAt), time.Time{}
		take.met = true
		s.replace(take, &r)
	}
}
