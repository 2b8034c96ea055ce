package many

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// newHouse makes the house's tables, and a giver that only sends.
func newHouse(t *testing.T, dsn string) (*house, *giver) {
	t.Helper()
	db, schema := poolOf(t, dsn)
	h := &house{db: db, schema: schema}
	if _, err := db.Exec(t.Context(), fmt.Sprintf(houseTables, schema)); err != nil {
		t.Fatal(err)
	}
	eng, err := h.open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, &giver{t: t, eng: eng}
}

// workers is how many processes work the house. One at a time is stopped, and another may be
// about to join again.
const workers = 4

// A process that is stopped for three leases, and goes on with what it had in hand, has
// nothing of that accepted which others have taken over. It joins again and works on.
func TestStoppedProcessesWriteNothingStale(t *testing.T) {
	t.Parallel()
	stops := 6
	if s := os.Getenv(envStops); s != "" {
		var err error
		if stops, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%s: %v", envStops, s, err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	luck := rand.New(rand.NewPCG(seed, 0))
	dsn := dsnOf(t)
	h, g := newHouse(t, dsn)
	children := make([]*child, workers)
	for i := range children {
		children[i] = start(t, dsn, h.schema)
	}
	for _, c := range children {
		c.runs(1)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range stops {
		c := children[luck.IntN(len(children))]
		g.giveFor(tick.C, time.Duration(luck.IntN(500))*time.Millisecond)
		h.stopAtWork(t, c, func() { g.giveFor(tick.C, 20*time.Millisecond) })
		g.giveFor(tick.C, 3*lease)
		c.signal(syscall.SIGCONT)
		if n%20 == 19 {
			t.Logf("%d stops", n+1)
		}
	}
	g.giveFor(tick.C, lease)
	begun, done := g.audit(h)
	again, refused := 0, 0
	for _, c := range children {
		again += c.said("joins again")
		refused += c.said("was refused")
	}
	t.Logf("%d stops: %d things done, %d attempts more than that, processes joined again %d times, %d refusals by fence logged",
		stops, done, begun-done, again, refused)
	if again == 0 || begun <= done {
		t.Errorf("processes joined again %d times, and %d attempts were made for %d things: want some work refused", again, begun, done)
	}
}

// stopAtWork stops a child that has something in hand: it has begun what is not done. meanwhile goes by until it has.
func (h *house) stopAtWork(t *testing.T, c *child, meanwhile func()) {
	t.Helper()
	const sql = "select count(*) from %%s.begun b where pid = %d and not exists (select from %%[1]s.done d where d.what = b.what)"
	for begun := time.Now(); ; meanwhile() {
		c.signal(syscall.SIGSTOP)
		if h.count(t, fmt.Sprintf(sql, c.cmd.Process.Pid)) > 0 {
			return
		}
		c.signal(syscall.SIGCONT)
		if time.Since(begun) > patience {
			t.Fatalf("process %d has nothing in hand", c.cmd.Process.Pid)
		}
	}
}

// giveFor gives tasks for some time.
func (g *giver) giveFor(tick <-chan time.Time, d time.Duration) {
	g.t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return
		case <-tick:
			g.give(g.t.Context())
		}
	}
}
