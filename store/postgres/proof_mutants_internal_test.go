package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/storetest"
)

// mutant is the store with a guarantee broken that only this adapter has to give: what
// several processes, and transactions that commit out of turn, ask of it. Package mutants
// has those of all stores.
type mutant struct {
	does  string
	edits []edit
	// proof must fail with it, and does not without.
	proof func(t testing.TB, spoil func(*Store))
}

// edit is a change of a statement.
type edit struct{ query, old, by string }

// spoil breaks a store.
func (m mutant) spoil(t testing.TB) func(*Store) {
	return func(s *Store) {
		for _, e := range m.edits {
			if !strings.Contains(e.query, e.old) {
				t.Errorf("%s: the statement has no %q any more: %s", m.does, e.old, e.query)
			}
			s.texts.Store(e.query, inSchema(strings.ReplaceAll(e.query, e.old, e.by), s.schema))
		}
	}
}

func postgresMutants() []mutant {
	return []mutant{
		{"does not look for what is late", []edit{
			{sqlLookAll, "m.seq + 0 <= $3", "false"}, {sqlLook, "m.seq + 0 <= g.high", "false"}, {sqlLook, "m.seq <= g.high", "false"},
		}, proveOrder},
		{"does not look for what ran when it last looked", []edit{{sqlLookAll, "m.xid = x", "false"}, {sqlLook, "m.xid = x", "false"}}, proveOrder},
		{"forgets what its cursor has seen", []edit{
			{sqlCursor, "seens::text[]", "array_fill('3:3:'::text, array[cardinality(seens)])"},
		}, proveOrder},
		{"locks no keys of senders", []edit{{sqlKeys, "pg_advisory_xact_lock(u.h)", "u.h"}, {sqlTryKeys, "not pg_try_advisory_xact_lock(u.h)", "false"}}, proveKeys},
		{"works lanes of others", []edit{
			{sqlLanes, "coalesce(p.id is null or p.ended_us is not null or p.lost_us is not null, true)", "true"}, {sqlOpen, "b.lanes,", "0,"},
			{sqlWorkers, "where w.queue = $1", "where false and w.queue = $1"},
		}, proveLanes},
		{"keeps lanes that it does not work", []edit{{sqlGiveLanes, "set owner = null", "set owner = owner"}}, proveLanes},
		{"takes batches over under the same epoch", []edit{{sqlBatch, "select epoch,", "select epoch - 1,"}}, proveLaws("fence", "lease")},
		{"believes who is lost", []edit{
			{sqlHead, "lost_us is not null or ended_us is not null", "false"}, {sqlWriteHead, "lost_us is not null or ended_us is not null", "false"},
			{sqlShortHead, "lost_us is not null or ended_us is not null", "false"},
		}, proveLaws("fence", "lease", "run-fence")},
		{"misses a message that commits beside its wait", []edit{
			{sqlKeys, "pg_advisory_xact_lock(u.h)", "u.h"}, {sqlTryKeys, "not pg_try_advisory_xact_lock(u.h)", "false"},
		}, proveMeeting},
		{"goes on with the positions of another life", []edit{{sqlSkipSeq, sqlSkipSeq, "select $1::bigint, $2::bigint"}}, proveRebirth},
		{"goes on with the incarnation of another life", []edit{{sqlAddLife, "values ($1, $2, $3)", "select $1::bigint, $2::text, $3::bigint where false"}}, proveRebirth},
		{"skips what was late when its life ended", []edit{{sqlReleaseLate, sqlReleaseLate, "select $1::bigint"}}, proveRebirth},
		{"compares with snapshots of another life", []edit{{sqlSeeAnew, sqlSeeAnew, "select"}, {sqlAge, sqlAge, "select"}}, proveRebirth},
		{"compares with transactions of another life", []edit{{sqlAge, sqlAge, "select"}}, proveRebirth},
		{"holds no lane that it hears of", []edit{{sqlArrivals, "for update", ""}}, proveArrivals},
		{"holds no lock of origins", []edit{{sqlKeys, "pg_advisory_xact_lock(u.h)", "u.h"}, {sqlTryKeys, "not pg_try_advisory_xact_lock(u.h)", "false"}}, proveOrigins},
		{"writes older states over newer ones", []edit{{sqlPutStates, "where s.version < excluded.version", ""}}, proveOld},
		{"looks for new states by number", []edit{{askChanges, "where pg_visible_in_snapshot(x, $3", "where false and pg_visible_in_snapshot(x, $3"}}, proveLate},
		{"uses up a number when it leases nothing", []edit{{sqlCursor, "select no,", "select no + 1 as no,"}}, proveRelay},
		{"takes duties without a lock", []edit{{sqlDuties, dutyFree, " true "}, {sqlTakeDuties, dutyFree, " true "}}, proveDuties},
		{"does not notice that the store was renewed", []edit{{sqlLives, "from weir.lives", "from (select * from weir.lives order by first limit 1) l"}}, proveRenewal},
	}
}

// mutantTries is how often a proof may miss a fault that takes transactions to meet: on a busy machine they may not.
const mutantTries = 3

// TestPostgresMutants breaks each guarantee, and wants its proof to fail.
func TestPostgresMutants(t *testing.T) {
	for _, m := range postgresMutants() {
		t.Run(m.does, func(t *testing.T) {
			t.Parallel()
			var failures []string
			for range mutantTries {
				if failures = storetest.Failures(t, func(w testing.TB) { m.proof(w, m.spoil(t)) }); len(failures) > 0 {
					break
				}
			}
			if len(failures) == 0 {
				t.Fatalf("the proof holds for a store that %s, want it to fail", m.does)
			}
			t.Log(failures[0])
		})
	}
}

// TestPostgresProofs wants those proofs that are no tests of their own to hold.
func TestPostgresProofs(t *testing.T) {
	for name, proof := range map[string]func(testing.TB, func(*Store)){"order": proveOrder, "meeting": proveMeeting, "keys": proveKeys, "rebirth": proveRebirth,
		"arrivals": proveArrivals, "origins": proveOrigins, "states": proveStates, "late states": proveLate, "old states": proveOld, "relay": proveRelay, "duties": proveDuties,
		"renewal": proveRenewal} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proof(t, func(*Store) {})
		})
	}
}

// proveOrder is a small proof of the commit order.
func proveOrder(t testing.TB, spoil func(*Store)) {
	o := newOrder(t, orderSize{messages: 4_000, keys: 4, lasts: 800 * time.Millisecond, work: 25 * time.Millisecond, open: 500 * time.Millisecond, every: 100 * time.Millisecond}, spoil)
	o.run(t.Context())
	if f := o.judge(); !f.good() {
		t.Errorf("%+v", f)
	}
	for _, err := range o.faults {
		t.Error(err)
	}
}

// proveLaws checks the laws of some subjects.
func proveLaws(subjects ...string) func(testing.TB, func(*Store)) {
	return func(t testing.TB, spoil func(*Store)) {
		open := func(t testing.TB, now func() time.Time) storetest.Harness {
			h := openHarness(t, now).(*harness)
			whole := h.open
			h.open = func(ctx context.Context) (store.Store, error) {
				s, err := whole(ctx)
				if err == nil {
					spoil(s.(*Store))
				}
				return s, err
			}
			return h
		}
		for _, l := range storetest.Laws() {
			for _, subject := range subjects {
				if strings.HasPrefix(l.Name, subject+"/") && !t.Failed() {
					l.Check(t, open)
				}
			}
		}
	}
}
