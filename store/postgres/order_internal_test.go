package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

// TestCommitOrder has writers commit out of the order of their positions — numbers of
// transactions are taken early, there are pauses and rollbacks, one transaction stays open
// for long — while several processes claim: no message is lost, none comes twice, none that
// was rolled back comes, and within a key they come in the order of their commits.
func TestCommitOrder(t *testing.T) {
	const writers, claimers, keys = 16, 3, 40
	o := newOrder(t, 20_000/writers)
	var sending, claiming sync.WaitGroup
	for i := range claimers {
		claiming.Go(func() {
			pauseFor(300 * i) // so that lanes move
			o.claim(t.Context(), o.stores[i])
		})
	}
	long := make(chan struct{})
	sending.Go(func() { o.long(t.Context(), long) })
	var quick sync.WaitGroup
	for w := range writers {
		quick.Go(func() { o.write(t.Context(), w, keys) })
	}
	quick.Wait()
	close(long)
	sending.Wait()
	close(o.sent)
	claiming.Wait()
	o.judge(t)
}

// order is the stage of TestCommitOrder.
type order struct {
	db    *pgxpool.Pool
	each  int // messages of a writer, at least
	queue store.QueueID
	owner [40]sync.Mutex // of a key: what a caller's own order of commits means
	count [40]uint64     // sent with the key, for the holder of owner

	mu        sync.Mutex
	faults    []error
	committed map[string]bool
	worked    map[string]int
	last      map[string]uint64
	inverted  int
	late      atomic.Int64
	sent      chan struct{}
	stores    []*Store
}

func newOrder(t *testing.T, each int) *order {
	o := &order{each: each, committed: map[string]bool{}, worked: map[string]int{}, last: map[string]uint64{}, sent: make(chan struct{})}
	h := openHarness(t, nil).(*harness)
	var err error
	if o.db, err = pgxpool.New(t.Context(), dsn(t)+" pool_max_conns=20"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.db.Close)
	for range 4 {
		s, err := DB(dsn(t)+" pool_max_conns=6", Schema(h.schema))(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		o.stores = append(o.stores, s.(*Store))
	}
	states, err := o.stores[0].Declare(t.Context(), nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}}})
	if err != nil {
		t.Fatal(err)
	}
	o.queue = states[0].ID
	return o
}

func (o *order) fault(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, err)
}

// write sends messages in transactions of its own, in which it does other things too.
func (o *order) write(ctx context.Context, w, keys int) {
	r := rand.New(rand.NewPCG(uint64(w), 7))
	for n := 0; n < o.each; {
		size := 1 + r.IntN(40)
		if err := o.transaction(ctx, r, w, n, size, keys); err != nil {
			o.fault(fmt.Errorf("writer %d: %w", w, err))
			return
		}
		n += size
	}
}

func (o *order) transaction(ctx context.Context, r *rand.Rand, w, n, size, keys int) (err error) {
	tx, err := o.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(tx.Rollback(context.WithoutCancel(ctx)))) }()
	if r.IntN(2) == 0 { // an early number
		if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
			return err
		}
	}
	pauseFor(r.IntN(4))
	ch := &store.Change{}
	key := -1
	if r.IntN(3) == 0 {
		key = r.IntN(keys)
		o.owner[key].Lock()
		defer o.owner[key].Unlock()
	}
	rollback := r.IntN(10) == 0
	before := uint64(0)
	for i := range size {
		m := &store.Message{Topic: "a.b", Kind: store.KindCommand, Version: 1, Body: fmt.Appendf(nil, "%d-%d", w, n+i)}
		if key >= 0 {
			before = o.count[key]
			m.Key = fmt.Sprint("k", key)
			m.Headers = binary.BigEndian.AppendUint64(nil, before+uint64(i)+1)
		}
		ch.Sends = append(ch.Sends, m)
	}
	if err := o.stores[3].AppendIn(ctx, Tx(tx), ch); err != nil {
		return err
	}
	pauseFor(r.IntN(6))
	if rollback {
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if key >= 0 {
		o.count[key] = before + uint64(size)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range ch.Sends {
		o.committed[string(m.Body)] = true
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}

// pauseFor lets milliseconds pass.
func pauseFor(ms int) { <-time.After(time.Duration(ms) * time.Millisecond) }

// long sends at the beginning, and commits when all others have.
func (o *order) long(ctx context.Context, over chan struct{}) {
	tx, err := o.db.Begin(ctx)
	if err != nil {
		o.fault(err)
		return
	}
	var ch store.Change
	for i := range 500 {
		ch.Sends = append(ch.Sends, &store.Message{Topic: "a.b", Kind: store.KindCommand, Version: 1, Body: fmt.Appendf(nil, "long-%d", i)})
	}
	if err := o.stores[3].AppendIn(ctx, Tx(tx), &ch); err != nil {
		o.fault(err)
	}
	<-over
	if err := tx.Commit(ctx); err != nil {
		o.fault(err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range ch.Sends {
		o.committed[string(m.Body)] = true
	}
}

// claim works what there is, as one process among others, until all is sent and worked.
func (o *order) claim(ctx context.Context, s *Store) {
	if err := s.Begin(ctx, &store.Process{Host: "here"}); err != nil {
		o.fault(err)
		return
	}
	highest, idle := store.Pos(0), 0
	for idle < 50 {
		select {
		case <-o.sent:
			idle++
		default:
		}
		got, err := s.Claim(ctx, store.ClaimRequest{Queue: o.queue, Max: 300})
		if err != nil {
			o.fault(err)
			return
		}
		if got.Batch == nil {
			pauseFor(2)
			continue
		}
		idle = 0
		g := &store.Group{}
		for _, d := range got.Batch.Deliveries {
			if d.Message.Pos < highest {
				o.late.Add(1)
			}
			highest = max(highest, d.Message.Pos)
			o.work(d.Message)
			g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{{Batch: got.Batch.BatchRef, Index: d.Index,
				Pos: d.Message.Pos, Key: d.Message.Key, Verdict: store.Done, Attempt: 1}}})
		}
		if err := s.Commit(ctx, g); err != nil {
			o.fault(err)
			return
		}
		for _, ch := range g.Changes {
			if ch.Err != nil {
				o.fault(ch.Err)
			}
		}
	}
	if err := s.End(ctx); err != nil {
		o.fault(err)
	}
}

func (o *order) work(m *store.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.worked[string(m.Body)]++
	if m.Key == "" {
		return
	}
	n := binary.BigEndian.Uint64(m.Headers)
	if n <= o.last[m.Key] {
		o.inverted++
	}
	o.last[m.Key] = n
}

// judge looks at the whole.
func (o *order) judge(t *testing.T) {
	for _, err := range o.faults {
		t.Error(err)
	}
	lost, doubled, phantom := 0, 0, 0
	for body := range o.committed {
		if o.worked[body] == 0 {
			lost++
		}
	}
	for body, n := range o.worked {
		if n > 1 {
			doubled++
		}
		if !o.committed[body] {
			phantom++
		}
	}
	if lost+doubled+phantom+o.inverted > 0 {
		t.Errorf("of %d messages: %d lost, %d doubled, %d phantom, %d inverted, want none", len(o.committed), lost, doubled, phantom, o.inverted)
	}
	t.Logf("%d messages, %d of them claimed late", len(o.committed), o.late.Load())
}
