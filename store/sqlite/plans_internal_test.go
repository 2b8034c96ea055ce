package sqlite

import (
	"strings"
	"testing"
)

// small names the tables that a statement may read whole: they have a row a
// topic, a queue, a process or an act, not one a message.
var small = []string{"weir_topics", "weir_queues", "q", "t", "weir_processes", "(", "CONSTANT ROW", "pragma_"}

// TestPlans wants every statement for people, operators and retention to find
// its rows by an index, on an empty file and without statistics: a plan that
// scans is fast in every test and stops a real store.
func TestPlans(t *testing.T) {
	s := openAtNoon(t, t.TempDir())
	for _, query := range []string{
		newestMessages, newestKept, newestMessagesOfKey, newestKeptOfKey,
		messageInFull, keptInFull, messageBare, keptBare, sqlOfOrigin, sqlOriginAt, sqlSentMessage,
		conversationMessages, conversationKept, referencesLive, referencesKept,
		queuesOfTopic, batchEnds, openBatches, deadState, deferredState, batchAtOrAfter, batchesFrom, selectAttempts,
		selectQueues, countDeferred, countDead, firstBeyond, sentLive, sentKept, selectFigures,
		deadOfQueue, deadAt, selectEdit, selectProcesses, selectAudit,
		letterAt, lettersOf, lettersBehind, deadBefore, deleteDead, deleteStart, insertRetried, insertFollower,
		deferredBefore, putEdit, returned, newHead, insertDiscarded,
		insertAudit, pauseQueue, resumeQueue,
		countBeyond, oldestDeath, abandonedBatches, mostOverdue, nextKey, earlierOfKey, newestProcess,
		deleteFigures, deleteDedup, auditFront, deleteAudit, processesFront, ownsBatches, deleteProcess,
		newestBatch, batchesFront, deleteBatch, subscribers, messagesFront, copyKept, deleteMessages, recordGap,
		deferredRange, deadRange, allOpenBatches, attemptsRange, deleteAttempt, editsRange, deleteEdit, startsRange,
		keptTurn, putTurn, keptFrom, deleteKept,
		sqlDue, sqlNextDue, sqlAbandoned,
		sqlArrival, selectArrivals, sqlDrained, sqlSetDrain, countLanesFrom, deleteLanes, arrivalOf, deleteArrival, sqlEntity, sqlVersion, sqlSetState, wholeBatch, stateOf, statesAfter, statesChanged, tombstonesFront, deleteState, countStates,
	} {
		plan := planOf(t, s, query)
		if strings.Contains(query, "key = ?") && !strings.Contains(strings.Join(plan, "\n"), "_key (") {
			t.Errorf("plan of %s\n%s, want a search in an index on the key", query, strings.Join(plan, "\n"))
		}
		for _, step := range plan {
			if table, ok := strings.CutPrefix(step, "SCAN "); ok && !mayScan(table) {
				t.Errorf("plan of %s\n%s, want a search", query, step)
			}
			if strings.Contains(step, "TEMP B-TREE") && !strings.Contains(query, "union all") && !strings.Contains(query, "from weir_queues") {
				t.Errorf("plan of %s\n%s, want the order of an index", query, step)
			}
		}
	}
}

func mayScan(table string) bool {
	for _, name := range small {
		if strings.HasPrefix(table, name) {
			return true
		}
	}
	// Limited, in the order of the index, from its first entry.
	return strings.HasSuffix(table, "batches_open") || table == "weir_audit"
}

func planOf(t *testing.T, s *Store, query string) []string {
	t.Helper()
	var steps []string
	err := s.read(t.Context(), func(c *conn) error {
		st, _, err := c.c.PrepareTransient("explain query plan " + query)
		if err != nil {
			return err
		}
		for more, err := st.Step(); more; more, err = st.Step() {
			if err != nil {
				return err
			}
			steps = append(steps, st.ColumnText(3))
		}
		return st.Finalize()
	})
	if err != nil {
		t.Fatalf("explain query plan %s = %v, want nil", query, err)
	}
	return steps
}
