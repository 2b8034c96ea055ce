package engine

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/weir-go/weir/store"
)

// guarded runs a closure of the user's in a goroutine of its own, so that neither its
// panic nor its runtime.Goexit (as by a test's FailNow) ends that of whoever commits,
// for himself and for all others.
func guarded(f store.Closure) store.Closure {
	return func(ctx context.Context, tx store.Tx) error {
		done := make(chan error, 1)
		go func() {
			err := errors.New("the function called runtime.Goexit")
			defer func() {
				if p := recover(); p != nil {
					err = &panicError{p, debug.Stack()}
				}
				done <- err
			}()
			err = f(ctx, tx)
		}()
		return <-done
	}
}
