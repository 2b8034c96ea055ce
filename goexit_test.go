package weir_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/weir-go/weir"
)

// A closure that ends its goroutine (a test's FailNow does) must not end that of
// whoever commits: all others would wait for ever.
func TestClosureThatEndsItsGoroutine(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		m.OnCommit(func(context.Context, weir.Tx) error {
			runtime.Goexit()
			return nil
		})
		return nil
	}, weir.Queue{Retry: weir.Retry{Max: 1}})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		_, err := weir.StepTx(r, "cook", func(context.Context, weir.Tx) (int, error) {
			runtime.Goexit()
			return 0, nil
		}, weir.Retry{Max: 1})
		return plate{}, err
	})
	run(t, e)
	<-e.Ready()
	send(t, e, clean, ticket{N: 1})
	if _, err := weir.Start(t.Context(), e, dine, "7", ticket{Table: "7"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message is dead", func() bool {
		dead, err := e.Dead(t.Context(), weir.DeadQuery{})
		return err == nil && len(dead) == 1 && strings.Contains(dead[0].Reason, "Goexit")
	})
	eventually(t, "the run needs a person", func() bool {
		runs, err := e.Runs(t.Context(), weir.RunQuery{State: "needs-person"})
		return err == nil && len(runs) == 1 && strings.Contains(runs[0].Reason, "Goexit")
	})
}
