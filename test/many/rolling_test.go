package many

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
)

// Processes that are stopped in order, one after the other, while others join, cost no message an attempt and no run a crash,
// and what each had in hand goes on at once: nobody waits for a lease to end.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	_, schema := poolOf(t, dsn)
	open := postgres.DB(dsn, postgres.Schema(schema), postgres.Lease(time.Hour)) // whoever is not handed what was stopped waits for that
	var mu sync.Mutex
	done := map[string]bool{}
	const n, processes, restarts = 400, 3, 9
	all := make(chan struct{})
	works := func(eng *weir.Engine) {
		weir.Handle(eng, chore, func(ctx context.Context, m *weir.Message[task]) error {
			if m.Attempt != 1 {
				t.Errorf("attempt %d of %s, want 1", m.Attempt, m.Body.Name)
			}
			select { // some are in hand at each stop
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			m.OnCommit(func(context.Context, weir.Tx) error {
				mu.Lock()
				defer mu.Unlock()
				done[m.Body.Name] = true
				if len(done) == n {
					close(all)
				}
				return nil
			})
			return nil
		})
	}
	crew := make([]*program, processes)
	for i := range crew {
		crew[i] = runProgram(t, open, works)
	}
	for i := range restarts {
		for j := range n / restarts {
			name := fmt.Sprint(i, "/", j)
			if err := weir.Send(t.Context(), crew[i%processes].eng, chore, task{name, fmt.Sprint("key-", j%7)}); err != nil {
				t.Fatal(err)
			}
		}
		crew[i%processes].end(false)
		crew[i%processes] = runProgram(t, open, works)
	}
	for i := range n - n/restarts*restarts {
		if err := weir.Send(t.Context(), crew[0].eng, chore, task{fmt.Sprint("last/", i), ""}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-time.After(patience):
		mu.Lock()
		t.Errorf("%d of %d are done", len(done), n)
		mu.Unlock()
	}
	quiet(t, crew[0].eng, crew[0].over)
	dead, err := crew[0].eng.Dead(t.Context(), weir.DeadQuery{})
	if err != nil || len(dead) != 0 {
		t.Errorf("Dead() = %d, %v, want none", len(dead), err)
	}
	for _, p := range crew {
		p.end(false)
	}
}
