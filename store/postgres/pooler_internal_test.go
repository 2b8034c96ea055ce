package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
	"github.com/weir-go/weir/store/storetest"
)

// pooled is a PgBouncer in transaction mode before the tests' server, with few connections.
func pooled(t *testing.T) *pgtest.Pooler {
	t.Helper()
	c, err := pgx.ParseConfig(dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := pgtest.StartPooler(context.Background(), c.Host, int(c.Port), 8, worker, c.User)
	if errors.Is(err, pgtest.ErrNoPooler) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Laws that are about transactions, locks and several processes hold through a pooler that gives
// each transaction another of its connections.
func TestLawsThroughPooler(t *testing.T) {
	p := pooled(t)
	open := func(t testing.TB, now func() time.Time) storetest.Harness {
		h := openHarness(t, now).(*harness)
		h.open = DB(p.DSN("postgres", worker)+" pool_max_conns=4", Schema(h.schema), Clock(now))
		return h
	}
	for _, l := range storetest.Laws() {
		if !strings.Contains(poolerLaws, strings.SplitAfter(l.Name, "/")[0]) {
			continue
		}
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			l.Check(t, open)
		})
	}
}

const poolerLaws = "group/ closure/ own/ lease/ concurrent/ run-concurrent/ run-lock/ run-crash/ retention/ origin/ arrival/ state/ duty/ renew/"

// Processes that send, claim and settle through a pooler lose nothing and do nothing twice.
func TestProcessesThroughPooler(t *testing.T) {
	t.Parallel()
	p := pooled(t)
	h := openHarness(t, nil).(*harness)
	const processes, senders, each = 3, 3, 200
	f := &floor{T: t, want: processes * senders * each, worked: map[store.Pos]int{}, last: map[string]store.Pos{}}
	var all sync.WaitGroup
	for n := range processes {
		s, queue := f.open(DB(p.DSN("postgres", worker)+" pool_max_conns=6", Schema(h.schema), Lease(time.Hour))) // they beat only while they have nothing to do
		for sender := range senders {
			all.Go(func() { f.send(s, n+sender, each) })
		}
		all.Go(func() { f.work(s, queue) })
	}
	all.Wait()
	for pos, n := range f.worked {
		if n != 1 {
			t.Errorf("message %d was worked %d times, want once", pos, n)
		}
	}
	if len(f.worked) != f.want {
		t.Errorf("%d messages were worked, want %d", len(f.worked), f.want)
	}
}

// floor is what processes have worked together.
type floor struct {
	*testing.T
	want int

	mu     sync.Mutex
	worked map[store.Pos]int
	last   map[string]store.Pos // by key
}

func (f *floor) open(opener store.Opener) (*Store, store.QueueID) {
	f.Helper()
	st, err := opener(f.Context())
	if err != nil {
		f.Fatalf("open through a pooler = %v, want nil", err)
	}
	s := st.(*Store)
	f.Cleanup(func() { _ = s.Close() })
	if s.direct {
		f.Fatal("a pooler is taken for the server itself")
	}
	if err := s.Begin(f.Context(), &store.Process{Host: "here"}); err != nil {
		f.Fatal(err)
	}
	states, err := s.Declare(f.Context(), nil, []store.Queue{cook()})
	if err != nil {
		f.Fatal(err)
	}
	return s, states[0].ID
}

func (f *floor) send(s *Store, first, each int) {
	for i := range each {
		ch := &store.Change{Sends: keyed(1, fmt.Sprint("k", (first+i)%20))}
		err := patient{s}.Commit(f.Context(), &store.Group{Changes: []*store.Change{ch}})
		for err == nil && errors.Is(ch.Err, store.ErrKeyHeld) { // a busy machine: the engine tries again, too
			err = patient{s}.Commit(f.Context(), &store.Group{Changes: []*store.Change{ch}})
		}
		if err != nil || ch.Err != nil {
			f.Errorf("Commit() of a send = %v, %v, want nil", err, ch.Err)
			return
		}
	}
}

// work claims and settles until all is worked.
func (f *floor) work(s *Store, queue store.QueueID) {
	p := patient{s}
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); {
		got, err := p.Claim(f.Context(), store.ClaimRequest{Queue: queue, Max: 50})
		if err != nil {
			f.Errorf("Claim() = %v, want nil", err)
			return
		}
		if got.Batch == nil {
			if f.over() {
				return
			}
			if err := p.Heartbeat(f.Context()); err != nil { // lanes move
				f.Errorf("Heartbeat() = %v, want nil", err)
			}
			pauseFor(10)
			continue
		}
		f.note(got.Batch)
		if err := doneAll(f.T, p, got.Batch); err != nil {
			f.Errorf("Commit() of what was done = %v, want nil", err)
			return
		}
	}
}

func (f *floor) note(b *store.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range b.Deliveries {
		f.worked[d.Message.Pos]++
		if d.Message.Pos < f.last[d.Message.Key] {
			f.Errorf("message %d of key %s came after %d", d.Message.Pos, d.Message.Key, f.last[d.Message.Key])
		}
		f.last[d.Message.Key] = d.Message.Pos
	}
}

func (f *floor) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.worked) >= f.want
}
