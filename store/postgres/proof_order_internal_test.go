package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

// long reports whether the long forms were asked for; CONTRIBUTING.md tells when.
func long() bool { return os.Getenv("WEIR_TEST_LONG") != "" }

// report prints figures as a line of JSON.
func report(t testing.TB, figures any) {
	t.Helper()
	line, err := json.Marshal(figures)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s\n", line)
}

// TestCommitOrder has writers commit out of the order of their positions — numbers of
// transactions are taken early, there are pauses and rollbacks, some transactions stay open for
// long, one of another database all the time — while several processes claim: no message is lost,
// none comes twice, none that was rolled back comes, within a key they come in the order of their
// commits and are worked in one place, and nothing that is committed is passed over by claims.
func TestCommitOrder(t *testing.T) {
	t.Parallel()
	size := orderSize{messages: 20_000, keys: 40, lasts: 2 * time.Second, work: 5 * time.Millisecond, open: 1500 * time.Millisecond, every: 250 * time.Millisecond}
	if long() {
		size = orderSize{messages: 100_000, keys: 40, lasts: 75 * time.Second, work: 10 * time.Millisecond, open: 30 * time.Second, every: 5 * time.Second}
	}
	o := newOrder(t, size, func(*Store) {})
	o.run(t.Context())
	f := o.judge()
	report(t, f)
	for _, err := range o.faults {
		t.Error(err)
	}
	if !f.good() {
		t.Errorf("%+v, want none lost, doubled, phantom, inverted, shared, and none waiting through more than %d empty looks of each claimer", f, looksMost)
	}
	if f.Late == 0 {
		t.Error("no message was claimed late: the proof proves nothing")
	}
}

// orderSize is how much a commit-order proof does.
type orderSize struct {
	messages    int
	keys        int           // of a third of the writers' transactions
	lasts       time.Duration // of the writers, about
	work        time.Duration // of a batch
	open, every time.Duration // a transaction stays open for so long, begun every so often
}

const (
	orderWriters, orderClaimers = 16, 3

	// looksMost is the bound of a stall: how many claims of each process may find nothing
	// at all while a committed message waits. Lanes that move take a few.
	looksMost = 50
	// idleLooks is how many empty looks, after all was sent, end a claimer.
	idleLooks = looksMost + 10
)

// orderFigures is what came of a commit-order proof.
type orderFigures struct {
	Proof                                      string
	Messages, RolledBack, Late                 int
	Lost, Doubled, Phantom, Inverted, Shared   int
	LongestGapMs, LongTransactions, EmptyLooks int64
	OpenForMs, EveryMs                         int64
}

func (f orderFigures) good() bool {
	return f.Lost+f.Doubled+f.Phantom+f.Inverted+f.Shared == 0 && f.EmptyLooks <= looksMost
}

// sentOne is a message in the books of the proof.
type sentOne struct {
	n         uint64 // within its key, from 1, in the order of commits
	committed bool
	at        time.Time
	looks     [orderClaimers]int64 // empty ones, when it was committed
}

// order is the stage of the proof.
type order struct {
	orderSize
	db     *pgxpool.Pool
	other  *pgxpool.Pool // of another database
	queue  store.QueueID
	stores []*Store // the last is the writers'
	looks  [orderClaimers]atomic.Int64
	sent   chan struct{}
	longs  atomic.Int64

	mu       sync.Mutex
	faults   []error
	books    map[string]*sentOne
	worked   map[string]int
	inside   map[string]bool   // keys between the send and the commit of a transaction
	count    map[string]uint64 // committed, or about to be, with the key
	last     map[string]uint64
	holder   map[string]int // which claimer works the key
	figures  orderFigures
	highest  [orderClaimers]store.Pos
	hopeless bool // the same messages come again and again
}

// newOrder opens the stores; spoil is done to each, see proof_mutants_internal_test.go.
func newOrder(t testing.TB, size orderSize, spoil func(*Store)) *order {
	o := &order{
		orderSize: size, sent: make(chan struct{}), books: map[string]*sentOne{}, worked: map[string]int{}, inside: map[string]bool{},
		count: map[string]uint64{}, last: map[string]uint64{}, holder: map[string]int{},
	}
	h := openHarness(t, nil).(*harness)
	h.spent = true
	var err error
	if o.db, err = pgxpool.New(t.Context(), dsn(t)+" pool_max_conns=40"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.db.Close)
	o.other = otherDatabase(t, h)
	for range orderClaimers + 1 {
		s, err := DB(dsn(t)+" pool_max_conns=6", Schema(h.schema))(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		spoil(s.(*Store))
		o.stores = append(o.stores, s.(*Store))
	}
	states, err := o.stores[0].Declare(t.Context(), nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}}})
	if err != nil {
		t.Fatal(err)
	}
	o.queue = states[0].ID
	return o
}

// otherDatabase makes a database on the same server.
func otherDatabase(t testing.TB, h *harness) *pgxpool.Pool {
	t.Helper()
	name := h.schema + "_other"
	if _, err := h.db.Exec(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := h.db.Exec(context.Background(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	db, err := pgxpool.New(t.Context(), dsn(t)+" pool_max_conns=1 dbname="+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// run has all of it happen, and returns when it is over.
func (o *order) run(ctx context.Context) {
	foreign, err := o.other.Begin(ctx)
	if err == nil {
		_, err = foreign.Exec(ctx, `create table written (n int)`)
	}
	if err != nil {
		o.fault(err)
		return
	}
	var claiming, writing, waiting sync.WaitGroup
	for i := range orderClaimers {
		claiming.Go(func() {
			rest(time.Duration(i) * 300 * time.Millisecond) // so that lanes move
			o.claim(ctx, i)
		})
	}
	over := make(chan struct{})
	waiting.Go(func() { o.openMany(ctx, over) })
	for w := range orderWriters {
		writing.Go(func() { o.write(ctx, w) })
	}
	writing.Wait()
	close(over)
	waiting.Wait()
	close(o.sent)
	claiming.Wait()
	o.fault(foreign.Rollback(ctx))
}

func (o *order) fault(err error) {
	if err == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, err)
}

// rest lets time pass.
func rest(d time.Duration) { <-time.After(d) }

// pauseFor lets milliseconds pass.
func pauseFor(ms int) { rest(time.Duration(ms) * time.Millisecond) }

// ordered is one transaction of a writer.
type ordered struct {
	name          string // of its messages
	key           string
	size          int
	early         bool          // takes its number before all else
	before, after time.Duration // it pauses before it sends, and before it commits
	rollback      bool
}

// write sends messages in transactions of its own, in which it does other things too.
func (o *order) write(ctx context.Context, w int) {
	r := rand.New(rand.NewPCG(uint64(w), 7))
	each := o.messages / orderWriters
	pause := func() time.Duration { // of which there are two in a transaction of 20 messages
		return time.Duration(r.Int64N(int64(o.lasts) / int64(each/20)))
	}
	for n, serial := 0, 0; n < each; serial++ {
		p := ordered{name: fmt.Sprintf("%d-%d", w, serial), size: 1 + r.IntN(40), early: r.IntN(2) == 0, before: pause(), after: pause(), rollback: r.IntN(10) == 0}
		if r.IntN(3) == 0 {
			p.key = fmt.Sprint("k", r.IntN(o.keys))
			p.after /= 4 // others wait for it
		}
		send := o.transaction
		if w%8 == 7 {
			p.key, p.rollback = "", false
			send = o.commitOwn
		}
		if err := send(ctx, p); err != nil {
			o.fault(fmt.Errorf("writer %d: %w", w, err))
			return
		}
		if !p.rollback {
			n += p.size
		}
	}
}

// openMany begins a transaction every so often that stays open for long, until it is over.
func (o *order) openMany(ctx context.Context, over chan struct{}) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := 0; ; i++ {
		all.Go(func() {
			p := ordered{name: fmt.Sprintf("long-%d", i), size: 300, early: i%2 == 0, before: o.open / 10, after: o.open, rollback: i%10 == 9}
			if i%3 == 0 {
				p.key = fmt.Sprint("long", i) // others would wait for it
			}
			o.fault(o.transaction(ctx, p))
			o.longs.Add(1)
		})
		select {
		case <-over:
			return
		case <-time.After(o.every):
		}
	}
}

func (p ordered) messages() []*store.Message {
	var list []*store.Message
	for i := range p.size {
		list = append(list, &store.Message{Topic: "a.b", Kind: store.KindCommand, Version: 1, Key: p.key, Body: fmt.Appendf(nil, "%s/%d", p.name, i)})
	}
	return list
}

// commitOwn sends by the store's own commit.
func (o *order) commitOwn(ctx context.Context, p ordered) error {
	ch := &store.Change{Sends: p.messages()}
	o.book(p, ch.Sends)
	if err := o.stores[orderClaimers].Commit(ctx, &store.Group{Changes: []*store.Change{ch}}); err != nil || ch.Err != nil {
		return errors.Join(err, ch.Err)
	}
	o.committed(ch.Sends)
	rest(p.before + p.after)
	return nil
}

// transaction sends in a transaction of the caller's.
func (o *order) transaction(ctx context.Context, p ordered) (err error) {
	tx, err := o.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(tx.Rollback(context.WithoutCancel(ctx)))) }()
	if p.early {
		if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
			return err
		}
	}
	rest(p.before)
	ch := &store.Change{Sends: p.messages()}
	if err := o.stores[orderClaimers].AppendIn(ctx, Tx(tx), ch); err != nil {
		return err
	}
	o.book(p, ch.Sends)
	rest(p.after)
	o.leave(p)
	if p.rollback {
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	o.committed(ch.Sends)
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}

// book notes messages that are sent and not committed: a key is one transaction's until that ends.
func (o *order) book(p ordered, messages []*store.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.key != "" {
		if o.inside[p.key] {
			o.figures.Shared++
		}
		o.inside[p.key] = true
	}
	for i, m := range messages {
		o.books[string(m.Body)] = &sentOne{n: o.count[p.key] + uint64(i) + 1}
	}
	if p.rollback {
		o.figures.RolledBack += len(messages)
	}
}

// leave ends what book began, just before the transaction ends.
func (o *order) leave(p ordered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.inside, p.key)
	if p.key != "" && !p.rollback {
		o.count[p.key] += uint64(p.size)
	}
}

func (o *order) committed(messages []*store.Message) {
	now := time.Now()
	var looks [orderClaimers]int64
	for i := range looks {
		looks[i] = o.looks[i].Load()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range messages {
		b := o.books[string(m.Body)]
		b.committed, b.at, b.looks = true, now, looks
	}
}
