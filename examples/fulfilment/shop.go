package fulfilment

import (
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
	"github.com/weir-go/weir/store/sqlite"
)

// The shop's tables, in the file of the runs: the start of a run commits with its order's
// row, the end of an order with its last step.
const sqlShop = `
create table if not exists orders_book (
  id      text primary key,
  state   text not null,               -- open, fulfilled, failed, refused
  cents   integer not null,
  reason  text not null default '',    -- why it is failed or refused
  charge  text not null default '',
  invoice text not null default '',
  mailed  integer not null default 0
) strict;
create index if not exists orders_book_open on orders_book (id) where state = 'open';
create table if not exists orders_left_out ( -- bad lines of the book
  line    integer primary key,         -- of the file
  ordered text not null,
  reason  text not null
) strict;
`

// The states of an order.
const (
	stateOpen      = "open"
	stateFulfilled = "fulfilled"
	stateFailed    = "failed"
	stateRefused   = "refused"
)

const (
	sqlTakeOrder = `insert into orders_book (id, state, cents, reason) values (?1, ?2, ?3, ?4) on conflict (id) do nothing`
	sqlLeaveOut  = `insert into orders_left_out (line, ordered, reason) values (?1, ?2, ?3) on conflict (line) do nothing`
	sqlClose     = `update orders_book set state = ?2, charge = ?3, invoice = ?4, mailed = ?5, reason = ?6 where id = ?1`
	sqlBook      = `select id, state, reason from orders_book`
	sqlProgress  = `select (select count(*) from orders_book), (select count(*) from orders_book where state = 'open')`
)

// Config is what a shop is made of.
type Config struct {
	File      string // the store, with the shop's tables; made if there is none
	Addresses Addresses
	Menu      Menu // default AnyItem
	// AtATime is how many runs are worked at a time: the systems, too, have limits. Default 100.
	AtATime int
	Log     *slog.Logger
}

const atATimeDefault = 100

// Shop is the boundary orders. It speaks for the boundary warehouse, too, which has only HTTP.
type Shop struct {
	eng  *weir.Engine
	db   *sql.DB // of the engine's file
	out  *Systems
	menu Menu
	log  *slog.Logger
}

// Open opens the store, makes the tables if they are not there, and registers the workflow.
// Close it when done.
func Open(ctx context.Context, c Config) (*Shop, error) {
	eng, err := weir.Open(ctx, sqlite.File(c.File), weir.Config{Owns: []string{"orders", "warehouse"}, Log: c.Log})
	if err != nil {
		return nil, err
	}
	db, err := sqlite.OpenDB(c.File)
	if err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	if c.AtATime == 0 {
		c.AtATime = atATimeDefault
	}
	s := &Shop{eng: eng, db: db, out: Connect(c.Addresses), menu: c.Menu, log: c.Log}
	if s.menu == nil {
		s.menu = AnyItem
	}
	if _, err := db.ExecContext(ctx, sqlShop); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables in %s: %w", c.File, err), s.Close())
	}
	weir.Register(eng, Fulfil, s.fulfil, weir.Runs{Concurrency: c.AtATime}, patient(), weir.Timeout(attemptMax))
	return s, nil
}

// Close ends all use of the shop.
func (s *Shop) Close() error {
	s.out.Close()
	return errors.Join(s.eng.Close(), s.db.Close())
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

// work takes orders as it is told to, until all are taken and settled.
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
			if err := s.TakeAll(ctx, book[taken:n]); err != nil {
				return err
			}
			taken = n
		case <-tick.C:
			if taken < len(book) {
				continue
			}
			if ok, err := s.settled(ctx); ok || err != nil {
				return err
			}
		}
	}
}

// takeAtOnce is how many orders are taken in one transaction, while which nothing else commits.
const takeAtOnce = 100

// TakeAll takes orders. An order that was taken before is left alone, so whoever does not know
// whether it was, after a crash, takes it again.
func (s *Shop) TakeAll(ctx context.Context, orders []Want) error {
	for some := range slices.Chunk(orders, takeAtOnce) {
		if err := s.take(ctx, some); err != nil {
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
		if _, err := weir.Start(ctx, s.eng.In(sqlite.Tx(tx)), Fulfil, o.ID, o); err != nil { // once, however often
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

// settled says whether no run goes on by itself.
func (s *Shop) settled(ctx context.Context) (bool, error) {
	counts, err := s.eng.RunCounts(ctx)
	if err != nil {
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

// Look reads how far the work is from the shop's file.
func Look(ctx context.Context, db Querier) (Progress, error) {
	var p Progress
	err := db.QueryRowContext(ctx, sqlProgress).Scan(&p.Taken, &p.Open)
	return p, err
}

// Querier is a *sql.DB, *sql.Conn or *sql.Tx on the shop's file: see sqlite.OpenDB.
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
		attempt, cancel := context.WithTimeout(ctx, attemptMax)
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
