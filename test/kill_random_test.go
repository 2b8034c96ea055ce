package test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// At random: processes that send and handle much at once are killed at random
// moments, some before they are up, and each is followed at once by the next. The
// last one works off what is left. Nothing is lost, nothing is done twice.
func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	kills := 20
	if long() {
		kills = 200
	}
	file := killAtRandom(t, kills, "load", "drain")
	audit(t, file).tally(t, kills)
}

// The same, while retention deletes all that nobody needs any more, as soon as it may.
func TestKillWhilePruning(t *testing.T) {
	t.Parallel()
	kills := 10
	if long() {
		kills = 200
	}
	file := killAtRandom(t, kills, "pruned load", "pruned drain")
	b := auditPruned(t, file)
	b.tally(t, kills)
	for p := range b.dead {
		delete(b.journal, p.pos)
	}
	if len(b.journal) > 0 {
		t.Errorf("the journal has %d messages left, of those with %d effects, that are no dead letter's: retention did too little", len(b.journal), len(b.effects))
	}
}

// killAtRandom kills children of a role so often, and on a slow machine more often, until they have sent enough to meet
// anything; has one of another work off what they left, and gives the file.
func killAtRandom(t *testing.T, kills int, role, last string) string {
	t.Helper()
	seed := rand.Uint64() >> 33
	if s := number(envSeed); s != 0 {
		seed = uint64(s)
	}
	t.Logf("seed: %s=%d", envSeed, seed)
	luck := rand.New(rand.NewPCG(seed, 0))

	file := filepath.Join(t.TempDir(), "weir.db")
	db := openTables(t, file)
	held := fences{}
	n := 0
	for ; n < kills || n < slowest*kills && littleHappened(t, file, kills); n++ {
		c := start(t, role, file, life(n+1), seeded(seed))
		up := luck.IntN(3) > 0
		c.killAfter(time.Duration(luck.IntN(200_000))*time.Microsecond, up)
		if now, ok := tryFences(t, db); ok {
			held.check(t, now)
			held = now
		}
	}
	start(t, last, file, life(n+1), seeded(seed)).succeed()
	held.check(t, readFences(t, db))
	return file
}

// slowest is how many times as long as planned children are killed, or stopped, where they do little in the time that they are
// left.
const slowest = 10

// littleHappened says whether children have sent too little so far for their kills to have met anything: what they leave is
// done by the last one, and makes at least three effects of each.
func littleHappened(t *testing.T, file string, kills int) bool {
	t.Helper()
	acked, err := reportOf(file).said("ack")
	if err != nil {
		t.Fatal(err)
	}
	return len(acked) < 5*kills
}

func seeded(seed uint64) string { return envSeed + "=" + strconv.FormatUint(seed, 10) }

// tally tells what happened, and wants enough of it.
func (b *books) tally(t *testing.T, kills int) {
	t.Helper()
	verbs := map[string]int{}
	for _, l := range b.reported {
		verbs[l.verb]++
	}
	retried := 0
	for _, e := range b.effects {
		retried += one(e.attempt > 1)
	}
	t.Logf("%d kills: %d messages, %d effects (%d after a failed attempt), %d dead; calls: %s",
		kills, len(b.journal), len(b.effects), retried, len(b.dead), fmt.Sprint(verbs))
	if len(b.effects) < 10*kills || verbs["ack"] < 2*kills || retried == 0 {
		t.Error("too little happened for the kills to meet anything")
	}
}
