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
	t.Parallel()
	server := pgtest.ForTest(t)
	dsn := server.DSN("postgres")
	h, g := newHouse(t, dsn)
	children := []*child{start(t, dsn, h.schema), start(t, dsn, h.schema)}
	for _, c := range children {
		c.runs(1)
	}
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
	t.Parallel()
	dsn := dsnOf(t)
	h, g := newHouse(t, dsn)
	c := start(t, dsn, h.schema)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	c.runs(1)
	const sql = "update %s.processes set lost_us = beat_us where ended_us is null and lost_us is null"
	for taken := int64(0); taken < 3; {
		g.giveFor(tick.C, 100*time.Millisecond)
		tag, err := h.db.Exec(t.Context(), fmt.Sprintf(sql, h.schema))
		if err != nil {
			t.Fatal(err)
		}
		taken += tag.RowsAffected()
		c.runs(1 + h.over(t))
	}
	begun, done := g.audit(h)
	over := h.over(t)
	c.runs(1 + over)
	again := c.said("joins again")
	t.Logf("%d things done, %d attempts more than that, joined again %d times", done, begun-done, again)
	if most := h.over(t); again < over || again > most {
		t.Errorf("joined again %d times, want %d to %d: as often as it was taken for lost", again, over, most)
	}
}

// over is how many lives of processes are: the test took them for lost, or the machine was too slow for a lease.
func (h *house) over(t *testing.T) int {
	t.Helper()
	return h.count(t, "select count(*) from %s.processes where lost_us is not null or ended_us is not null")
}
