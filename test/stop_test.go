package test

import (
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A stop under load costs nothing: no message loses an attempt by it, none becomes
// a suspect, and what was claimed and not begun goes on in the next process.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	const stops = 20
	seed := rand.Uint64() >> 33
	t.Logf("seed: %s=%d", envSeed, seed)
	luck := rand.New(rand.NewPCG(seed, 0))

	file := filepath.Join(t.TempDir(), "weir.db")
	db := openTables(t, file)
	handedBack, enough := 0, 10*stops
	role := "calm"
	n := 0
	for ; role != "drain"; n++ {
		if n >= slowest*stops || n >= stops && handedBack > 0 && count(t, db, `select count(*) from weir_messages`) >= enough {
			role = "drain"
		}
		c := start(t, role, file, life(n+1), seeded(seed))
		if role == "calm" {
			select {
			case <-c.up:
			case <-c.ended: // it fails below
			}
			hold(t, time.Duration(luck.IntN(60_000))*time.Microsecond)
			c.stop()
		}
		c.succeed()
		if said := c.said(); strings.Contains(said, "ended without handing back") {
			t.Errorf("process %d took over suspects; it said:\n%s", n+1, said)
		}
		if leased := count(t, db, `select count(*) from weir_batches where state = 0`); leased != 0 {
			t.Errorf("process %d has left %d batches leased, want 0", n+1, leased)
		}
		handedBack += count(t, db, `select count(*) from weir_batches where state = 1`)
	}
	b := audit(t, file)
	for _, e := range b.effects {
		if e.attempt != 1 {
			t.Errorf("%s was done in attempt %d, want 1: a stop is no failure", b.name(place{e.queue, e.pos}), e.attempt)
		}
	}
	for what, query := range map[string]string{
		"failed attempts":          `select count(*) from weir_attempts`,
		"dead letters":             `select count(*) from weir_dead`,
		"processes without an end": `select count(*) from weir_processes where ended_us is null`,
	} {
		if n := count(t, db, query); n != 0 {
			t.Errorf("%d %s, want 0", n, what)
		}
	}
	t.Logf("%d stops: %d messages, %d effects, %d batches handed back", n-1, len(b.journal), len(b.effects), handedBack)
	if handedBack == 0 || len(b.effects) < enough {
		t.Error("too little happened for the stops to meet anything")
	}
}

// hold lets some time of a load go by.
func hold(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
