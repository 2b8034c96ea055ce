package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// openTable opens a pool of connections on a store's file with a table of the user's own.
func openTable(t testing.TB, file, create string) *sql.DB {
	t.Helper()
	db, err := sqlite.OpenDB(file)
	if err != nil {
		t.Fatalf("OpenDB = %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the pool: %v", err)
		}
	})
	if _, err := db.ExecContext(t.Context(), create); err != nil {
		t.Fatalf("%s: %v", create, err)
	}
	return db
}

// effects is a log of what took effect. It has no primary key of its own, so what
// takes effect twice is there twice.
const effects = `create table effects (tab text, n integer)`

// effect writes a line into effects when the attempt commits.
func effect(m *weir.Message[ticket]) {
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, m.Body.Table, m.Body.N)
		return err
	})
}

// took is what took effect, by table, in order.
func took(t testing.TB, db *sql.DB) map[string][]int {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), `select tab, n from effects order by rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string][]int{}
	for rows.Next() {
		var table string
		var n int
		if err := rows.Scan(&table, &n); err != nil {
			t.Fatal(err)
		}
		all[table] = append(all[table], n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

func policies() map[string]weir.OnDead {
	return map[string]weir.OnDead{"block": weir.Block, "park": weir.Park, "skip": weir.Skip}
}

// Each key's messages take effect strictly 1, 2, 3, …, one at a time, whatever
// fails in between: the handler, the transaction closure, or a postponement.
func TestEachKeyInOrderWhateverFails(t *testing.T) {
	t.Parallel()
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys, each = 16, 15
			file := newFile(t)
			db := openTable(t, file, effects)
			e := openEngine(t, file, weir.Config{})
			seed := rand.Uint64()
			var luck sync.Mutex
			random := rand.New(rand.NewPCG(seed, 0))
			var busy [keys]atomic.Bool
			weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
				var key int
				if _, err := fmt.Sscanf(m.Key, "table-%d", &key); err != nil {
					return weir.Permanent(err)
				}
				if !busy[key].CompareAndSwap(false, true) {
					t.Errorf("seed %d: two messages of key %s at once", seed, m.Key)
				}
				defer busy[key].Store(false)
				luck.Lock()
				roll := random.IntN(100)
				luck.Unlock()
				switch {
				case roll < 10:
					return errors.New("bad luck")
				case roll < 15:
					return weir.NotYet("no luck yet", time.Millisecond)
				case roll < 18:
					panic("worse luck")
				case roll < 24:
					m.OnCommit(func(context.Context, weir.Tx) error { return errors.New("late bad luck") })
				}
				effect(m)
				return nil
			}, weir.Queue{OnDead: policy, Concurrency: 6, Retry: weir.Retry{Max: 10_000, Base: time.Millisecond, Cap: 3 * time.Millisecond}})
			run(t, e)
			var senders sync.WaitGroup
			for s := range 4 { // each sender has its keys, and mixes them
				senders.Go(func() {
					for n := range each {
						var batch []ticket
						for key := s; key < keys; key += 4 {
							batch = append(batch, ticket{fmt.Sprint("table-", key), n + 1})
						}
						if err := weir.SendAll(context.Background(), e, prepare, batch); err != nil {
							t.Errorf("SendAll = %v", err)
						}
					}
				})
			}
			senders.Wait()
			emptied(t, e, prepare.Name())
			got := took(t, db)
			for key := range keys {
				if list := got[fmt.Sprint("table-", key)]; !slices.Equal(list, upTo(each)) {
					t.Errorf("seed %d: table-%d took effect as %v, want 1 to %d in order, once each", seed, key, list, each)
				}
			}
		})
	}
}

// kitchenWithABadOrder works tables good and bad, 1 to 5 each, where bad's number 3
// is dead until it is mended.
func kitchenWithABadOrder(t *testing.T, policy weir.OnDead) (e *weir.Engine, db *sql.DB, mend func()) {
	t.Helper()
	file := newFile(t)
	db = openTable(t, file, effects)
	e = openEngine(t, file, weir.Config{})
	var mended atomic.Bool
	weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
		if m.Body == (ticket{"bad", 3}) && !mended.Load() {
			return weir.Permanent(errors.New("no such dish"))
		}
		effect(m)
		return nil
	}, weir.Queue{OnDead: policy})
	for n := range 5 {
		send(t, e, prepare, ticket{"good", n + 1}, ticket{"bad", n + 1})
	}
	run(t, e)
	eventually(t, "the good table is served", func() bool { return slices.Equal(took(t, db)["good"], upTo(5)) })
	return e, db, func() { mended.Store(true) }
}

func served5(t *testing.T, db *sql.DB, want ...int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the bad table took effect as %v", want), func() bool { return len(took(t, db)["bad"]) >= len(want) })
	if got := took(t, db)["bad"]; !slices.Equal(got, want) {
		t.Errorf("the bad table took effect as %v, want %v", got, want)
	}
}

var mended = weir.Because{By: "ada", Why: "the dish is back on the menu"}

func TestBlockedKeyWaitsForAPerson(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		act  func(e *weir.Engine, s weir.DeadSelection) (weir.Acted, error)
		want []int
	}{
		{"who retries it", func(e *weir.Engine, s weir.DeadSelection) (weir.Acted, error) {
			return e.RetryDead(context.Background(), s, mended)
		}, []int{1, 2, 3, 4, 5, 6}},
		{"who discards it", func(e *weir.Engine, s weir.DeadSelection) (weir.Acted, error) {
			return e.DiscardDead(context.Background(), s, mended)
		}, []int{1, 2, 4, 5, 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, db, mend := kitchenWithABadOrder(t, weir.Block)
			dead := deadLetters(t, e, prepare.Name(), 1)[0]
			send(t, e, prepare, ticket{"bad", 6}, ticket{"good", 6})
			eventually(t, "only the bad table waits", func() bool {
				f := figures(t, e, prepare.Name())
				return f.Depth == 3 && f.Deferred == 3
			})
			served5(t, db, 1, 2)
			mend()
			acted, err := c.act(e, weir.DeadSelection{ID: dead.Message.ID})
			if err != nil || acted.Count != 1 {
				t.Fatalf("the act = %+v, %v, want one message", acted, err)
			}
			served5(t, db, c.want...)
			emptied(t, e, prepare.Name())
		})
	}
}

func TestParkedKeyJoinsItsDeadAndIsRetriedInOrder(t *testing.T) {
	e, db, mend := kitchenWithABadOrder(t, weir.Park)
	send(t, e, prepare, ticket{"bad", 6})
	dead := deadLetters(t, e, prepare.Name(), 4)
	for i, d := range dead {
		if i == 0 && (d.BehindID != "" || d.Attempts != 1) || i > 0 && (d.BehindID != dead[0].Message.ID || d.Attempts != 0) {
			t.Errorf("dead letter %d is behind %q after %d attempts, want the first alone to have died", i, d.BehindID, d.Attempts)
		}
	}
	if f := figures(t, e, prepare.Name()); f.Depth != 0 {
		t.Errorf("Depth = %d, want 0: all of the key are among the dead", f.Depth)
	}
	mend()
	if acted, err := e.RetryDead(t.Context(), weir.DeadSelection{Queue: prepare.Name(), ID: dead[0].Message.ID}, mended); err != nil {
		t.Fatalf("RetryDead = %+v, %v", acted, err)
	}
	served5(t, db, 1, 2, 3, 4, 5, 6)
}

func TestSkippedKeyGoesOn(t *testing.T) {
	e, db, mend := kitchenWithABadOrder(t, weir.Skip)
	send(t, e, prepare, ticket{"bad", 6})
	served5(t, db, 1, 2, 4, 5, 6)
	dead := deadLetters(t, e, prepare.Name(), 1)[0]
	mend()
	if _, err := e.RetryDead(t.Context(), weir.DeadSelection{ID: dead.Message.ID}, mended); err != nil {
		t.Fatal(err)
	}
	served5(t, db, 1, 2, 4, 5, 6, 3)
}

// A follower that is waiting in memory behind its key's failing message must not
// slip past it.
func TestFailingKeyHoldsBackWhatIsClaimedAlready(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	var attempts atomic.Int64
	weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
		if m.Body.N == 1 && attempts.Add(1) < 5 {
			return errors.New("not so fast")
		}
		effect(m)
		return nil
	}, weir.Queue{Retry: weir.Retry{Base: time.Millisecond, Cap: time.Millisecond}})
	if err := weir.SendAll(t.Context(), e, prepare, tickets("terrace", 150)); err != nil { // more than are released at once
		t.Fatal(err)
	}
	run(t, e)
	emptied(t, e, prepare.Name())
	if got := took(t, db)["terrace"]; !slices.Equal(got, upTo(150)) {
		t.Errorf("took effect as %v, want 1 to 150 in order", got)
	}
}
