package postgres

import (
	"context"
	"errors"

	"github.com/weir-go/weir/store"
)

// errRuns says what is not there yet.
var errRuns = errors.New("runs are not supported by store/postgres yet")

var errUnfinished = errors.New("not supported by store/postgres yet")

// claimRuns is Claim for a workflow.
func (s *Store) claimRuns(context.Context, store.ClaimRequest, int64) (store.Claimed, error) {
	return store.Claimed{}, errRuns
}

// beginRuns makes ready what lost processes had leased, with one crash more. The
// transaction is Begin's; nothing is flushed yet that it queues.
func (s *Store) beginRuns(*tx) error { return nil }

// endRuns hands back the runs that a process leases.
func (s *Store) endRuns(*tx, int64) error { return nil }

// askRuns queues what has to be read, and locked, before the group's runs are decided
// about: with the commit's first round trip.
func (t *commit) askRuns() error { return nil }

// applyRuns decides about a change's run and starts, after its settlements and sends
// have been let pass; refused says why not, and then nothing of them is written.
func (t *commit) applyRuns(ch *store.Change) (refused, err error) {
	if ch.Run != nil || len(ch.Runs) > 0 {
		return errRuns, nil
	}
	return nil, nil
}

// writeRuns queues what becomes of runs, and the mail that the group's messages are to
// runs that wait for them. The messages have their positions; closures have run.
func (t *commit) writeRuns() error { return nil }

// keepRuns tells the store what the commit made true.
func (t *commit) keepRuns() {}

// forgetRuns takes back what callers see of runs that did not come about.
func (t *commit) forgetRuns() {}
