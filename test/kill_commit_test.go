package test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// At every commit: a process that works the script ends just before, or just
// after, its n-th call that may write; the next one does so a little later; the
// third finishes. The books are in order, whatever n is.
func TestKillAtEveryCommit(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ended := endings{at: map[string]int{}}
			calls := ended.count(t, when)
			t.Run("call", func(t *testing.T) {
				for n := 1; n <= calls; n++ {
					for _, next := range nextEndings(n) {
						t.Run(fmt.Sprintf("%d then %d", n, next), func(t *testing.T) {
							t.Parallel()
							ended.run(t, when, strconv.Itoa(n), strconv.Itoa(next))
						})
					}
				}
				for _, kind := range kinds(when) { // whatever way it went, at each of these
					t.Run(kind, func(t *testing.T) {
						t.Parallel()
						if !ended.run(t, when, kind, kind) {
							t.Errorf("no process ended %s %s", when, kind)
						}
					})
				}
			})
			for ended.run(t, when, strconv.Itoa(calls+1), "1") { // one that went another way, and made more calls
				calls++
			}
			t.Logf("processes ended at %v", ended.at)
		})
	}
}

// nextEndings are the calls at which the second process ends if the first does so at its n-th.
func nextEndings(n int) []int {
	if !long() {
		return []int{1 + 7*n%23}
	}
	var all []int
	for next := 1; next < 23; next += 3 {
		all = append(all, next)
	}
	return all
}

// endings is where processes ended.
type endings struct {
	mu sync.Mutex
	at map[string]int
}

// count is how many calls a process makes that is left to finish the script.
func (e *endings) count(t *testing.T, when string) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.db")
	openTables(t, file)
	start(t, "script", file, life(1), fuseAt(when, "0")).succeed()
	b := audit(t, file)
	wantOneRotten(t, b)
	last := b.reported[len(b.reported)-1]
	calls, err := strconv.Atoi(last.of)
	if err != nil || last.verb != "count" {
		t.Fatalf("the last line of the report is %+v, want a count", last)
	}
	return calls
}

func fuseAt(when, at string) string { return envFuse + "=" + when + " " + at }

// kinds are the calls of the store that write, with the end of a caller's own transaction.
func kinds(when string) []string {
	all := []string{"Begin", "Declare", "AppendIn", ownEnd, "Commit", "Operate", "End"}
	if when == "after" {
		all = append(all, "Claim")
	}
	return all
}

const ownEnd = "end-of-own-transaction"

// run has the script worked by three processes, of which the first two end at the
// calls given, if they make them, and audits the books. Reached is whether the
// first did.
func (e *endings) run(t *testing.T, when, first, second string) (reached bool) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.db")
	db := openTables(t, file)
	held := fences{}
	for i, at := range []string{first, second, "0"} {
		c := start(t, "script", file, life(i+1), fuseAt(when, at))
		code := c.wait()
		if code > 0 || code < 0 && at == "0" {
			t.Fatalf("process %d ended with %d, want 0, or killed by itself; it said:\n%s", i+1, code, c.said())
		}
		reached = reached || i == 0 && code < 0
		now := readFences(t, db)
		held.check(t, now)
		held = now
	}
	b := audit(t, file)
	wantOneRotten(t, b)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range b.reported {
		if l.verb == "died" {
			e.at[l.of]++
		}
	}
	return reached
}

// wantOneRotten wants the only dead letter to be the one that nobody mends.
func wantOneRotten(t *testing.T, b *books) {
	t.Helper()
	if len(b.dead) != 1 {
		t.Errorf("%d are dead, want 1", len(b.dead))
	}
	for p, l := range b.dead {
		if b.journal[p.pos].body.Tag != "rotten" {
			t.Errorf("%s is dead (%s), want only the rotten one", b.name(p), l.reason)
		}
	}
}
