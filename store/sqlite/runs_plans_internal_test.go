package sqlite

import (
	"slices"
	"strings"
	"testing"
)

// TestRunPlans wants the statements on runs to find their rows by an index, on an
// empty file and without statistics: there may be millions of runs.
func TestRunPlans(t *testing.T) {
	s := openAtNoon(t, t.TempDir())
	// What is written for each run, and for each claim.
	for _, query := range []string{
		sqlCounter, sqlSetCounter, sqlWorkflow, sqlRunNamed, seekRuns4, seekRuns16, sqlSetParentStep,
		sqlWakeOf, sqlSetWake, sqlMailAfter, sqlDropMail, sqlMailOfRun, sqlMailNo, sqlNewestMail, sqlEndOf, sqlBody,
		sqlNewStepAttempt, sqlReleaseRun, sqlSoberRun, sqlEndRun,
		sqlAwaited, sqlWaiters, sqlUnwait, sqlNoWaits, sqlRecordsWaiting, sqlLookBack, sqlLookKept, sqlFirstOf, sqlFirstKept, sqlReplyTo,
		sqlLock, sqlDropLock, sqlInLine, sqlSetPlace, sqlNextLine, sqlLeaveLine, sqlLocksOf, sqlLinesOf,
		sqlReadyRuns, sqlNextWake, sqlLeaseRun, sqlLoadRun, sqlLoadSteps,
		keepEnd, deleteStepAttempts, deleteSteps, deleteRunBodies, deleteRun, runsFront, mailRange,
		runRowAt, runRowsBefore, childrenOf, unwellBefore, runsInSpan, runsByID, runsOfWorkflow, openReasons,
		countSpan, startedAt, runOf, runInFull, stepAttempts, waitsOf, fullNameOf, lockNamed, lineOf, repliesTold,
		leftLeased, stepsBefore, stepsAfter,
	} {
		noScan(t, s, query, "SCAN CONSTANT ROW")
		for _, step := range planOf(t, s, query) {
			if strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("plan of %s\n%s, want the order of an index", query, step)
			}
		}
	}
	// These go through all workflows, or look at the first rows of a table.
	for query, scans := range map[string][]string{
		sqlTakeRuns: {"SCAN weir_workflows"}, sqlHandBackRuns: {"SCAN weir_workflows"}, sqlWorkflows: {"SCAN weir_workflows"},
		toldRange: {"SCAN w "}, toldKept: {"SCAN w "},
		sqlCountReady: {"SCAN ("}, runsWith: {"SCAN w "}, runsNamed: {"SCAN w "}, locksOfRun: {"SCAN ("},
		sqlTies: {"SCAN CONSTANT ROW", "SCAN weir_waits", "SCAN weir_locks", "SCAN weir_lock_line"}, locksHeld: {"SCAN weir_locks"},
		oldestEnded: {"SCAN weir_runs", "SCAN ("}, stuckRuns: {"SCAN r"},
		mailChecked: {"SCAN weir_mail", "SCAN m"}, locksChecked: {"SCAN weir_locks", "SCAN l"},
		linesChecked: {"SCAN weir_lock_line", "SCAN l"}, waitsChecked: {"SCAN weir_waits", "SCAN w"},
	} {
		noScan(t, s, query, scans...)
	}
}

// noScan wants a plan that scans only what is allowed.
func noScan(t *testing.T, s *Store, query string, allowed ...string) {
	t.Helper()
	for _, step := range planOf(t, s, query) {
		if strings.HasPrefix(step, "SCAN ") && !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(step+" ", a) }) {
			t.Errorf("plan of %s\n%s, want a search", query, step)
		}
	}
}
