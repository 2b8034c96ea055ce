package fulfilment

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
)

// The shop's tables, in the database of the runs: the start of a run commits with its order's
// row, the end of an order with its last step.
const sqlShop = `
create table if not exists orders_book (
  id      text primary key,
  state   text not null,               -- open, fulfilled, failed, refused
  cents   bigint not null,
  reason  text not null default '',    -- why it is failed or refused
  charge  text not null default '',
  invoice text not null default '',
  mailed  boolean not null default false
);
create index if not exists orders_book_open on orders_book (id) where state = 'open';
create table if not exists orders_left_out ( -- bad lines of the book
  line    bigint primary key,          -- of the file
  ordered text not null,
  reason  text not null
);
`

// The states of an order.
const (
	stateOpen      = "open"
	stateFulfilled = "fulfilled"
	stateFailed    = "failed"
	stateRefused   = "refused"
)

const (
	sqlTakeOrder = `insert into orders_book (id, state, cents, reason) values ($1, $2, $3, $4) on conflict (id) do nothing`
	sqlLeaveOut  = `insert into orders_left_out (line, ordered, reason) values ($1, $2, $3) on conflict (line) do nothing`
	sqlClose     = `update orders_book set state = $1, charge = $2, invoice = $3, mailed = $4, reason = $5 where id = $6`
	sqlCallOff   = `update orders_book set state = $1, reason = $2, charge = '', invoice = '' where id = $3 and state <> $1`
	sqlBook      = `select id, state, reason from orders_book`
	sqlProgress  = `select (select count(*) from orders_book), (select count(*) from orders_book where state = 'open')`
)

// Config is what a shop is made of.
type Config struct {
	Database  *database.Database // of the journal and the shop's tables
	Addresses Addresses
	Menu      Menu // default AnyItem
	// AtATime is how many runs are worked at a time: the systems, too, have limits. Default 100.
	AtATime int
	// AttemptMax is how long one attempt of a step may take. Default 1 s, and 0.4 s of a mail.
	AttemptMax time.Duration
	Log        *slog.Logger

	// Takes says which orders this process takes, when several work the same book: each
	// must be taken by one. Default: all.
	Takes func(order int64) bool
}

const atATimeDefault = 100

// Shop is the boundary orders. It speaks for the boundary warehouse, too, which has only HTTP.
type Shop struct {
	eng   *weir.Engine
	db    *database.Database // the engine's
	out   *Systems
	menu  Menu
	takes func(order int64) bool
	log   *slog.Logger

	attemptMax time.Duration // of Config; 0: the defaults
}

// Open opens the store, makes the tables if they are not there, and registers the workflow.
// Close it when done; the database is the caller's to close.
func Open(ctx context.Context, c Config) (*Shop, error) {
	eng, err := weir.Open(ctx, c.Database.Journal, weir.Config{Owns: []string{"orders", "warehouse"}, Log: c.Log})
	if err != nil {
		return nil, err
	}
	if err := c.Database.MakeTables(ctx, "orders_book", sqlShop); err != nil {
		return nil, errors.Join(fmt.Errorf("make the shop's tables: %w", err), eng.Close())
	}
	if c.AtATime == 0 {
		c.AtATime = atATimeDefault
	}
	s := &Shop{eng: eng, db: c.Database, out: Connect(c.Addresses), menu: c.Menu, takes: c.Takes, log: c.Log, attemptMax: c.AttemptMax}
	if s.menu == nil {
		s.menu = AnyItem
	}
	if s.takes == nil {
		s.takes = func(int64) bool { return true }
	}
	weir.Register(eng, Fulfil, s.fulfil, weir.Runs{Concurrency: c.AtATime}, patient(), weir.Timeout(cmp.Or(s.attemptMax, attemptMax)))
	return s, nil
}

// Close ends all use of the shop.
func (s *Shop) Close() error {
	s.out.Close()
	return s.eng.Close()
}

// Work runs the engine, and takes the orders of a book, as many of its first as the last
// number from upTo says. It returns nil when the whole book is settled: each order fulfilled,
// failed or refused, or its run waiting for a person; or else when ctx is done, with its error.
func (s *Shop) Work(ctx context.Context, book []Want, upTo <-chan int) error {
	day, end := context.WithCancel(ctx)
	defer end()
	var ended []chan error
	crew := func(f func(context.Context) error) {
		done := make(chan error, 1)
		ended = append(ended, done)
		go func() {
			defer end() // none of them can do without the others
			done <- f(day)
		}()
	}
	crew(s.eng.Run)
	crew(s.hearWarehouse)
	crew(func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.eng.Ready():
		}
		err := s.work(ctx, book, upTo)
		if ctx.Err() != nil {
			return nil // whatever it interrupted
		}
		return err
	})
	var failure error
	for _, done := range ended {
		failure = errors.Join(failure, <-done)
	}
	if failure == nil {
		failure = ctx.Err()
	}
	return failure
}

const lookEvery = 50 * time.Millisecond

// work takes orders as it is told to, until all are taken, by whomever, and settled.
func (s *Shop) work(ctx context.Context, book []Want, upTo <-chan int) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for taken := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-upTo:
			n = min(n, len(book))
			if n <= taken {
				continue
			}
			if err := s.TakeAll(ctx, s.ours(book[taken:n])); err != nil {
				return err
			}
			taken = n
		case <-tick.C:
			if taken < len(book) {
				continue
			}
			if ok, err := s.settled(ctx, len(book)); ok || err != nil {
				return err
			}
		}
	}
}

// ours are the orders that this process takes.
func (s *Shop) ours(orders []Want) (ours []Want) {
	for _, o := range orders {
		if s.takes(o.ID) {
			ours = append(ours, o)
		}
	}
	return ours
}

// takeAtOnce is how many orders are taken in one transaction, while which nothing else commits.
const takeAtOnce = 100

// TakeAll takes orders. An order that was taken before is left alone, so whoever does not know
// whether it was, after a crash, takes it again.
func (s *Shop) TakeAll(ctx context.Context, orders []Want) error {
	for some := range slices.Chunk(orders, takeAtOnce) {
		if err := s.db.Patient(ctx, func(ctx context.Context) error { return s.take(ctx, some) }); err != nil {
			return err
		}
	}
	return nil
}

// take writes the orders' rows and starts their runs, in one transaction.
func (s *Shop) take(ctx context.Context, orders []Want) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, want := range orders {
		o, faults := want.order(s.menu)
		for _, f := range faults {
			if _, err := tx.ExecContext(ctx, sqlLeaveOut, f.Row, o.ID, f.Reason); err != nil {
				return fmt.Errorf("take %s: %w", o.ID, err)
			}
		}
		state, reason := stateOpen, ""
		if len(o.Items) == 0 {
			state, reason = stateRefused, "no line of it can be fulfilled: "+because(faults)
		}
		if _, err := tx.ExecContext(ctx, sqlTakeOrder, o.ID, state, o.Cents(), reason); err != nil {
			return fmt.Errorf("take %s: %w", o.ID, err)
		}
		if state == stateRefused {
			continue
		}
		if _, err := weir.Start(ctx, s.eng.In(s.db.In(tx)), Fulfil, o.ID, o); err != nil { // once, however often
			return fmt.Errorf("take %s: %w", o.ID, err)
		}
	}
	return tx.Commit()
}

// because tells the first fault.
func because(faults []Fault) string {
	if len(faults) == 0 {
		return "it has none"
	}
	return faults[0].Reason
}

// settled says whether all orders are taken, and no run goes on by itself.
func (s *Shop) settled(ctx context.Context, orders int) (bool, error) {
	var p Progress
	var counts []weir.RunCount
	err := s.db.Patient(ctx, func(ctx context.Context) (err error) {
		if p, err = Look(ctx, s.db); err != nil {
			return err
		}
		counts, err = s.eng.RunCounts(ctx)
		return err
	})
	if err != nil || p.Taken < orders {
		return false, err
	}
	for _, c := range counts {
		switch c.State {
		case weir.RunReady, weir.RunRunning, weir.RunWaiting:
			if c.Count > 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// Progress is how far the work is, at the price of a look.
type Progress struct{ Taken, Open int }

// Look reads how far the work is from the shop's table.
func Look(ctx context.Context, db Querier) (Progress, error) {
	var p Progress
	err := db.QueryRowContext(ctx, sqlProgress).Scan(&p.Taken, &p.Open)
	return p, err
}

// Querier is the shop's *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const (
	callPath   = "/stock-changed"
	callMax    = 4 << 10
	watchPause = 100 * time.Millisecond
)

// hearWarehouse listens to the warehouse, and tells it where, until ctx is done.
func (s *Shop) hearWarehouse(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+callPath, s.stockChanged)
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	s.watch(ctx, "http://"+l.Addr().String()+callPath)
	select {
	case <-ctx.Done():
		_ = server.Close()
		<-ended
		return nil
	case err := <-ended:
		return err
	}
}

// watch asks the warehouse to call, until it has understood or ctx is done.
func (s *Shop) watch(ctx context.Context, address string) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, cmp.Or(s.attemptMax, attemptMax))
		err := s.out.Warehouse.Watch(attempt, address)
		cancel()
		if err == nil {
			return
		}
		pause := time.NewTimer(watchPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// stockChanged is the warehouse's call.
func (s *Shop) stockChanged(w http.ResponseWriter, r *http.Request) {
	var stock Stock
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, callMax)).Decode(&stock); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := weir.Publish(r.Context(), s.eng, StockChanged, stock); err != nil {
		s.log.WarnContext(r.Context(), "delivery not published", "dish", stock.Dish, "error", err)
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
