package many

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
)

// Who waits for runs that another process works is told when each has ended, whoever of
// those who wait gives up.
func TestResultsOfRunsElsewhere(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	h, g := newHouse(t, dsn)
	start(t, dsn, h.schema)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			name := fmt.Sprint("task-", i)
			ref, err := weir.Start(t.Context(), g.eng, tidy, name, task{name, ""})
			if err != nil {
				t.Error(err)
				return
			}
			hasty, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			defer cancel()
			if _, err := ref.Result(hasty); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Result() = %v, want nil or that there was no time", err)
			}
			patient, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := ref.Result(patient); err != nil {
				t.Errorf("Result() = %v, want nil", err)
			}
		})
	}
	all.Wait()
	if n := h.count(t, "select count(*) from %s.done"); n != 180 {
		t.Errorf("%d steps were done when all results were known, want 180", n)
	}
}
