package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// A message of a caller's own transaction comes to the run that waits for it also when
// nobody claims runs before retention has taken the message from the journal.
func TestArrivedOutlastsRetention(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &deeds{t: t, h: openHarness(t, func() time.Time { return now }).(*harness)}
	d.open(dsn(t)+" pool_max_conns=4", Clock(func() time.Time { return now }))
	ready := store.Topic{Name: "kitchen.food-ready", Kind: store.KindEvent}
	d.must(&store.Change{Run: &store.RunUpdate{RunRef: d.run(), Verdict: store.Waiting,
		Records: []*store.Record{{N: 1, Kind: store.KindWaitFor, Name: "plate"}},
		Waits:   []store.Wait{{N: 1, Topic: ready, Key: "table 7"}}}})
	tx, err := d.h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := plateReady()
	m.Key = "table 7"
	if err := d.s.AppendIn(t.Context(), Tx(tx), &store.Change{Sends: []*store.Message{m}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(1000 * time.Hour)
	for more := true; more; {
		p, err := d.s.Prune(t.Context(), store.Retention{Keep: time.Minute, Max: 100})
		if err != nil {
			t.Fatal(err)
		}
		more = p.More
	}
	if n := d.times(`select count(*) from weir.messages`); n != 0 {
		t.Fatalf("%d messages are in the journal after Prune, want 0: the test is about that", n)
	}
	c, err := d.s.Claim(t.Context(), store.ClaimRequest{Workflow: crowdFlow, Max: 1})
	if err != nil || len(c.Runs) != 1 || len(c.Runs[0].Mail) != 1 || c.Runs[0].Mail[0].Message == nil || c.Runs[0].Mail[0].Message.ID != m.ID {
		t.Errorf("Claim() = %+v, %v, want the run with message %s", c.Runs, err, m.ID)
	}
}

// Who waits looks back by the key and the time, so that a key of many messages costs only
// what was sent since.
func TestLookBackIsByTime(t *testing.T) {
	t.Parallel()
	h := openHarness(t, nil).(*harness)
	s, err := DB(dsn(t)+" pool_max_conns=2", Schema(h.schema))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var plan strings.Builder
	err = s.(*Store).write(t.Context(), func(tx *tx) error {
		return tx.get("explain "+sqlLookBack, func(read scan) error {
			var line string
			err := read(&line)
			plan.WriteString(line + "\n")
			return err
		}, []int64{1}, []string{"table 7"}, []int64{1}, []int64{0})
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(plan.String(), "Index Cond: ((key = u.key) AND (sent_us >= u.since))"); n < 2 {
		t.Errorf("%d scans by key and time, want one of the journal's partition and one of what is kept:\n%s", n, &plan)
	}
}
