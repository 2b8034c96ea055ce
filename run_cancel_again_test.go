package weir_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// Whoever asks again for the end of a run, or a deadline that comes meanwhile, does not disturb its compensations.
func TestCancelWhileCompensating(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     []weir.StartOption
		again func(context.Context, weir.RunRef[plate]) error
	}{
		{"cancelled again", nil, func(ctx context.Context, ref weir.RunRef[plate]) error { return ref.Cancel(ctx, "again") }},
		{"past its deadline", []weir.StartOption{weir.Deadline(90 * time.Second)}, func(context.Context, weir.RunRef[plate]) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dine := weir.NewWorkflow[ticket, plate]("kitchen.dine-again")
				undone := 0
				e := weirtest.New(t, weir.Config{Owns: []string{"kitchen"}}, func(e *weir.Engine) {
					weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
						weir.Compensate(r, "undo", func(ctx context.Context) error {
							select {
							case <-time.After(40 * time.Second):
								undone++
								return nil
							case <-ctx.Done():
								return ctx.Err()
							}
						})
						return plate{}, weir.Do(r, "long", func(ctx context.Context) error {
							<-ctx.Done()
							return ctx.Err()
						}, weir.Timeout(time.Hour))
					})
				})
				ref, err := weir.Start(t.Context(), e, dine, "7", ticket{}, c.o...)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if err := ref.Cancel(t.Context(), "once"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second)
				if err := c.again(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				weirtest.RequireRun(t, e, dine, "7", weirtest.Cancelled)
				if undone != 1 {
					t.Errorf("it is undone %d times, want once", undone)
				}
			})
		})
	}
}
