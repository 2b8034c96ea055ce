package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// Proofs under load take minutes, and compare times: they are run when WEIR_TEST_LOAD is set,
// and print their figures as lines of JSON. CONTRIBUTING.md has the commands.
const (
	loadVariable    = "WEIR_TEST_LOAD"         // how long each phase lasts, as "60s"
	backlogVariable = "WEIR_TEST_LOAD_BACKLOG" // messages; 5,000,000 unless set
	bulkVariable    = "WEIR_TEST_LOAD_BULK"    // messages; 500,000 unless set
)

// loadTime is how long a phase lasts.
func loadTime(t *testing.T) time.Duration {
	t.Helper()
	set := os.Getenv(loadVariable)
	if set == "" {
		t.Skipf("takes minutes: set %s to the time of a phase, as 60s", loadVariable)
	}
	d, err := time.ParseDuration(set)
	if err != nil || d < time.Second || d > time.Hour {
		t.Fatalf("%s=%s: want a duration of 1s to 1h", loadVariable, set)
	}
	return d
}

func loadSize(t *testing.T, variable string, usual int) int {
	t.Helper()
	set := os.Getenv(variable)
	if set == "" {
		return usual
	}
	n, err := strconv.Atoi(set)
	if err != nil || n < 1000 || n > 50_000_000 {
		t.Fatalf("%s=%s: want 1000 to 50000000", variable, set)
	}
	return n
}

const (
	loadRate     = 2_000 // messages a second
	loadSenders  = 4
	loadClaimers = 2
	loadBatch    = 100 // messages of a claim, at most
	// loadBound is how much worse than without the disturbance a figure may be.
	loadBound = 1.2
)

// load is a queue that is sent to and worked from.
type load struct {
	*testing.T
	s     *Store
	queue store.QueueID
	pace  time.Duration // from one batch of a claimer to its next, at least
}

func newLoad(t *testing.T) *load {
	_, s, queue := processes(t, 1)
	states, err := s[0].Declare(t.Context(), nil, []store.Queue{{Name: "a.cook", Topic: cook().Topic, Capacity: 1 << 30}})
	if err != nil || states[0].ID != queue {
		t.Fatalf("Declare() = %+v, %v", states, err)
	}
	return &load{T: t, s: s[0], queue: queue}
}

// loadFigures is what came of a phase.
type loadFigures struct {
	Proof, Phase           string
	Seconds                float64
	Sent, Worked, Largest  int64
	PerSecond              float64 // worked
	Claims                 int
	ClaimP50Us, ClaimP99Us int64 // of claims that brought messages
	ClaimMaxUs             int64
	P99ByTenthUs           []int64 // of the phase
}

// timed is a claim's time, and when in the phase it was made.
type timed struct{ since, took time.Duration }

// phase sends at a rate, and works for a time.
func (l *load) phase(proof, name string, d time.Duration) loadFigures {
	f := loadFigures{Proof: proof, Phase: name}
	ctx, cancel := context.WithTimeout(l.Context(), d)
	defer cancel()
	began := time.Now()
	var mu sync.Mutex
	var claims []timed
	var all sync.WaitGroup
	var sent, worked, largest atomic.Int64
	for i := range loadSenders {
		all.Go(func() { sent.Add(l.send(ctx, i)) })
	}
	for range loadClaimers {
		all.Go(func() {
			mine, n, most := l.work(ctx, began)
			worked.Add(n)
			mu.Lock()
			defer mu.Unlock()
			claims = append(claims, mine...)
			largest.Store(max(largest.Load(), most))
		})
	}
	beats := time.NewTicker(time.Second)
	defer beats.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-beats.C:
			if err := l.s.Heartbeat(l.Context()); err != nil {
				l.Error(err)
			}
		}
	}
	all.Wait()
	f.Seconds = time.Since(began).Seconds()
	f.Sent, f.Worked, f.Largest, f.Claims = sent.Load(), worked.Load(), largest.Load(), len(claims)
	f.PerSecond = float64(f.Worked) / f.Seconds
	f.ClaimP50Us, f.ClaimP99Us, f.ClaimMaxUs = quantile(claims, 0.5), quantile(claims, 0.99), quantile(claims, 1)
	for tenth := range 10 {
		var some []timed
		for _, c := range claims {
			if int(10*c.since/d) == tenth {
				some = append(some, c)
			}
		}
		f.P99ByTenthUs = append(f.P99ByTenthUs, quantile(some, 0.99))
	}
	report(l, f)
	return f
}

// quantile is the time, in microseconds, that a part of the claims did not take longer than.
func quantile(claims []timed, part float64) int64 {
	if len(claims) == 0 {
		return 0
	}
	sorted := make([]time.Duration, len(claims))
	for i, c := range claims {
		sorted[i] = c.took
	}
	slices.Sort(sorted)
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)].Microseconds()
}

// send sends at a steady rate, ten at a time; every third with a key.
func (l *load) send(ctx context.Context, sender int) (sent int64) {
	const group = 10
	tick := time.NewTicker(time.Second * group * loadSenders / loadRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
		ch := &store.Change{}
		for i := range group {
			m := loadMessage()
			if i%3 == 0 {
				m.Key = fmt.Sprintf("k%d-%d", sender, (sent+int64(i))%500)
			}
			ch.Sends = append(ch.Sends, m)
		}
		if err := commitOne(l.Context(), l.s, ch); err != nil {
			l.Errorf("Commit(%d sends) = %v, want nil", group, err)
			return sent
		}
		sent += group
	}
}

func loadMessage() *store.Message {
	return &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Body: make([]byte, 200)}
}

// work claims and settles until the time is over.
func (l *load) work(ctx context.Context, began time.Time) (claims []timed, worked, largest int64) {
	for ctx.Err() == nil {
		from := time.Now()
		got, err := l.s.Claim(l.Context(), store.ClaimRequest{Queue: l.queue, Max: loadBatch})
		if err != nil {
			l.Errorf("Claim() = %v, want nil", err)
			return claims, worked, largest
		}
		if got.Batch == nil {
			rest(2 * time.Millisecond)
			continue
		}
		claims = append(claims, timed{from.Sub(began), time.Since(from)})
		n := int64(len(got.Batch.Deliveries))
		worked, largest = worked+n, max(largest, n)
		ch := &store.Change{}
		for _, d := range got.Batch.Deliveries {
			ch.Settle = append(ch.Settle, store.Settlement{Batch: got.Batch.BatchRef, Index: d.Index,
				Pos: d.Message.Pos, Key: d.Message.Key, Verdict: store.Done, Attempt: d.Attempt})
		}
		if err := commitOne(l.Context(), l.s, ch); err != nil {
			l.Errorf("Commit(%d settlements) = %v, want nil", n, err)
			return claims, worked, largest
		}
		rest(l.pace - time.Since(from))
	}
	return claims, worked, largest
}

// compare wants a disturbed phase to be about as good as the calm ones beside it.
func (l *load) compare(proof string, disturbed loadFigures, calm ...loadFigures) {
	var p99 int64
	var rate float64
	for _, c := range calm {
		p99, rate = max(p99, c.ClaimP99Us), rate+c.PerSecond/float64(len(calm))
	}
	slower, less := float64(disturbed.ClaimP99Us)/float64(max(p99, 1)), rate/disturbed.PerSecond
	report(l, struct {
		Proof, Phase          string
		ClaimP99Ratio         float64 // to the slower of the calm phases
		ThroughputRatio, Most float64
	}{proof, "compared", slower, 1 / less, loadBound})
	if slower > loadBound || less > loadBound {
		l.Errorf("%s: claim p99 is %.2f times that without, throughput %.2f times, want within %.1f", proof, slower, 1/less, loadBound)
	}
}

// TestLoadOpenSnapshot has somebody hold a snapshot open, which keeps vacuum from all that dies meanwhile.
func TestLoadOpenSnapshot(t *testing.T) {
	const proof = "open snapshot"
	d := loadTime(t)
	l := newLoad(t)
	l.phase(proof, "warm up", d/6)
	before := l.phase(proof, "before", d)
	c, err := pgx.Connect(t.Context(), dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err == nil {
		_, err = tx.Exec(t.Context(), `select count(*) from pg_class`)
	}
	if err != nil {
		t.Fatal(err)
	}
	held := l.phase(proof, "held", d)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	after := l.phase(proof, "after", d)
	l.compare(proof, held, before, after)
}

// TestLoadBacklog works from a small backlog, and from a large one: somewhat more than is sent
// meanwhile, and then, for a shorter time, as fast as it can.
func TestLoadBacklog(t *testing.T) {
	const proof, ahead, surplus, sprintMost = "backlog", 500_000, loadRate / 2, 10 * time.Second
	d := loadTime(t)
	n := loadSize(t, backlogVariable, 5_000_000)
	l := newLoad(t)
	pace := time.Second * loadClaimers * loadBatch / (loadRate + surplus)
	work := func(how string) (paced, sprint loadFigures) {
		l.pace = pace
		paced = l.phase(proof, how, d)
		l.pace = 0
		return paced, l.phase(proof, how+", as fast as it can", min(d, sprintMost))
	}
	l.fill(ahead + int(d.Seconds()*surplus))
	l.phase(proof, "warm up", d/6)
	few, fewFast := work("small")
	l.fill(n)
	l.phase(proof, "first claims of it", time.Second)
	many, manyFast := work("large")
	l.compare(proof, many, few)
	l.compare(proof+", as fast as it can", manyFast, fewFast)
}

// fill sends messages, many at a time.
func (l *load) fill(n int) {
	from := time.Now()
	var all sync.WaitGroup
	const senders = 2
	for range senders {
		all.Go(func() {
			for sent := 0; sent < n/senders; {
				ch := &store.Change{}
				for range min(2_000, n/senders-sent) {
					ch.Sends = append(ch.Sends, loadMessage())
				}
				if err := commitOne(l.Context(), l.s, ch); err != nil {
					l.Errorf("Commit(%d sends) = %v, want nil", len(ch.Sends), err)
					return
				}
				sent += len(ch.Sends)
			}
		})
	}
	all.Wait()
	report(l, struct {
		Proof    string
		Messages int
		Seconds  float64
	}{"fill", n, time.Since(from).Seconds()})
}

// TestLoadOpenBulk has a caller's transaction write many messages, stay open, and commit.
func TestLoadOpenBulk(t *testing.T) {
	const proof = "open bulk write"
	d := loadTime(t)
	n := loadSize(t, bulkVariable, 500_000)
	l := newLoad(t)
	l.phase(proof, "warm up", d/6)
	before := l.phase(proof, "before", d)
	tx, err := l.s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	wrote := make(chan error, 1)
	go func() { wrote <- l.bulk(tx, n) }()
	l.phase(proof, "while it writes", d) // two in one: the machine has more to do
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	open := l.phase(proof, "open", d)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := l.phase(proof, "committed", d)
	if after.Largest > loadBatch {
		t.Errorf("after the commit a claim took %d messages, want at most %d", after.Largest, loadBatch)
	}
	l.compare(proof, open, before)
}

func (l *load) bulk(tx pgx.Tx, n int) error {
	from := time.Now()
	for sent := 0; sent < n; {
		ch := &store.Change{}
		for range min(store.MaxSends, n-sent) {
			ch.Sends = append(ch.Sends, loadMessage())
		}
		if err := l.s.AppendIn(context.WithoutCancel(l.Context()), Tx(tx), ch); err != nil {
			return errors.Join(fmt.Errorf("after %d messages", sent), err)
		}
		sent += len(ch.Sends)
	}
	report(l, struct {
		Proof    string
		Messages int
		Seconds  float64
	}{"bulk written", n, time.Since(from).Seconds()})
	return nil
}
