package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir/store"
)

// A call is made again for as long as the database is away, which is logged once a minute, and
// no longer than its caller waits; and never when it may have been done.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		e := &Engine{log: slog.New(slog.NewTextHandler(&said, nil)), intervals: Intervals{Heartbeat: time.Second}}
		gone := fmt.Errorf("%w: connection refused", store.ErrUnavailable)
		calls, began := 0, time.Now()
		err := e.patiently(t.Context(), func(context.Context) error {
			if calls++; time.Since(began) < 150*time.Second {
				return gone
			}
			return nil
		})
		if err != nil || calls < 150 || calls > 400 {
			t.Errorf("patiently() = %v after %d calls, want nil after one or two a second", err, calls)
		}
		if n := strings.Count(said.String(), "the database is away"); n != 3 || strings.Count(said.String(), "the database is back") != 1 {
			t.Errorf("logged %d times that it is away, want 3 times, and once that it is back:\n%s", n, &said)
		}

		for _, last := range []error{fmt.Errorf("%w: %w", store.ErrUnresolved, gone), store.ErrLeaseLost, errors.New("a statement fails")} {
			calls = 0
			err := e.patiently(t.Context(), func(context.Context) error { calls++; return last })
			if !errors.Is(err, last) || calls != 1 {
				t.Errorf("patiently() = %v after %d calls, want %v after 1", err, calls, last)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := e.patiently(ctx, func(context.Context) error { return gone }); !errors.Is(err, store.ErrUnavailable) || time.Since(began) != time.Minute {
			t.Errorf("patiently() = %v after %s, want ErrUnavailable after 1m", err, time.Since(began))
		}
	})
}
