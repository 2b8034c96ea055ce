package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// deed is a change to be committed over a line that is cut, and what tells how often it was.
type deed struct {
	name   string
	change func(d *deeds) *store.Change
	count  string // a query, once for each time that it was done
}

// deeds does them in one schema.
type deeds struct {
	t     testing.TB
	h     *harness
	s     *Store
	queue store.QueueID
}

const fateTopic = "kitchen.prepare-food"

func allDeeds() []deed {
	const (
		sent    = `(select count(*) from weir.messages m join weir.topics t on t.id = m.topic where t.name = 'kitchen.food-ready')`
		settled = `(select coalesce(sum(bit_count(b.bits)), 0)::bigint from weir.batches b)`
		noted   = `(select count(*) from weir.notes)`
		stepped = `(select count(*) from weir.steps)`
		came    = `(select count(*) from weir.messages where origin is not null)`
		there   = `(select coalesce(sum(batch), 0)::bigint from weir.arrivals)`
		stated  = `(select count(*) from weir.states)`
		ended   = `(select count(*) from weir.runs where ended_us is not null)`
	)
	same := func(a, b string) string { return "select case when " + a + " = " + b + " then " + a + " else -1 end" }
	return []deed{
		{"send", func(*deeds) *store.Change {
			return &store.Change{Sends: []*store.Message{plateReady()}, Outside: true}
		}, "select " + sent},
		{"ack that sends", func(d *deeds) *store.Change {
			ch := d.acked()
			ch.Sends = []*store.Message{plateReady()}
			return ch
		}, same(sent, settled)},
		{"ack", func(d *deeds) *store.Change { return d.acked() }, "select " + settled},
		{"ack with a closure", func(d *deeds) *store.Change {
			ch := d.acked()
			ch.Closures = []store.Closure{func(ctx context.Context, tx store.Tx) error { return d.h.Note(ctx, tx, "cooked") }}
			return ch
		}, same(noted, settled)},
		{"start of a run", func(d *deeds) *store.Change {
			return &store.Change{Runs: []*store.RunStart{{Workflow: crowdFlow, ID: "r1", Version: 1, Lease: true}}}
		}, `select count(*) from weir.runs`},
		{"step of a run that sends", func(d *deeds) *store.Change {
			return &store.Change{Run: &store.RunUpdate{RunRef: d.run(), Records: []*store.Record{{N: 1, Kind: store.KindStep, State: store.StepDone, Name: "s"}}},
				Sends: []*store.Message{plateReady()}}
		}, same(sent, stepped)},
		{"step of a run", func(d *deeds) *store.Change {
			return &store.Change{Run: &store.RunUpdate{RunRef: d.run(), Records: []*store.Record{{N: 1, Kind: store.KindStep, State: store.StepDone, Name: "s"}}},
				Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error { return d.h.Note(ctx, tx, "step") }}}
		}, same(noted, stepped)},
		{"arrival", func(*deeds) *store.Change {
			ch := arrived("floor/k7q2xw/a", 1, 1)
			ch.Sends[0].Topic = fateTopic
			return ch
		}, same(came, there)},
		{"arrival of nothing", func(*deeds) *store.Change {
			ch := arrived("floor/k7q2xw/a", 1, 1)
			ch.Sends = nil
			return ch
		}, "select " + there},
		{"state", func(*deeds) *store.Change {
			return &store.Change{States: []store.State{{Entity: stateEntity, Key: "a", Version: 1, Contract: 1, AsOf: time.Now()}}}
		}, "select " + stated},
		{"end of a run", func(d *deeds) *store.Change {
			return &store.Change{Run: &store.RunUpdate{RunRef: d.run(), Verdict: store.Ended, Outcome: store.Completed}}
		}, "select " + ended},
	}
}

func plateReady() *store.Message {
	return &store.Message{Topic: "kitchen.food-ready", Kind: store.KindEvent, Version: 1, Body: []byte(`{}`)}
}

// open opens the store of a schema by a line, working.
func (d *deeds) open(dsn string, options ...Option) {
	d.t.Helper()
	s, err := DB(dsn, append(options, Schema(d.h.schema))...)(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			d.t.Error(err)
		}
	})
	d.s = s.(*Store)
	if err := s.Begin(d.t.Context(), &store.Process{Host: "h"}); err != nil {
		d.t.Fatal(err)
	}
	topics := []store.Topic{{Name: fateTopic, Kind: store.KindCommand}, {Name: "kitchen.food-ready", Kind: store.KindEvent}}
	states, err := s.Declare(d.t.Context(), topics,
		[]store.Queue{{Name: fateTopic, Topic: store.Topic{Name: fateTopic, Kind: store.KindCommand}}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.queue = states[0].ID
	if err := d.s.knowWorkflows(d.t.Context(), map[string]bool{crowdFlow: true}); err != nil { // else that is what is cut
		d.t.Fatal(err)
	}
}

func (d *deeds) must(ch *store.Change) {
	d.t.Helper()
	if err := d.do(ch); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deeds) do(ch *store.Change) error {
	err := d.s.Commit(d.t.Context(), &store.Group{Changes: []*store.Change{ch}})
	return errors.Join(err, ch.Err)
}

// acked is the acknowledgement of a message that was claimed.
func (d *deeds) acked() *store.Change {
	d.t.Helper()
	d.must(&store.Change{Sends: []*store.Message{{Topic: fateTopic, Kind: store.KindCommand, Version: 1}}})
	c, err := d.s.Claim(d.t.Context(), store.ClaimRequest{Queue: d.queue, Max: 1})
	if err != nil || c.Batch == nil {
		d.t.Fatalf("Claim() = %+v, %v, want a message", c, err)
	}
	first := c.Batch.Deliveries[0]
	return &store.Change{Settle: []store.Settlement{{Batch: c.Batch.BatchRef, Index: first.Index, Pos: first.Message.Pos,
		Verdict: store.Done, Attempt: 1, Started: time.Now()}}}
}

// run is a run that was started and leased.
func (d *deeds) run() store.RunRef {
	d.t.Helper()
	st := &store.RunStart{Workflow: crowdFlow, ID: "r1", Version: 1, Lease: true}
	d.must(&store.Change{Runs: []*store.RunStart{st}})
	return store.RunRef{No: st.No, Epoch: st.Epoch}
}

func (d *deeds) times(query string) (n int) {
	d.t.Helper()
	for range 3 { // a connection may be of before a server was killed
		err := d.h.db.QueryRow(d.t.Context(), inSchema(query, d.h.schema)).Scan(&n)
		if err == nil {
			return n
		}
		d.t.Log(err)
		d.h.db.Reset()
	}
	d.t.Fatal("the server does not answer")
	return 0
}

// A connection that is lost around a commit loses nothing and doubles nothing.
func TestLostAnswerOfACommitIsFoundOut(t *testing.T) {
	t.Parallel()
	for _, deed := range allDeeds() {
		for how, cut := range map[string]int32{"before": cutBefore, "after": cutAfter, "meantime": cutMeantime} {
			t.Run(deed.name+"/"+how, func(t *testing.T) {
				t.Parallel()
				l := newLine(t, dsn(t))
				d := &deeds{t: t, h: openHarness(t, time.Now).(*harness)}
				d.open(l.dsn(dsn(t) + " pool_max_conns=4"))
				ch := deed.change(d)
				l.cut.Store(cut)
				err := d.do(ch)
				if l.cuts.Load() != 1 {
					t.Fatalf("%d commits were cut, want 1", l.cuts.Load())
				}
				want := 1
				if err != nil {
					want = 0
				}
				switch {
				case cut == cutAfter && err != nil:
					t.Errorf("Commit() = %v, want nil: it had been committed", err)
				case cut == cutBefore && !errors.Is(err, store.ErrUnavailable), err != nil && errors.Is(err, store.ErrUnresolved):
					t.Errorf("Commit() = %v, want ErrUnavailable and not ErrUnresolved", err)
				}
				if n := d.times(deed.count); n != want {
					t.Errorf("done %d times after Commit() = %v, want %d", n, err, want)
				}
				if err != nil {
					d.must(ch)
				}
				if n := d.times(deed.count); n != 1 {
					t.Errorf("done %d times in the end, want once", n)
				}
			})
		}
	}
}

// So does a server that is killed when it has committed, before it could say so, and that
// gives out transaction numbers again after that.
func TestLostAnswerOfAKilledServerIsFoundOut(t *testing.T) {
	t.Parallel()
	server := pgtest.ForTest(t)
	for i, deed := range allDeeds() {
		for how, cut := range map[string]int32{"before": cutBefore, "after": cutAfter} {
			t.Run(deed.name+"/"+how, func(t *testing.T) {
				h := &harness{t: t, schema: fmt.Sprintf("k%d_%d", i, cut)}
				var err error
				if h.db, err = pgxpool.New(t.Context(), server.DSN("postgres")); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(h.db.Close)
				for _, q := range []string{"create schema " + h.schema, "create table " + h.schema + ".notes (n bigserial, word text not null)"} {
					if _, err := h.db.Exec(t.Context(), q); err != nil {
						t.Fatal(err)
					}
				}
				l := newLine(t, server.DSN("postgres"))
				d := &deeds{t: t, h: h}
				d.open(l.dsn(server.DSN("postgres")))
				ch := deed.change(d)
				l.down = func() { // the client does not see it before the server is up again
					if err := errors.Join(server.Kill(), server.Up(context.Background())); err != nil {
						t.Error(err)
					}
					h.db.Reset()
					for range 20 { // numbers that the server has forgotten are given out again
						if _, err := h.db.Exec(context.Background(), "select pg_current_xact_id()"); err != nil {
							t.Error(err)
						}
					}
				}
				l.cut.Store(cut)
				err = d.do(ch)
				l.down = nil
				if after := cut == cutAfter; after != (err == nil) || err != nil && errors.Is(err, store.ErrUnresolved) {
					t.Errorf("Commit() = %v, cut after the commit: %t", err, after)
				}
				if err != nil {
					d.must(ch)
				}
				if n := d.times(deed.count); n != 1 {
					t.Errorf("done %d times in the end, want once", n)
				}
			})
		}
	}
}
