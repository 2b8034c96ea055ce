package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
)

var (
	noted   = weir.NewCommand[task]("house.noted", weir.KeyedBy(func(t task) string { return t.Key }))
	forward = weir.NewCommand[task]("house.forward")
)

// A caller's transaction that sent with a key, and stays open, delays who sends with that key:
// no other sender, and no acknowledgement; however many wait for it, and however few connections there are.
func TestForgottenTransactionDelaysItsKeyOnly(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, more  string
		held, moved int // senders, and messages whose handler sends
	}{{"a few", "", 3, 3}, {"a crowd", "", 400, 40}, {"a crowd with two connections", " pool_max_conns=2", 400, 40}} {
		t.Run(x.name, func(t *testing.T) { forgotten(t, x.more, x.held, x.moved) })
	}
}

func forgotten(t *testing.T, more string, crowd, moved int) {
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	eng, err := weir.Open(t.Context(), postgres.DB(dsn+more, postgres.Schema(schema)), weir.Config{Owns: []string{"house"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan task, 1_000)
	weir.Handle(eng, noted, func(_ context.Context, m *weir.Message[task]) error {
		heard <- m.Body
		return nil
	})
	weir.Handle(eng, forward, func(ctx context.Context, m *weir.Message[task]) error { return weir.Send(ctx, m, noted, m.Body) })
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- eng.Run(ctx) }()
	<-eng.Ready()

	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if err := weir.Send(t.Context(), eng.In(postgres.Tx(tx)), noted, task{"first", "held"}); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, crowd)
	for i := range crowd {
		go func() { held <- sendHeld(t.Context(), eng, task{fmt.Sprint("held-", i), "held"}) }()
	}
	for i := range moved {
		if err := weir.Send(t.Context(), eng, forward, task{fmt.Sprint("forwarded-", i), "held"}); err != nil {
			t.Fatal(err)
		}
	}
	sendOthers(t, eng, heard)
	if n := len(held); n > 0 {
		t.Errorf("%d sends with a key that is held have ended before the others were worked, want them to wait", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range crowd {
		if err := <-held; err != nil {
			t.Errorf("Send() once the key is free = %v, want nil", err)
		}
	}
	if got := <-heard; got.Name != "first" {
		t.Errorf("%s is the first of its key that is worked, want first", got.Name)
	}
	for range crowd + moved {
		<-heard
	}
	stop()
	if err := <-over; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if err := eng.Close(); err != nil {
		t.Error(err)
	}
}

// sendOthers sends with keys that nobody holds, and has all of it worked.
func sendOthers(t *testing.T, eng *weir.Engine, heard <-chan task) {
	const others, each = 8, 20
	var all sync.WaitGroup
	for i := range others {
		all.Go(func() {
			for n := range each {
				c := []weir.Command[task, weir.None]{noted, forward}[n%2]
				if err := weir.Send(t.Context(), eng, c, task{"other", fmt.Sprint("free-", i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for range others * each {
		if got := <-heard; got.Key == "held" {
			t.Errorf("%s was worked before the key was free", got.Name)
		}
	}
}

// sendHeld sends until the key is free: on a machine that takes seconds for what goes on meanwhile, a send
// gives up waiting, and is to be made again.
func sendHeld(ctx context.Context, eng *weir.Engine, what task) error {
	for {
		if err := weir.Send(ctx, eng, noted, what); !errors.Is(err, weir.ErrKeyHeld) {
			return err
		}
	}
}
