package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// What a big journal is made with, without a store's work: what is asked of it is the same.
// Of 20 events, each has a queue that is done with nearly all of it.
var bigJournal = []string{
	`insert into weir.topics (name, kind) select 'kitchen.event-' || i, 2 from generate_series(1, 20) i`,
	`insert into weir.counts select id, 0, 1, 10000, 0, 0, 0 from weir.topics union all select 0, id, 1, 0, 9500, 0, 0 from weir.topics`,
	`insert into weir.messages (topic, seq, sent_us, version, lane, key, correlation, body)
		select i % 20 + 1, i, 1772366400000000 + i * 1000, 1, i % 16, 'table-' || (i % 5003),
			case when i % 4 > 0 then 'aaaaaa-' || (i - i % 4) end, repeat('x', 100)::bytea from generate_series(1, 200000) i`,
	`select setval('weir.seq', 200000)`,
	`insert into weir.kept (topic, seq, sent_us, xid, version, lane, key, body)
		select i % 20 + 1, 1000000 + i, 1772366400000000, pg_current_xact_id(), 1, 16, 'table-' || (i % 5003), '' from generate_series(1, 20000) i`,
	`insert into weir.queues (name, topic, start_pos, start_seen, base, capacity, required, max_lag, on_dead)
		select name || '-queue', id, id::bigint << 40, '1:1:', 0, 0, false, 0, 0 from weir.topics`,
	`insert into weir.batches (queue, no, epoch, owner, state, high, masks, highs, seens, targets, uptos, span, lanes, open,
			claimed_us, done_us, manifest, bits, times)
		select q.id, n, 1, 1, case when n = 90 then 0 else 2 end, h.pos, array[131071], array[h.pos], array[pg_current_snapshot()],
			array[null::pg_snapshot], array[0::bigint], int8range(h.pos - 2000, h.pos, '(]'), 0, 0, 1772366400000000 + n, 1, '', '', ''
		from weir.queues q cross join generate_series(1, 95) n cross join lateral (select q.topic::bigint << 40 | n * 2000 as pos) h`,
	`insert into weir.deferred (queue, pos, kind, lane, due_us, key, attempt)
		select i % 20 + 1, (i % 20 + 1)::bigint << 40 | i, case when i % 2 = 0 then 4 else 2 end, 0,
			case when i % 2 = 1 then 1772366400000000 + i end, 'table-' || (i % 5003), 1 from generate_series(1, 20000) i`,
	`insert into weir.dead (queue, pos, died_us, lane, key, attempts, reason)
		select i % 20 + 1, (i % 20 + 1)::bigint << 40 | i, 1, 0, 'table-' || (i % 5003), 5, 'dial tcp: timeout' from generate_series(20001, 40000) i`,
	`insert into weir.attempts (queue, pos, n, attempt, took_us, verdict, process) select queue, pos, 1, 1, 5, 'dead', 1 from weir.dead`,
	`insert into weir.figures select q.id, 29539440 + m, 1, 1, 0, 0, 0, '', '', '' from weir.queues q cross join generate_series(1, 1000) m`,
	`insert into weir.workflows (name, completed) values ('kitchen.fulfil', 40000), ('kitchen.refund', 0)`,
	`insert into weir.runs (no, workflow, id, wake, version, epoch, started_us, ended_us, outcome, parent)
		select i, 1 + i % 2, 'order-' || i, case when i > 40000 then (4::bigint << 56) end, 1, 1, 1772366400000000 + i,
			case when i <= 40000 then 1772366400000000 + i end, case when i <= 40000 then 1 + (i % 100 = 0)::int end, nullif(i / 2, 0) from generate_series(1, 50000) i`,
	`insert into weir.steps (run, n, kind, state, attempt, name) select r.no, n, 1, 4, 1, 'pay' from weir.runs r cross join generate_series(1, 3) n`,
	`insert into weir.waits (run, n, topic, key, since_us, after_pos) select no, 3, 1, id, 1, 0 from weir.runs where wake is not null`,
	`insert into weir.messages (topic, seq, sent_us, version, lane, origin, body)
		select 1, 300000 + i, 1772366400000000, 1, 16, 'k7q2xw-' || i || E'\nfloor\n0', '' from generate_series(1, 20000) i`,
	`insert into weir.states (entity, key, version, contract, as_of_us, deleted, body)
		select 'customers.customer-' || i % 3, 'key-' || i, i, 1, 1, i % 7 = 0, '' from generate_series(1, 30000) i`,
	`insert into weir.arrivals (lane, batch, i, last, at_us, arrived, jumps, jumped_us) select 'floor/k7q2xw/' || i, 1, 0, true, 1, 1, 0, nullif(i % 100, 1) from generate_series(1, 20000) i`,
	`insert into weir.mail (no, run, at_us, kind, n, pos) select no, no, 1, 1, 3, 1::bigint << 40 | no from weir.runs where wake is not null`,
}

// planned is a statement with arguments as it is asked with.
type planned struct {
	query string
	args  []any
}

func plannedReads() []planned {
	somewhere, some := int64(5<<seqBits|4004), []int64{5<<seqBits | 4004, 6<<seqBits | 4005}
	spans := []int64{runwake.Mail}
	return []planned{
		{askNewest, []any{int64(150_000), 50, ""}}, {askNewest, []any{int64(150_000), 50, "kitchen.event-7"}},
		{askNewestOfKey, []any{int64(150_000), 50, "", "table-7"}}, {askNewestOfKey, []any{int64(150_000), 50, "kitchen.event-7", "table-7"}},
		{askMessagesAt, []any{some, true}}, {askPlaces, []any{some}},
		{askDeadOf, []any{[]int64{5}, some}}, {askDeferredOf, []any{[]int64{5}, some}}, {askAttemptsOf, []any{[]int64{5}, some, 50}},
		{askOpenBatches, []any{[]int64{5}}}, {askFirstClaims, []any{[]int64{5}, some}},
		{askTalkOfKey, []any{"table-7", 50}}, {askTalkAt, []any{some}}, {askConversations, []any{[]string{"aaaaaa-40"}, conversationMax}},
		{askRunsNamed, []any{"order-7"}}, {askQueues, []any{""}}, {askFigures, []any{int64(29540430), 1000}},
		{askDead, []any{"", int64(0), "", 51}}, {askDead, []any{"kitchen.event-7-queue", int64(0), "refused", 51}},
		{askDeadAt, []any{"", somewhere}}, {askEditsOf, []any{[]int64{5}, somewhere}},
		{askRunRows, []any{[]int64{7, 8}}}, {askRunsBefore, []any{int64(30_000), 1000}}, {askChildren, []any{int64(7), 1000}},
		{askUnwellBefore, []any{int64(30_000), 1000, 2}}, {askRunSpans, []any{[]int64{1, 2}, spans, spans, 10_001}},
		{askRunsByID, []any{[]int64{1, 2}, "order-77", "order-78", 10_001}},
		{askOpenReasons, []any{[]int64{7, 8}, 4}}, {askRunOf, []any{"kitchen.fulfil", "order-8"}}, {askRunsWith, []any{"order-8"}}, {askEnds, []any{some}},
		{askRecords, []any{int64(7)}}, {askStepAttempts, []any{int64(7), 10}}, {askWaits, []any{int64(7)}}, {askMailOf, []any{int64(7)}},
		{askFullNames, []any{some}}, {askReplies, []any{[]string{"aaaaaa-40"}, []int64{3}, 10}},
		{actLettersAt, []any{[]int64{5}, somewhere}}, {actLettersOf, []any{int64(5), int64(0), 10_000}},
		{actLetterBehind, []any{int64(5), "table-7", int64(0), 100}}, {actDeadBefore, []any{int64(5), "table-7", somewhere}},
		{askOldestDeath, []any{int64(5)}}, {askAbandoned, []any{int64(5), int64(1), 3}}, {askOverdue, []any{int64(5), int64(1)}},
		{askLeasedKeys, []any{some}},
		{sqlOriginsAt, []any{some}}, {askArrivals, []any{"floor/k7q2xw/7", 1000}}, {pruneLanes, []any{int64(7), 100}},
		{askJumped, []any{int64(98), 3}}, {askEntities, []any{100}}, {askCountedStates, []any{"customers.customer-1", 100}}, {askWholeBatch, []any{int64(5), int64(77)}},
		{askState, []any{"customers.customer-1", "key-7"}}, {askStates, []any{"customers.customer-1", "key-7", true, 100}},
		{askChanges, []any{"customers.customer-1", "10:20:10", "30:30:", "12", "key-7", 100}}, {pruneStates, []any{int64(7), 100}},
		{pruneBatchesFront, []any{int64(5), int64(3), 100}}, {pruneFront, []any{int64(5), int64(10), 100}},
		{pruneMessages, []any{int64(5), []int64{5, 25}, int64(5), int64(25)}}, {pruneCopy, []any{int64(5), []int64{5, 25}, int64(5), int64(25)}},
		{pruneNeeded, []any{[]int64{5}, some[:1], somewhere, somewhere}},
		{pruneAttempts, []any{[]int64{5}, some[:1], somewhere, somewhere, 10}}, {pruneKeptFrom, []any{somewhere, 500}}, {pruneKept, []any{somewhere}},
		{pruneRunsFront, []any{int64(5), 1000}}, {pruneRunSizes, []any{some}}, {pruneKeepEnds, []any{some}}, {pruneSteps, []any{some, 10}}, {pruneRuns, []any{some}},
	}
}

// big are the tables that a statement may not read whole.
var big = []string{"messages", "kept", "batches", "deferred", "dead", "attempts", "figures", "runs", "steps", "mail", "waits", "states", "arrivals"}

// plannedWrites is statements of transactions that write, with the planner that those have.
func plannedWrites() []planned {
	return []planned{
		{sqlFirsts, []any{[]string{"k7q2xw-77\n"}, []string{"k7q2xw-77\v"}}}, {sqlArrivals, []any{[]string{"floor/k7q2xw/7"}}},
		{sqlDrainLanes, []any{int64(7), []string{"floor/k7q2xw/7"}}},
	}
}

// TestPlans wants every statement for people, operators and retention to find its rows by
// an index, also while the planner knows nothing of the tables yet: a plan that scans is
// fast in every test and stops a real store.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, query := range bigJournal {
		b.exec(query)
	}
	check := func(when string) {
		for _, p := range plannedReads() {
			b.wantsIndex(when, p, "")
		}
		for _, p := range plannedWrites() {
			b.wantsIndex(when, p, sqlByIndex)
		}
	}
	check("without statistics")
	b.analyze()
	check("with statistics")
	// Who reads far too much in spite of its plan meets the limit of a statement.
	ctx, r := t.Context(), b.Store.Reader()
	for name, ask := range map[string]func() error{
		"queues":   func() error { _, err := r.Queues(ctx); return err },
		"messages": func() error { _, err := r.Messages(ctx, store.MessageQuery{Max: 1000}); return err },
		"key":      func() error { _, err := r.Messages(ctx, store.MessageQuery{Key: "table-7"}); return err },
		"topic":    func() error { _, err := r.Messages(ctx, store.MessageQuery{Topic: "kitchen.event-7"}); return err },
		"message":  func() error { _, err := r.Message(ctx, b.Info().Incarnation.ID(5<<seqBits|4004)); return err },
		"trace":    func() error { _, err := r.Trace(ctx, "table-7", 1000); return err },
		"dead":     func() error { _, err := r.Dead(ctx, store.DeadQuery{}); return err },
		"runs":     func() error { _, err := r.Runs().List(ctx, store.RunQuery{State: store.RunWaiting}); return err },
		"counts":   func() error { _, err := r.Runs().Counts(ctx); return err },
		"story":    func() error { _, err := r.Runs().Story(ctx, "", "order-7"); return err },
		"check":    func() error { _, err := r.Check(ctx); return err },
		"retry": func() error {
			_, err := b.Operate(ctx, store.Act{Verb: store.RetryDead, By: "ada", Why: "mended", DryRun: true})
			return err
		},
		"prune": func() error { _, err := b.Prune(ctx, store.Retention{Keep: time.Minute, Max: 1000}); return err },
	} {
		start := time.Now()
		if err := ask(); err != nil {
			t.Errorf("%s = %v, want nil", name, err)
		}
		t.Logf("%-8s %s", name, time.Since(start).Round(100*time.Microsecond))
	}
}

// analyze makes statistics of the schema's tables.
func (b *bench) analyze() {
	b.Helper()
	var tables string
	if err := b.h.db.QueryRow(b.Context(), "select string_agg(oid::regclass::text, ', ') from pg_class where relnamespace = $1::regnamespace and relkind in ('r', 'p')", b.schema).Scan(&tables); err != nil {
		b.Fatal(err)
	}
	b.exec("analyze " + tables)
}

// wantsIndex wants a statement's plan to read no big table whole.
func (b *bench) wantsIndex(when string, p planned, settings string) {
	b.Helper()
	for _, step := range b.plan(p, settings) {
		table, scans := strings.CutPrefix(step, "Seq Scan on ")
		if scans && slices.ContainsFunc(big, func(name string) bool { return strings.HasPrefix(table, name) }) {
			b.Errorf("%s, the plan of\n\t%s\nhas %q, want an index", when, p.query, step)
		}
	}
}

// plan is the steps of a statement's plan, without their costs, with the settings that are asked for before.
func (b *bench) plan(p planned, settings string) (steps []string) {
	b.Helper()
	err := b.read(b.Context(), func(t *tx) error {
		if settings != "" {
			t.do(settings)
		}
		return t.get("explain (costs off) "+p.query, func(read scan) error {
			var step string
			err := read(&step)
			steps = append(steps, strings.TrimLeft(step, " ->"))
			return err
		}, p.args...)
	})
	if err != nil && b.Context().Err() == nil {
		b.Errorf("explain %s = %v, want nil", p.query, context.Cause(b.Context()))
		b.Error(err)
	}
	return steps
}
