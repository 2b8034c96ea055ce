package postgres

import (
	"testing"

	"github.com/weir-go/weir/store"
)

// TestLanesMove is proveLanes.
func TestLanesMove(t *testing.T) { proveLanes(t, func(*Store) {}) }

// proveLanes has three processes claim in turn. Lanes are shared among those who claim, and move when
// their batches are closed: a key is never leased to two processes at a time.
func proveLanes(t testing.TB, spoil func(*Store)) {
	h, two, queue := twins(t, spoil)
	s := []*Store{two[0], two[1], oneMore(t, h)}
	spoil(s[2])
	holder := map[string]int{}
	open := make([]*store.Batch, len(s))
	worked := make([]int, len(s))
	for round := range 12 {
		send(t, s[0], keyed(64, "")...)
		for turn := range s {
			i := (round + turn) % len(s)
			if round == 0 && i > 0 {
				continue // the first process has all lanes at first
			}
			if open[i] != nil {
				if err := doneAll(t, s[i], open[i]); err != nil {
					t.Fatalf("Commit() of process %d = %v, want nil", i, err)
				}
				for _, d := range open[i].Deliveries {
					delete(holder, d.Message.Key)
				}
			}
			if open[i] = claimSome(t, s[i], queue, 1000); open[i] == nil {
				continue
			}
			worked[i] += len(open[i].Deliveries)
			for _, d := range open[i].Deliveries {
				if other, held := holder[d.Message.Key]; held && other != i {
					t.Fatalf("round %d: key %s is leased to processes %d and %d", round, d.Message.Key, other, i)
				}
				holder[d.Message.Key] = i
			}
		}
	}
	for i, n := range worked {
		if n == 0 {
			t.Errorf("process %d of %v got no keyed message, want the lanes shared", i, worked)
		}
	}
}
