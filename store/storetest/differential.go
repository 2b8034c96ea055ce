package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// Differential walks the same random walks over two stores, step by step the same
// operations, and wants the same answers: which messages and runs are handed out, with
// what, what is refused, how the queues, the dead, the runs and the stories stand after each step.
// Where an answer is one store's own (positions, numbers of batches, processes), it is
// left out.
//
// The seed is in the test's name; WEIR_WALKS and WEIR_WALK_STEPS set how many and how far.
func Differential(t *testing.T, one, other Open) {
	const few = 3 // the laws walk, too
	n, steps := number("WEIR_WALKS", few), number("WEIR_WALK_STEPS", walkSteps)
	for name, walk := range map[string]func(s *scene, seed uint64) []string{
		"walk":          func(s *scene, seed uint64) []string { return walkFrom(s, seed, steps, true) },
		"run-walk":      func(s *scene, seed uint64) []string { return walkRuns(s, seed, steps, true) },
		"exchange-walk": func(s *scene, seed uint64) []string { return walkExchange(s, seed, steps, true) },
	} {
		for seed := range n {
			// Other seeds than those of the laws.
			t.Run(fmt.Sprintf("%s/seed-%d", name, seed), func(t *testing.T) {
				t.Parallel()
				have := walk(newScene(t, one), uint64(1000+seed))
				if !t.Failed() {
					same(t, have, walk(newScene(t, other), uint64(1000+seed)))
				}
			})
		}
	}
}

// same compares what two walks tell.
func same(t *testing.T, one, other []string) {
	t.Helper()
	const before = 30 // lines, for who looks into it
	for i := range max(len(one), len(other)) {
		a, b := "the end", "the end"
		if i < len(one) {
			a = one[i]
		}
		if i < len(other) {
			b = other[i]
		}
		if a != b {
			t.Fatalf("the stores differ:\n%s\none:   %s\nother: %s", strings.Join(one[max(0, i-before):i], "\n"), a, b)
		}
	}
	if len(one) == 0 {
		t.Fatal("the walks tell nothing")
	}
}

// tell notes what is seen.
func (w *walk) tell(format string, args ...any) {
	if w.tells {
		w.log(format, args...)
	}
}

// delivered is a batch as its handlers see it.
func delivered(b *store.Batch) string {
	var line []string
	for _, d := range b.Deliveries {
		line = append(line, fmt.Sprintf("%s: attempt %d, crashes %d, first %s, sent %s", d.Message.Body, d.Attempt, d.Crashes, clockTime(d.FirstAt), clockTime(d.Message.SentAt)))
	}
	return fmt.Sprintf("suspect %t, claimed %s: %s", b.Suspect, clockTime(b.ClaimedAt), strings.Join(line, "; "))
}

func clockTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("02 15:04:05.000000")
}

// tellQueues notes how the queues and their dead stand.
func (w *walk) tellQueues(states []store.QueueState) {
	if !w.tells {
		return
	}
	for _, st := range states {
		w.log("  %s: depth %d, leased %d, dead %d, paused %t, parked %t, gaps %d, oldest %s", st.Name, st.Depth, st.Leased, st.Dead,
			st.Paused != nil, st.Parked, st.Gaps, clockTime(st.Oldest))
		if st.Dead == 0 {
			continue
		}
		var dead []string
		for _, l := range w.dead(st.Name) {
			dead = append(dead, fmt.Sprintf("%s died %s after %d, %q", l.Message.Key, clockTime(l.DiedAt), l.Attempts, l.Reason))
		}
		slices.Sort(dead)
		w.log("  dead: %s", strings.Join(dead, "; "))
	}
}

// tellStory notes a message's story in one queue.
func (w *walk) tellStory(m store.MessageStory, queue string) {
	if !w.tells {
		return
	}
	for _, q := range m.Queues {
		if q.Queue == queue {
			w.log("  %s in %s: %s, began %s", m.Body, queue, q.State, clockTime(q.Started))
		}
	}
}

// tell notes how the runs stand.
func (w *runWalk) tell() {
	if !w.tells {
		return
	}
	rows := w.rows(store.RunQuery{Workflow: fulfil, Max: store.MaxList})
	for _, r := range rows {
		w.log("  %s: %s, wakes %s, crashes %d, ended %s, %q", r.ID, r.State, clockTime(r.Wake), r.Crashes, clockTime(r.EndedAt), r.Reason)
	}
}
