package sqlite

import (
	"context"
	"fmt"
	"hash/fnv"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// BenchmarkRuns is the writer's time for a run of three steps: its start, leased at
// once, two commits of a step and one of the last step with the end. A group holds
// a change of each of 300 runs, of which a quarter is at each of those points.
func BenchmarkRuns(b *testing.B) {
	for _, ids := range []string{"serial", "random"} {
		b.Run("ids="+ids, func(b *testing.B) {
			s := beginStore(b)
			f := &flight{b: b, s: s, random: ids == "random"}
			b.ReportAllocs()
			for b.Loop() {
				f.step()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(f.ended)/1000, "µs/run")
		})
	}
}

const inFlight = 300

// flight is runs on their way; each step is a group that takes all of them one commit further.
type flight struct {
	b              *testing.B
	s              *Store
	random         bool
	started, ended int
	runs           [4][]*store.RunStart // by the number of commits behind them
}

func (f *flight) step() {
	g := &store.Group{}
	next := make([]*store.RunStart, inFlight/4)
	for i := range next {
		f.started++
		id := fmt.Sprintf("order-%08d", f.started)
		if f.random {
			h := fnv.New64a()
			_, _ = h.Write([]byte(id))
			id = fmt.Sprintf("%016x", h.Sum64())
		}
		next[i] = &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: []byte(`{"order":1234,"sku":"abc","quantity":2}`), Lease: true}
		g.Changes = append(g.Changes, &store.Change{Runs: next[i : i+1], Outside: true})
	}
	now := time.Now()
	for n := 1; n <= 3; n++ {
		for _, st := range f.runs[n] {
			u := &store.RunUpdate{RunRef: store.RunRef{No: st.No, Epoch: st.Epoch}, Records: []*store.Record{{
				N: n, Kind: store.KindStep, State: store.StepDone, Name: "reserve-stock", Attempt: 1, StartedAt: now,
				Took: 30 * time.Microsecond, Value: []byte(`{"ok":true}`)}}}
			if n == 3 {
				u.Verdict, u.Outcome, u.Result = store.Ended, store.Completed, []byte(`{"done":true}`)
				f.ended++
			}
			g.Changes = append(g.Changes, &store.Change{Run: u})
		}
	}
	if err := f.s.Commit(context.Background(), g); err != nil {
		f.b.Fatal(err)
	}
	for _, ch := range g.Changes {
		if ch.Err != nil {
			f.b.Fatal(ch.Err)
		}
	}
	f.runs[3], f.runs[2], f.runs[1] = f.runs[2], f.runs[1], next
}

// BenchmarkWakeRuns is the cost of waking a sleeping run: to claim it with one
// record, write another and let it sleep again.
func BenchmarkWakeRuns(b *testing.B) {
	s := beginStore(b)
	const many = 20_000
	for range many / 500 {
		ch := &store.Change{}
		for range 500 {
			ch.Runs = append(ch.Runs, &store.RunStart{Workflow: fulfil, ID: fmt.Sprint(s.held.stamp, len(ch.Runs)), Version: 1, Input: []byte(`{}`)})
		}
		commit1(b, s, ch)
	}
	woken := 0
	for b.Loop() {
		c, err := s.Claim(context.Background(), store.ClaimRequest{Workflow: fulfil, Max: 500})
		if err != nil || len(c.Runs) != 500 {
			b.Fatal(len(c.Runs), err)
		}
		g := &store.Group{}
		for _, r := range c.Runs {
			rec := step(1 + len(r.Records)%8)
			g.Changes = append(g.Changes, &store.Change{Run: &store.RunUpdate{RunRef: r.RunRef, Records: []*store.Record{rec},
				Verdict: store.Waiting, Wake: time.Now()}})
		}
		if err := s.Commit(context.Background(), g); err != nil {
			b.Fatal(err)
		}
		woken += len(c.Runs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(woken)/1000, "µs/run")
}
