package postgres

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
		out[i] = &store.Message{Topic: "bench.cook", Kind: store.KindCommand, Version: 1, Body: make([]byte, blankBytes)}
		if keys > 0 {
			out[i].Key = fmt.Sprint("table-", i%keys)
		}
	}
	return out
}

// benchStore is a store whose process works the queue.
func benchStore(b *testing.B) (*Store, store.QueueID) {
	b.Helper()
	h := openHarness(b, nil)
	st, err := h.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s := st.(*Store)
	b.Cleanup(func() { _ = s.Close() })
	if err := s.Begin(b.Context(), &store.Process{Host: "here"}); err != nil {
		b.Fatal(err)
	}
	states, err := s.Declare(b.Context(), nil, []store.Queue{{Name: "bench.cook", Topic: store.Topic{Name: "bench.cook", Kind: store.KindCommand}}})
	if err != nil {
		b.Fatal(err)
	}
	return s, states[0].ID
}

func sendBlanks(b *testing.B, s *Store, n, keys int) {
	b.Helper()
	c := &store.Change{Sends: blanks(n, keys)}
	if err := s.Commit(context.Background(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
		b.Fatal(err, c.Err)
	}
}

// workAll claims and settles what there is, and says how much that was.
func workAll(b *testing.B, s *Store, queue store.QueueID) (n int) {
	b.Helper()
	for {
		got, err := s.Claim(context.Background(), store.ClaimRequest{Queue: queue, Max: store.MaxBatch})
		if err != nil {
			b.Fatal(err)
		}
		if got.Batch == nil {
			return n
		}
		g := &store.Group{}
		for _, d := range got.Batch.Deliveries {
			g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{{Batch: got.Batch.BatchRef, Index: d.Index, Pos: d.Message.Pos,
				Key: d.Message.Key, Verdict: store.Done, Attempt: 1, Started: got.Batch.ClaimedAt, Took: 1000}}})
		}
		if err := s.Commit(context.Background(), g); err != nil {
			b.Fatal(err)
		}
		n += len(got.Batch.Deliveries)
	}
}

func perSecond(b *testing.B, each int) {
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkRaw is the limit: the same rows in a table as plain as can be, by one statement.
func BenchmarkRaw(b *testing.B) {
	s, _ := benchStore(b)
	exec := func(query string, args ...any) {
		if _, err := s.pool.Exec(context.Background(), s.text(query), args...); err != nil {
			b.Fatal(err)
		}
	}
	exec(`create table weir.raw (id bigserial primary key, at timestamptz default now(), body bytea not null)`)
	b.Cleanup(func() { exec(`drop table weir.raw`) })
	bodies := make([][]byte, 1000)
	for i := range bodies {
		bodies[i] = make([]byte, blankBytes)
	}
	for b.Loop() {
		exec(`insert into weir.raw (body) select * from unnest($1::bytea[])`, bodies)
	}
	perSecond(b, 1000)
}

func BenchmarkSend(b *testing.B) {
	for _, c := range []struct{ n, keys int }{{1, 0}, {64, 0}, {1000, 0}, {1000, 100}} {
		b.Run(fmt.Sprintf("n=%d,keys=%d", c.n, c.keys), func(b *testing.B) {
			s, _ := benchStore(b)
			for b.Loop() {
				sendBlanks(b, s, c.n, c.keys)
			}
			perSecond(b, c.n)
		})
	}
}

func BenchmarkWork(b *testing.B) {
	for _, keys := range []int{0, 100} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s, queue := benchStore(b)
			for b.Loop() {
				b.StopTimer()
				for range 20 {
					sendBlanks(b, s, 1000, keys)
				}
				b.StartTimer()
				if n := workAll(b, s, queue); n != 20_000 {
					b.Fatalf("worked %d", n)
				}
			}
			perSecond(b, 20_000)
		})
	}
}

// BenchmarkIdle is a claim that finds nothing.
func BenchmarkIdle(b *testing.B) {
	s, queue := benchStore(b)
	for b.Loop() {
		workAll(b, s, queue)
	}
}

// BenchmarkArrive is a change as an inlet commits it: what another store sent, each with its origin.
func BenchmarkArrive(b *testing.B) {
	const each = 1_000
	s, _ := benchStore(b)
	batch, elsewhere := int64(0), newIncarnation()
	for b.Loop() {
		batch++
		ch := &store.Change{Sends: blanks(each, 0), Arrival: &store.Arrival{Lane: "floor/k7q2xw/bench.cook",
			From: store.Place{Batch: batch}, To: store.Place{Batch: batch, Index: each - 1, Last: true}}}
		for i, m := range ch.Sends {
			m.Origin = &store.Origin{ID: elsewhere.ID(store.Pos(batch*each + int64(i))), From: "floor", SentAt: time.UnixMicro(batch)}
		}
		if err := commitOne(context.Background(), s, ch); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, each)
}

// BenchmarkStates is what a follower writes: of keys that it has, and of new ones.
func BenchmarkStates(b *testing.B) {
	for _, fresh := range []bool{false, true} {
		b.Run(fmt.Sprint("fresh=", fresh), func(b *testing.B) {
			s, _ := benchStore(b)
			ch := &store.Change{States: make([]store.State, store.MaxStates)}
			version := int64(0)
			for b.Loop() {
				version++
				for i := range ch.States {
					key := i
					if fresh {
						key += int(version) * store.MaxStates
					}
					ch.States[i] = store.State{Entity: stateEntity, Key: fmt.Sprint("customer-", key), Version: version, Contract: 1,
						AsOf: time.UnixMicro(version), Body: make([]byte, blankBytes)}
				}
				if err := commitOne(context.Background(), s, ch); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, store.MaxStates)
		})
	}
}

// BenchmarkBatchAgain is a batch read again for a receiver that lacks it.
func BenchmarkBatchAgain(b *testing.B) {
	s, queue := benchStore(b)
	sendBlanks(b, s, 1000, 100)
	workAll(b, s, queue)
	for b.Loop() {
		got, err := s.Reader().Exchange().Batch(context.Background(), queue, 1)
		if err != nil || len(got.Deliveries) != 1000 {
			b.Fatal(err)
		}
	}
	perSecond(b, 1000)
}
