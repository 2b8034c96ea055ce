package weir_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
)

// BenchmarkReplicaFollow is a change's whole way: put at the owner, sent, applied in the follower's store, seen in memory.
// Two SQLite files, a wire in memory.
func BenchmarkReplicaFollow(b *testing.B) {
	ends := wires(b)
	own, _, owner := benchSide(b, ends[0], "front", "desk")
	_, r, _ := benchSide(b, ends[1], "desk", "front")
	eventually(b, "the replica is loaded", r.Loaded)
	const entities, commit = 5_000, 1_000
	b.ResetTimer()
	for n := 0; n < b.N; n += commit {
		some := make(map[string]guest, commit)
		for i := range min(commit, b.N-n) {
			id := fmt.Sprintf("g%04d", (n+i)%entities)
			some[id] = guest{id, "Ann", n}
		}
		if err := own.PutAll(context.Background(), owner, some); err != nil {
			b.Fatal(err)
		}
	}
	rows, err := owner.Entities(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	eventually(b, "all have come", func() bool { return r.Figures().Newest >= rows[0].Newest && r.Len() == int(rows[0].Live) })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}

func benchSide(b *testing.B, wire transport.Transport, owns, other string) (own *weir.Owned[guest], r *weir.Replica[guest], e *weir.Engine) {
	e, err := weir.Open(context.Background(), sqlite.File(newFile(b)), weir.Config{
		Owns: []string{owns}, Transport: wire, Routes: map[string]weir.Route{other: {Capacity: -1}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	if owns == "front" {
		own = weir.Own(e, deskGuests)
	} else {
		r = weir.Follow(e, deskGuests)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	return own, r, e
}
