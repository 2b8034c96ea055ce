package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// A workflow with as many unfinished runs as it may have refuses starts from outside, and says when to come
// again. Starts of handlers and of runs are admitted, and a start of a run that there is.
func TestMaxUnfinished(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		p, err := weir.WaitFor(r, "approval", approved)
		if err != nil || p.N == 0 {
			return p, err
		}
		if _, err := weir.Start(r.Context(), r, dine, r.ID()+"-next", ticket{}); err != nil {
			return p, err
		}
		_, err = weir.Call(r, "child", wash, ticket{})
		return p, err
	}, weir.Runs{MaxUnfinished: 2})
	weir.Register(e, wash, gives, weir.Runs{MaxUnfinished: 1})
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		_, err := weir.Start(ctx, m, dine, "of a handler", m.Body)
		return err
	})
	stop := works(t, e)
	first := startRun(t, e, "1")
	startRun(t, e, "2")
	startRun(t, e, "2")
	_, err := weir.Start(t.Context(), e, dine, "3", ticket{})
	full, ok := errors.AsType[*weir.FullError](err)
	if !ok || !full.Runs || full.Queue != dine.Name() || full.Depth != 2 || full.Capacity != 2 || full.RetryAfter < 10*time.Millisecond {
		t.Fatalf("Start of a third = %+v, want a *FullError with 2 of 2, and when to come again", err)
	}
	if text := err.Error(); !strings.Contains(text, "2 unfinished runs of 2") || !strings.Contains(text, "try again in") {
		t.Errorf("Start of a third = %q", text)
	}
	send(t, e, clean, ticket{})
	emptied(t, e, clean.Name())
	inState(t, e, "of a handler", weir.RunWaiting)
	tell(t, e, "1", 7)
	completed(t, first, 7)
	inState(t, e, "1-next", weir.RunWaiting)
	if _, err := weir.Start(t.Context(), e, dine, "3", ticket{}); !isFull(err) {
		t.Errorf("Start beyond the bound = %v, want a *FullError", err)
	}
	for _, id := range []string{"2", "of a handler"} {
		tell(t, e, id, 0)
		completed(t, weir.Find(e, dine, id), 0)
	}
	startRun(t, e, "3")
	stop()

	// A process that only starts goes by what was said by those that work.
	other := openEngine(t, file, weir.Config{})
	if _, err := weir.Start(t.Context(), other, dine, "4", ticket{}); !isFull(err) {
		t.Errorf("Start by another process beyond the bound = %v, want a *FullError", err)
	}
	db, err := sqlite.OpenDB(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := inTransaction(t.Context(), db, func(tx *sql.Tx) error {
		_, err := weir.Start(t.Context(), other.In(sqlite.Tx(tx)), dine, "4", ticket{})
		if full, ok := errors.AsType[*weir.FullError](err); !ok || full.RetryAfter == 0 {
			return fmt.Errorf("start in a transaction beyond the bound = %w, want a *FullError", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func inTransaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return errors.Join(f(tx), tx.Rollback())
}

// The bounds of the bound.
func TestMaxUnfinishedBounds(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]string{-1: "", 1: "", 1<<31 - 1: "", -2: "Runs.MaxUnfinished is -2, want -1 to 2147483647", 1 << 31: "want -1 to 2147483647"} {
		e := openEngine(t, newFile(t), weir.Config{})
		weir.Register(e, dine, gives, weir.Runs{MaxUnfinished: most})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := e.Run(ctx)
		if got := fmt.Sprint(err); want != "" && !strings.Contains(got, want) || want == "" && strings.Contains(got, "Runs.") {
			t.Errorf("with %d Run = %v, want %q", most, err, want)
		}
	}
}
