package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

func TestRowsSendsAndAcknowledgementCommitTogether(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[plate], 1)
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		effect(m)
		if err := weir.Publish(ctx, m, ready, plate(m.Body)); err != nil {
			return err
		}
		return weir.SendAll(ctx, m, prepare, tickets("more", 3))
	})
	weir.Subscribe(e, ready, "staff.bring", func(ctx context.Context, m *weir.Message[plate]) error {
		// Whoever sees the message sees the rows.
		if list := took(t, db)["terrace"]; !slices.Equal(list, []int{1}) {
			t.Errorf("with the event took effect %v, want [1]", list)
		}
		return into(got)(ctx, m)
	}, weir.FromEarliest)
	run(t, e)
	send(t, e, clean, ticket{"terrace", 1})
	receive(t, got)
	if f := figures(t, e, prepare.Name()); f.Depth != 3 {
		t.Errorf("%d commands left with the acknowledgement, want 3", f.Depth)
	}
	emptied(t, e, clean.Name())
}

// What an attempt that fails has sent and written must not be there, however it fails.
func TestFailedAttemptLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(m *weir.Message[ticket]) error{
		"by an error":        func(*weir.Message[ticket]) error { return errors.New("no") },
		"by a panic":         func(*weir.Message[ticket]) error { panic("no") },
		"by a postponement":  func(*weir.Message[ticket]) error { return weir.NotYet("no", 1) },
		"by a bad statement": func(m *weir.Message[ticket]) error { m.OnCommit(badStatement); return nil },
		"by a closure's error": func(m *weir.Message[ticket]) error {
			m.OnCommit(func(context.Context, weir.Tx) error { return errors.New("no") })
			return nil
		},
		"by a closure's panic": func(m *weir.Message[ticket]) error {
			m.OnCommit(func(context.Context, weir.Tx) error { panic("no") })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []weir.Command[ticket, weir.None]{clean, prepare} { // without and with a key
				file := newFile(t)
				db := openTable(t, file, effects)
				e := openEngine(t, file, weir.Config{})
				var attempts atomic.Int64
				weir.Handle(e, command, func(ctx context.Context, m *weir.Message[ticket]) error {
					effect(m)
					if err := weir.Publish(ctx, m, ready, plate(m.Body)); err != nil {
						return err
					}
					if attempts.Add(1) < 3 {
						return fail(m)
					}
					return nil
				}, weir.Queue{Retry: quick})
				send(t, e, command, ticket{"terrace", 1})
				run(t, e)
				emptied(t, e, command.Name())
				if n := attempts.Load(); n != 3 {
					t.Errorf("%d attempts, want 3", n)
				}
				if got := took(t, db)["terrace"]; !slices.Equal(got, []int{1}) {
					t.Errorf("took effect %v, want [1]: only the attempt that succeeded", got)
				}
				if list, err := e.Messages(t.Context(), weir.MessageQuery{Topic: ready.Name()}); err != nil || len(list) != 1 {
					t.Errorf("%d events left (%v), want 1", len(list), err)
				}
			}
		})
	}
}

func badStatement(ctx context.Context, tx weir.Tx) error {
	_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into no_such_table values (1)`)
	return err
}

// debts has a constraint that is looked at no sooner than as a transaction commits.
const debts = `; create table debts (n integer primary key, owed integer references debts deferrable initially deferred)`

// owing writes what debts refuses.
func owing(ctx context.Context, tx weir.Tx) error {
	_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into debts (owed) values (404)`)
	return err
}

func TestClosuresErrorIsTheAttempts(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		switch m.Body.N {
		case 1:
			m.OnCommit(badStatement)
		case 2:
			m.OnCommit(func(context.Context, weir.Tx) error { return burn() })
		case 3:
			m.OnCommit(func(context.Context, weir.Tx) error { return weir.Permanent(errors.New("never")) })
		}
		return nil
	}, weir.Queue{Retry: quick})
	send(t, e, clean, tickets("", 4)...)
	run(t, e)
	for i, d := range deadLetters(t, e, clean.Name(), 3) {
		want := []struct {
			reason   string
			attempts int
		}{{"no such table", quick.Max}, {"commit: panic: the milk burns", quick.Max}, {"commit: never", 1}}[i]
		if d.Attempts != want.attempts || !strings.Contains(d.Reason, want.reason) {
			t.Errorf("dead for %q after %d attempts, want %q after %d", d.Reason, d.Attempts, want.reason, want.attempts)
		}
		if panicked := i == 1; strings.Contains(d.History[0].Stack, "weir_test.burn") != panicked {
			t.Errorf("the stack of %q is %q", d.Reason, d.History[0].Stack)
		}
	}
	emptied(t, e, clean.Name()) // the fourth was in nobody's company
}

// Closures of a group are committed together; one that fails must take no other with it.
func TestFailingClosureTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects+debts)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		effect(m)
		if m.Body.N%7 == 0 && m.Attempt == 1 {
			m.OnCommit(badStatement)
		}
		if m.Body.N%19 == 0 && m.Attempt == 1 {
			m.OnCommit(owing)
		}
		return nil
	}, weir.Queue{Concurrency: 50, Retry: quick})
	if err := weir.SendAll(t.Context(), e, clean, tickets("terrace", 200)); err != nil {
		t.Fatal(err)
	}
	run(t, e)
	emptied(t, e, clean.Name())
	got := took(t, db)["terrace"]
	slices.Sort(got)
	if !slices.Equal(got, upTo(200)) {
		t.Errorf("took effect %d times %v, want 1 to 200 once each", len(got), got)
	}
}

func TestClosuresRunInOrder(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		for n := range 3 {
			m.Body.N = n // each closure sees what is there when it runs
			body := m.Body
			m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
				_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, (select count(*) from effects) * 10 + ?)`, body.Table, body.N)
				return err
			})
		}
		return nil
	})
	send(t, e, clean, ticket{"terrace", 1})
	run(t, e)
	emptied(t, e, clean.Name())
	if got := took(t, db)["terrace"]; !slices.Equal(got, []int{0, 11, 22}) {
		t.Errorf("closures wrote %v, want [0 11 22]", got)
	}
}

// A send through the engine would be kept although the attempt fails.
func TestSendThroughTheEngineInsideAHandlerIsRefused(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	refusals := make(chan error, 4)
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		refusals <- weir.Send(ctx, e, prepare, m.Body)
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		refusals <- weir.Publish(child, e, ready, plate{})
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			refusals <- weir.Send(ctx, e, prepare, m.Body)
			refusals <- weir.Send(ctx, e.In(tx), prepare, m.Body)
			return nil
		})
		return nil
	})
	send(t, e, clean, ticket{"terrace", 1})
	run(t, e)
	for i := range 4 {
		if err := receive(t, refusals); !errors.Is(err, weir.ErrInHandler) {
			t.Errorf("send %d inside = %v, want ErrInHandler", i, err)
		}
	}
	emptied(t, e, clean.Name())
	for _, topic := range []string{prepare.Name(), ready.Name()} {
		if list, err := e.Messages(t.Context(), weir.MessageQuery{Topic: topic}); err != nil || len(list) != 0 {
			t.Errorf("%d messages of %s (%v), want none", len(list), topic, err)
		}
	}
}

func TestClosureKnowsItsMessage(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	keys := make(chan string, 1)
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		m.OnCommit(func(ctx context.Context, _ weir.Tx) error {
			keys <- weir.IdempotencyKey(ctx)
			return nil
		})
		return nil
	})
	send(t, e, clean, ticket{"terrace", 1})
	run(t, e)
	if got := receive(t, keys); !strings.HasPrefix(got, clean.Name()+"/") {
		t.Errorf("IdempotencyKey in a closure = %q, want the message's", got)
	}
}

func TestClosureCannotEndTheTransaction(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		effect(m)
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			switch m.Body.N {
			case 1:
				return errors.Join(sqlite.SQL(tx).Commit(), errors.New("and failed"))
			case 2:
				return sqlite.SQL(tx).Rollback()
			}
			_, err := sqlite.SQL(tx).ExecContext(ctx, `update weir_messages set body = null`)
			return err
		})
		return nil
	}, weir.Queue{Retry: weir.Retry{Max: 1}})
	send(t, e, clean, tickets("terrace", 3)...)
	run(t, e)
	deadLetters(t, e, clean.Name(), 3)
	if got := took(t, db); len(got) != 0 {
		t.Errorf("took effect %v, want nothing", got)
	}
}

func TestMessagesCommitWithTheCallersTransaction(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	commands, events := make(chan *weir.Message[ticket], 2), make(chan *weir.Message[plate], 2)
	weir.Handle(e, prepare, into(commands))
	weir.Subscribe(e, ready, "staff.bring", into(events), weir.FromEarliest)
	run(t, e)
	take := func(n int, end func(*sql.Tx) error) {
		t.Helper()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), `insert into effects values ('terrace', ?)`, n); err != nil {
			t.Fatal(err)
		}
		sender := e.In(sqlite.Tx(tx))
		if err := weir.Send(t.Context(), sender, prepare, ticket{"terrace", n}); err != nil {
			t.Fatal(err)
		}
		if err := weir.Publish(t.Context(), sender, ready, plate{"terrace", n}); err != nil {
			t.Fatal(err)
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	take(1, (*sql.Tx).Rollback)
	take(2, (*sql.Tx).Commit)
	if m, ev := receive(t, commands), receive(t, events); m.Body.N != 2 || ev.Body.N != 2 || m.Cause != "" {
		t.Errorf("got %+v and %+v, want those of the transaction that was committed", m.Body, ev.Body)
	}
	if got := took(t, db)["terrace"]; !slices.Equal(got, []int{2}) {
		t.Errorf("rows %v, want [2]", got)
	}
	emptied(t, e, prepare.Name())
	if len(commands)+len(events) != 0 {
		t.Error("a message of the transaction that was rolled back came too")
	}
}

// While a caller's own transaction is open nothing else commits to the file. That
// holds everything up, and breaks nothing.
func TestLongTransactionOfACallerBreaksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		e := openEngine(t, file, weir.Config{})
		weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			effect(m)
			return nil
		})
		run(t, e)
		send(t, e, clean, ticket{"terrace", 1})
		emptied(t, e, clean.Name())
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := weir.Send(t.Context(), e.In(sqlite.Tx(tx)), clean, ticket{"terrace", 2}); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- weir.Send(context.Background(), e, clean, ticket{"terrace", 3}) }()
		synctest.Wait() // its group waits for the file: who comes now is not in it, and can give up
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := weir.Send(ctx, e, clean, ticket{"terrace", 4}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send beside an open transaction = %v, want its context's end", err)
		}
		if len(sent) != 0 {
			t.Errorf("Send beside an open transaction has returned %v", <-sent)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, sent); err != nil {
			t.Errorf("Send after the transaction = %v, want nil", err)
		}
		emptied(t, e, clean.Name())
		got := took(t, db)["terrace"]
		slices.Sort(got) // without a key they have no order
		if !slices.Equal(got, upTo(3)) {
			t.Errorf("took effect %v, want [1 2 3]", got)
		}
	})
}

// What is refused inside the caller's transaction must not spoil it.
func TestRefusedSendLeavesTheCallersTransactionUsable(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil }, weir.Queue{Capacity: 2})
	stop := run(t, e)
	eventually(t, "the queue is declared", func() bool {
		all, err := e.Queues(t.Context(), 0)
		return err == nil && len(all) == 1
	})
	stop() // so that nothing drains it
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sender := e.In(sqlite.Tx(tx))
	if err := weir.SendAll(t.Context(), sender, clean, tickets("", 3)); !isFull(err) {
		t.Errorf("SendAll of 3 to a queue of 2 = %v, want a *FullError", err)
	}
	if err := weir.SendAll(t.Context(), sender, clean, tickets("", 2)); err != nil {
		t.Errorf("SendAll of 2 to a queue of 2 = %v, want nil", err)
	}
	if err := weir.Send(t.Context(), sender, clean, ticket{}); !isFull(err) {
		t.Errorf("Send of a third in the same transaction = %v, want a *FullError", err)
	}
	if _, err := tx.ExecContext(t.Context(), `insert into effects values ('terrace', 1)`); err != nil {
		t.Errorf("the caller's own row = %v, want nil", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if f := figures(t, e, clean.Name()); f.Depth != 2 || len(took(t, db)["terrace"]) != 1 {
		t.Errorf("Depth = %d, rows %v, want 2 messages and a row", f.Depth, took(t, db))
	}
}

func isFull(err error) bool {
	_, ok := errors.AsType[*weir.FullError](err)
	return ok
}

func TestSendInNoTransactionIsAnError(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	for what, tx := range map[string]weir.Tx{"nil": nil, "a nil *sql.Tx": sqlite.Tx(nil)} {
		if err := weir.Send(t.Context(), e.In(tx), clean, ticket{}); err == nil {
			t.Errorf("Send in %s = nil, want an error", what)
		}
	}
}

// Ten thousand messages, some of them failing once in each way there is, from
// several senders: each takes effect exactly once.
func TestTenThousandTakeEffectOnce(t *testing.T) {
	t.Parallel()
	const n = 10_000
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		effect(m)
		if m.Attempt == 1 {
			switch {
			case m.Body.N%100 == 13:
				return errors.New("no")
			case m.Body.N%100 == 37:
				panic("no")
			case m.Body.N%5000 == 71: // few: each costs its company a commit of their own
				m.OnCommit(badStatement)
			}
		}
		return weir.Publish(ctx, m, ready, plate(m.Body))
	}, weir.Queue{Concurrency: 32, Retry: quick})
	weir.Subscribe(e, ready, "staff.bring", func(_ context.Context, m *weir.Message[plate]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects values ('ready', ?)`, m.Body.N)
			return err
		})
		return nil
	}, weir.FromEarliest)
	run(t, e)
	all := tickets("clean", n)
	for batch := range slices.Chunk(all, 500) {
		if err := weir.SendAll(t.Context(), e, clean, batch); err != nil {
			t.Fatal(err)
		}
	}
	emptied(t, e, clean.Name())
	emptied(t, e, "staff.bring")
	got := took(t, db)
	for _, table := range slices.Sorted(maps.Keys(got)) {
		slices.Sort(got[table])
		if !slices.Equal(got[table], upTo(n)) {
			t.Errorf("%s: %d effects, want 1 to %d once each", table, len(got[table]), n)
		}
	}
	if len(got) != 2 {
		t.Errorf("effects of %d kinds, want 2", len(got))
	}
}
