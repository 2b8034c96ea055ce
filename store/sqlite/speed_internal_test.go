package sqlite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

const blankBytes = 200

// blanks makes messages of 200 bytes.
func blanks(n, keys int) []*store.Message {
	out := make([]*store.Message, n)
	for i := range out {
		out[i] = message(cook.Topic, "", string(make([]byte, blankBytes)))
		if keys > 0 {
			out[i].Key = fmt.Sprint("table-", i%keys)
		}
	}
	return out
}

// BenchmarkRaw is the limit: the same rows by prepared statements, and nothing else.
func BenchmarkRaw(b *testing.B) {
	for _, rows := range []int{1, 16} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := beginStore(b)
			declare(b, s, cook)
			messages := blanks(1000, 0)
			pos := int64(1) << numberBits
			text := insertOne
			if rows == 16 {
				text = insert16
			}
			for b.Loop() {
				err := s.write(context.Background(), func(c *conn) error {
					for rest := messages; len(rest) >= rows; rest = rest[rows:] {
						st, err := c.prepare(text)
						if err != nil {
							return err
						}
						for i, m := range rest[:rows] {
							pos++
							p := i * messageColumnCount
							st.BindInt64(p+1, pos)
							st.BindInt64(p+2, pos)
							st.BindInt64(p+3, 1)
							st.BindBytes(p+9, m.Body)
						}
						if err := finish(st); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, len(messages))
		})
	}
}

func perMessage(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ n, keys int }{{1000, 0}, {1000, 100}, {64, 0}, {1, 0}} {
		b.Run(fmt.Sprintf("n=%d/keys=%d", c.n, c.keys), func(b *testing.B) {
			s := beginStore(b)
			declare(b, s, cook)
			messages := blanks(c.n, c.keys)
			b.ReportAllocs()
			for b.Loop() {
				send(b, s, messages...)
			}
			perMessage(b, c.n)
		})
	}
}

// BenchmarkAppendSingles is a group of many single sends, as the committer makes it.
func BenchmarkAppendSingles(b *testing.B) {
	s := beginStore(b)
	declare(b, s, cook)
	g := &store.Group{}
	for _, m := range blanks(64, 0) {
		g.Changes = append(g.Changes, &store.Change{Sends: []*store.Message{m}, Outside: true})
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Commit(context.Background(), g); err != nil {
			b.Fatal(err)
		}
	}
	perMessage(b, 64)
}

// BenchmarkEmpty is what every commit costs: begin, a page, the fsync.
func BenchmarkEmpty(b *testing.B) {
	s := beginStore(b)
	declare(b, s, cook)
	n := 0
	for b.Loop() {
		n++
		if err := s.write(context.Background(), func(c *conn) error { return c.exec(sqlSetSeq, n) }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSettle(b *testing.B) {
	for _, c := range []struct{ per, keys int }{{1000, 0}, {1000, 100}, {100, 0}, {10, 0}} {
		b.Run(fmt.Sprintf("per=%d/keys=%d", c.per, c.keys), func(b *testing.B) {
			s := beginStore(b)
			q := declare(b, s, cook)[0]
			b.ReportAllocs()
			var g *store.Group
			left := 0
			var batch *store.Batch
			for b.Loop() {
				b.StopTimer()
				if left == 0 {
					send(b, s, blanks(1000, c.keys)...)
					batch = claimBatch(b, s, q.ID, 1000)
					left = 1000
				}
				g = &store.Group{}
				for range c.per {
					left--
					g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{settlement(batch, left, store.Done)}})
				}
				b.StartTimer()
				if err := s.Commit(context.Background(), g); err != nil {
					b.Fatal(err)
				}
				if g.Changes[0].Err != nil {
					b.Fatal(g.Changes[0].Err)
				}
			}
			perMessage(b, c.per)
		})
	}
}

func BenchmarkClaim(b *testing.B) {
	for _, n := range []int{1000, 10} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) {
			s := beginStore(b)
			q := declare(b, s, cook)[0]
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				send(b, s, blanks(n, 100)...)
				b.StartTimer()
				got := claimBatch(b, s, q.ID, 1000)
				b.StopTimer()
				ch := &store.Change{}
				for i := range got.Deliveries {
					ch.Settle = append(ch.Settle, settlement(got, i, store.Done))
				}
				commit1(b, s, ch)
				b.StartTimer()
			}
			perMessage(b, n)
		})
	}
}

func BenchmarkClaimNothing(b *testing.B) {
	s := beginStore(b)
	q := declare(b, s, cook)[0]
	b.ReportAllocs()
	for b.Loop() {
		claimAny(b, s, q.ID, 1000)
	}
}

// BenchmarkClosure is a group of 64 changes, each with a row of the user's own.
func BenchmarkClosure(b *testing.B) {
	s := beginStore(b)
	err := s.write(context.Background(), func(c *conn) error {
		return c.exec(`create table cooked (id integer primary key, dish text)`)
	})
	if err != nil {
		b.Fatal(err)
	}
	g := &store.Group{}
	for range 64 {
		g.Changes = append(g.Changes, &store.Change{Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
			_, err := SQL(tx).ExecContext(ctx, `insert into cooked (dish) values (?)`, "soup")
			return err
		}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Commit(context.Background(), g); err != nil || g.Changes[0].Err != nil {
			b.Fatal(err, g.Changes[0].Err)
		}
	}
	perMessage(b, len(g.Changes))
}

// BenchmarkStates is what a follower writes: of keys that it has, and of new ones.
func BenchmarkStates(b *testing.B) {
	for _, fresh := range []bool{false, true} {
		b.Run(fmt.Sprint("fresh=", fresh), func(b *testing.B) {
			s := beginStore(b)
			ch := &store.Change{States: make([]store.State, store.MaxStates)}
			version := int64(0)
			for b.Loop() {
				version++
				for i := range ch.States {
					key := i
					if fresh {
						key += int(version) * store.MaxStates
					}
					ch.States[i] = store.State{Entity: "customers.customer", Key: fmt.Sprint("customer-", key*7919%100_003), Version: version, Contract: 1,
						AsOf: time.UnixMicro(version), Body: make([]byte, 200)}
				}
				commit1(b, s, ch)
			}
			perMessage(b, store.MaxStates)
		})
	}
}

// BenchmarkBatchAgain is a batch read again for a receiver that lacks it.
func BenchmarkBatchAgain(b *testing.B) {
	s := beginStore(b)
	q := declare(b, s, cook)[0]
	send(b, s, blanks(1000, 100)...)
	batch := claimBatch(b, s, q.ID, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Reader().Exchange().Batch(context.Background(), q.ID, batch.No); err != nil {
			b.Fatal(err)
		}
	}
	perMessage(b, 1000)
}

// BenchmarkArrive is what an inlet writes: messages of another store, none of which has come before.
func BenchmarkArrive(b *testing.B) {
	for _, n := range []int{1000, 16} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) {
			s := beginStore(b)
			declare(b, s, cook)
			messages := blanks(n, 100)
			from := store.Place{Batch: 1}
			next := 0
			b.ReportAllocs()
			for b.Loop() {
				for _, m := range messages {
					next++
					m.Origin = &store.Origin{ID: store.Incarnation("k7q2xw").ID(store.Pos(7<<numberBits + next)), From: "floor", SentAt: time.UnixMicro(int64(next))}
				}
				to := store.Place{Batch: from.Batch, Index: n - 1, Last: true}
				commit1(b, s, &store.Change{Sends: messages, Arrival: &store.Arrival{Lane: "floor/k7q2xw/kitchen.cook", From: from, To: to}})
				from.Batch++
			}
			perMessage(b, n)
		})
	}
}
