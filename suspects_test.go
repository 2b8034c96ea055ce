package weir_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// suspecting is a store whose every batch was left behind by a process that ended
// without handing it back, as claims beside other processes find them at any time.
type suspecting struct{ store.Store }

func (s suspecting) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, r)
	if c.Batch != nil {
		c.Batch.Suspect = true
	}
	return c, err
}

func (s suspecting) Commit(ctx context.Context, g *store.Group) error {
	err := s.Store.Commit(ctx, g)
	for _, b := range g.Claimed {
		b.Suspect = true
	}
	return err
}

// A suspect that comes while one of another queue runs is worked after it, though what
// tells of its coming wakes only who waits for the other to end.
func TestSuspectThatComesWhileAnotherRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		e := openStore(t, func(ctx context.Context) (store.Store, error) {
			s, err := sqlite.File(file)(ctx)
			return suspecting{s}, err
		}, weir.Config{})
		began, end, cleaned := make(chan struct{}), make(chan struct{}), make(chan struct{})
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
			close(cleaned)
			return nil
		})
		weir.Handle(e, prepare, func(context.Context, *weir.Message[ticket]) error {
			close(began)
			<-end
			return nil
		})
		run(t, e)
		send(t, e, prepare, ticket{N: 1})
		receive(t, began)
		send(t, e, clean, ticket{N: 2})
		synctest.Wait() // it is claimed, and whom that woke waits again
		close(end)
		receive(t, cleaned)
	})
}
