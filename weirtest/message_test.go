package weirtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/weirtest"
)

// cook is a handler as users write them.
func cook(ctx context.Context, m *weir.Message[ticket]) error {
	if m.Body.N < 0 {
		return weir.Permanent(errors.New("no such dish"))
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into cooked (id, key) values (?, ?)`, m.ID, weir.IdempotencyKey(ctx))
		return err
	})
	return weir.Publish(ctx, m, ready, m.Body, weir.Key(m.Key))
}

func TestHandlerCalledAsAFunction(t *testing.T) {
	m := weirtest.Message(t, ticket{Table: "7", N: 3}, weir.Key("7"), weir.Headers{"tenant": "a"})
	if m.Body.N != 3 || m.Key != "7" || m.Headers["tenant"] != "a" || m.ID == "" || m.Attempt != 1 || m.Correlation != m.ID {
		t.Errorf("Message = %+v", m)
	}
	ctx := weirtest.Context(t, m)
	if err := cook(ctx, m); err != nil {
		t.Fatal(err)
	}
	got := weirtest.RequirePublished(t, m, ready, func(p ticket) bool { return p.N == 3 })
	if got.Table != "7" {
		t.Errorf("RequirePublished = %+v, want table 7", got)
	}
	weirtest.RequireNothingSent(t, m, prepare, clean)
	if weir.IdempotencyKey(ctx) == "" {
		t.Error("IdempotencyKey is empty")
	}

	db, err := sqlite.OpenDB(t.TempDir() + "/kitchen.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `create table cooked (id text, key text)`); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := weirtest.Commit(t, m, sqlite.Tx(tx)); err != nil {
		t.Errorf("Commit = %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRowContext(t.Context(), `select count(*) from cooked where id = ?`, m.ID).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v, want 1", n, err)
	}
}

func TestSendThroughTheEngineIsRefusedToAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, kitchen, nil)
		m := weirtest.Message(t, ticket{})
		if err := weir.Send(weirtest.Context(t, m), e, clean, ticket{}); !errors.Is(err, weir.ErrInHandler) {
			t.Errorf("Send = %v, want ErrInHandler", err)
		}
		weirtest.RequireNothingSent(t, e)
	})
}

func TestFailuresSayWhatWasSentInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, kitchen, nil)
		m := weirtest.Message(t, ticket{})
		for _, s := range []weir.Sender{e, m} {
			wantFailure(t, "want kitchen.food-ready sent, there is nothing", func(t testing.TB) { weirtest.RequirePublished(t, s, ready) })
			for n := range 2 {
				if err := weir.Send(t.Context(), s, prepare, ticket{"terrace", n}); err != nil {
					t.Fatal(err)
				}
			}
			wantFailure(t, "want kitchen.food-ready sent, there is only\n"+
				"  kitchen.prepare-food, key terrace: {\"Table\":\"terrace\",\"N\":0}\n"+
				"  kitchen.prepare-food, key terrace: {\"Table\":\"terrace\",\"N\":1}",
				func(t testing.TB) { weirtest.RequirePublished(t, s, ready) })
			wantFailure(t, "of kitchen.prepare-food is none as wanted; sent were\n  kitchen.prepare-food, key terrace",
				func(t testing.TB) { weirtest.RequireSent(t, s, prepare, func(b ticket) bool { return b.N == 7 }) })
			wantFailure(t, "want nothing sent, there is\n  kitchen.prepare-food, key terrace",
				func(t testing.TB) { weirtest.RequireNothingSent(t, s) })
			weirtest.RequireNothingSent(t, s, clean, ready)
			if got := weirtest.RequireSent(t, s, prepare, func(b ticket) bool { return b.N == 1 }); got.N != 1 {
				t.Errorf("RequireSent = %+v, want 1", got)
			}
		}
		wantFailure(t, "*weir.Engine is neither a *weirtest.Engine nor a message made by weirtest.Message",
			func(t testing.TB) { weirtest.RequireNothingSent(t, e.Engine) })
	})
}

func TestNewWantsABubble(t *testing.T) {
	wantFailure(t, "call it within synctest.Test", func(t testing.TB) { weirtest.New(t, kitchen, nil) })
}

// told is a test that is told of a failure, and goes on with none.
type told struct {
	testing.TB
	failure string
}

func (f *told) Helper() {}

func (f *told) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

func (f *told) Fatal(args ...any) {
	f.failure = fmt.Sprint(args...)
	panic(f)
}

// wantFailure wants check to fail with a message that contains want.
func wantFailure(t *testing.T, want string, check func(testing.TB)) {
	t.Helper()
	f := &told{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(f) {
				panic(p)
			}
		}()
		check(f)
	}()
	if !strings.Contains(f.failure, want) {
		t.Errorf("failure = %q, want %q", f.failure, want)
	}
}
