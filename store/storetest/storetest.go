// Package storetest holds the laws of package store: a sentence each, and the
// check that proves it. Every adapter passes all of them; there are no opt-outs.
//
// An adapter's test is one line and a Harness:
//
//	func TestLaws(t *testing.T) { storetest.Run(t, open) }
//
// Laws speak to the port only. Time is the harness's clock, set by the law; a
// process's death is Harness.Crash; nothing sleeps. Package mutants proves that
// the laws bite: each of its broken stores must fail the law it names.
//
// Faulty is for the tests of what stands on a store: it makes the n-th call fail,
// before or after it was executed, and calls hooks around it.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// Open makes a fresh, empty store, whose clock is now, and gives it back with
// what surrounds it. What it needs is cleaned up with t.
type Open func(t testing.TB, now func() time.Time) Harness

// Harness is one database with the processes that use it.
type Harness interface {
	// Open opens the store as one more process would.
	Open(ctx context.Context) (store.Store, error)
	// Crash does to s what the operating system does when its process dies: what
	// Begin took is free again, nothing is handed back. The calls of s still reach
	// the database afterwards, as those of a process that was only thought dead.
	Crash(s store.Store)
	// Begin begins a transaction of the caller's own.
	Begin(ctx context.Context) (Own, error)
	// Note writes a word to a table of the user's, in tx.
	Note(ctx context.Context, tx store.Tx, word string) error
	// Owe writes, in tx, a row that a deferred constraint of the user's refuses: nil here, an error when tx commits.
	Owe(ctx context.Context, tx store.Tx) error
	// Notes reads the committed words in the order of their writing.
	Notes(ctx context.Context) ([]string, error)
}

// Own is a transaction of the caller's own.
type Own struct {
	Tx               store.Tx
	Commit, Rollback func() error
}

// Law is what every adapter keeps.
type Law struct {
	Name  string // "fence/older-epoch", to run it alone
	Says  string // the sentence
	check func(s *scene)
}

// Laws lists all laws.
func Laws() []Law {
	var all []Law
	for _, subject := range [][]Law{
		appendLaws(), groupLaws(), fenceLaws(), closureLaws(), ownLaws(),
		claimLaws(), placeLaws(), dueLaws(), eagerLaws(),
		leaseLaws(), suspectLaws(), keyLaws(), releaseLaws(), deadLaws(),
		capacityLaws(), lagLaws(), dedupLaws(), retentionLaws(),
		operateLaws(), figureLaws(), storyLaws(), traceLaws(), readerLaws(), limitLaws(),
		runStartLaws(), runClaimLaws(), runCrashLaws(), runFenceLaws(), runUpdateLaws(),
		runCapacityLaws(), runWaitLaws(), runMailLaws(), runChildLaws(), runLockLaws(),
		runOperateLaws(), runWokenLaws(), runReadLaws(), runKeepLaws(), runConcurrentLaws(),
		originLaws(), arrivalLaws(), drainedLaws(), stateLaws(), exchangeLaws(), renewLaws(), exchangeConcurrentLaws(),
		concurrentLaws(), walkLaws(), runWalkLaws(), exchangeWalkLaws(),
	} {
		all = append(all, subject...)
	}
	return all
}

// Run checks all laws on stores made by open.
func Run(t *testing.T, open Open) {
	for _, l := range Laws() {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			l.Check(t, open)
		})
	}
}

// Check checks the law on a store made by open.
func (l Law) Check(t testing.TB, open Open) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the law: %s", l.Says)
		}
	}()
	l.check(newScene(t, open))
}
