package many

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// A server that is killed and comes back, sooner or later than a lease, ends no engine, and
// what was under way is done once. Senders are told, and send again.
func TestEnginesOutliveTheirServer(t *testing.T) {
	server := pgtest.ForTest(t)
	dsn := server.DSN("postgres")
	h, g := newHouse(t, dsn)
	children := []*child{start(t, dsn, h.schema), start(t, dsn, h.schema)}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, away := range []time.Duration{0, lease / 2, 2 * lease} {
		g.giveFor(tick.C, 300*time.Millisecond)
		back := make(chan error, 1)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(away, func() { back <- server.Up(context.Background()) })
		g.giveFor(tick.C, away+lease/2) // or longer, until the server is back
		if err := <-back; err != nil {
			t.Fatal(err)
		}
	}
	begun, done := g.audit(h)
	noticed, again := 0, 0
	for _, c := range children {
		noticed += c.said("the database is away")
		again += c.said("joins again")
	}
	t.Logf("%d things done, %d attempts more than that; %d times it was noticed that the server was away, %d times joined again",
		done, begun-done, noticed, again)
	if noticed == 0 {
		t.Error("no process noticed that the server was away")
	}
}

// A process that others take for lost, though it lives, joins again at once.
func TestProcessTakenForLostJoinsAgain(t *testing.T) {
	dsn := dsnOf(t)
	h, g := newHouse(t, dsn)
	c := start(t, dsn, h.schema)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range 3 {
		for tries := 0; tries < 100 && c.said("weir runs") <= n; tries++ {
			g.giveFor(tick.C, 100*time.Millisecond)
		}
		g.giveFor(tick.C, 100*time.Millisecond)
		if _, err := h.db.Exec(t.Context(), fmt.Sprintf("update %s.processes set lost_us = beat_us where ended_us is null and lost_us is null", h.schema)); err != nil {
			t.Fatal(err)
		}
	}
	begun, done := g.audit(h)
	t.Logf("%d things done, %d attempts more than that, joined again %d times", done, begun-done, c.said("joins again"))
	if n := c.said("joins again"); n != 3 {
		t.Errorf("joined again %d times, want 3", n)
	}
}
