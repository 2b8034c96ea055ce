// Package outside is the four systems that the fulfilment of an order needs and
// that are not its own: a warehouse, a payment provider, a billing system and a
// mail service. Each is a server over HTTP with a SQLite file of its own.
//
// They are as outside systems are. At times they answer 500, before they have acted
// or after it; act and do not answer; are slow; or say that what is asked of them has
// been done already. What they do when is drawn from the seed, the request, and how often it
// has been made since the system was started, and how often that was.
//
// Their files are the evidence of what the fulfilment has done to the world: they
// are never cleaned up, and package fulfilment counts them.
package outside

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/weir-go/weir/store/sqlite"
)

// Name is that of one of the systems.
type Name string

// The systems.
const (
	Warehouse Name = "warehouse"
	Payments  Name = "payments"
	Billing   Name = "billing"
	Mail      Name = "mail"
)

// Names are all of them.
func Names() []Name { return []Name{Warehouse, Payments, Billing, Mail} }

// Config is what a system is made of.
type Config struct {
	File     string // made if there is none
	Seed     uint64 // of all that is random
	Trouble  Trouble
	Declined float64 // the share of cards that the payment provider declines, 0 to 1
	// Restock is the time from one delivery of scarce dishes to the warehouse to the
	// next. Zero: 3 s.
	Restock time.Duration
	// Patience is how late the system acts on a request at the most. Zero: 0.9 s.
	Patience time.Duration
	Log      *slog.Logger
}

const (
	restockDefault = 3 * time.Second
	bodyBytesMax   = 64 << 10
	// patienceDefault is less than callers wait, who get an answer then.
	patienceDefault = 900 * time.Millisecond
	// silentMax bounds how long a request may go without an answer.
	silentMax = 10 * time.Second
	stopMax   = 2 * time.Second
)

// GiveUp is the header in which a caller says when it stops waiting, in Unix time and ms. It may rely on it: what was not
// done by then never will be, even if the machine stood still with the request on its way. Who says nothing waits for ever.
const GiveUp = "Give-Up"

// System is one of the four.
type System struct {
	config Config
	db     *sql.DB
	mux    *http.ServeMux
	luck   *luck
	// writing lets one transaction write at a time: the file has one writer anyway, and
	// waiting here is fair.
	writing sync.Mutex
	chore   func(context.Context) error // done while it runs; or nil
}

// Open opens a system's file and makes the system; nothing listens yet.
func Open(ctx context.Context, name Name, c Config) (*System, error) {
	if err := c.Trouble.check(); err != nil {
		return nil, err
	}
	if c.Restock == 0 {
		c.Restock = restockDefault
	}
	if c.Patience == 0 {
		c.Patience = patienceDefault
	}
	db, err := sqlite.OpenDB(c.File)
	if err != nil {
		return nil, err
	}
	s := &System{config: c, db: db, mux: http.NewServeMux(), luck: newLuck(c.Seed, c.Trouble)}
	var schema string
	switch name {
	case Warehouse:
		schema = s.warehouse()
	case Payments:
		schema = s.payments()
	case Billing:
		schema = s.billing()
	case Mail:
		schema = s.mail()
	default:
		return nil, errors.Join(fmt.Errorf("there is no outside system %q", name), db.Close())
	}
	if _, err := db.ExecContext(ctx, schema+sqlLives); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables in %s: %w", c.File, err), db.Close())
	}
	if err := db.QueryRowContext(ctx, sqlLife).Scan(&s.luck.life); err != nil {
		return nil, errors.Join(fmt.Errorf("begin a life in %s: %w", c.File, err), db.Close())
	}
	return s, nil
}

// A system has other luck in each of its lives: else a request that met trouble would meet
// it again after each restart.
const (
	sqlLives = `create table if not exists lives (no integer primary key, at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))) strict;`
	sqlLife  = `insert into lives default values returning no`
)

// Close closes its file.
func (s *System) Close() error { return s.db.Close() }

// ServeHTTP answers a request, in its own way.
func (s *System) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run serves l until ctx is done.
func (s *System) Run(ctx context.Context, l net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(l) }()
	go func() {
		if s.chore == nil {
			<-ctx.Done()
			ended <- nil
			return
		}
		ended <- s.chore(ctx)
	}()
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended: // neither ends by itself
		ended <- nil
	}
	end()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMax)
	defer cancel()
	if server.Shutdown(stopping) != nil { // some request is silent
		_ = server.Close() // it reports what Shutdown has
	}
	<-ended
	<-ended
	return first
}

// answer is what a system says.
type answer struct {
	status int
	body   any // as JSON; nil: none
}

// refusal is an answer that tells why not: What is for programs.
type refusal struct {
	What   string `json:"error"`
	Reason string `json:"reason,omitempty"`
}

// querier is a transaction, or the file as it is.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// job is what a request asks for.
type job func(ctx context.Context, q querier, r *request) (answer, error)

// request is a request, with what will go wrong.
type request struct {
	*http.Request
	body    []byte
	arrived time.Time
	mishap
}

// into reads the body; what cannot be read is the caller's fault.
func (r *request) into(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		return badRequest{err}
	}
	return nil
}

// late says whether nobody counts on an answer any more, or too much time has gone by.
func (r *request) late(patience time.Duration) bool {
	if until, err := strconv.ParseInt(r.Header.Get(GiveUp), 10, 64); err == nil && time.Now().UnixMilli() >= until {
		return true
	}
	return time.Since(r.arrived) > patience
}

type badRequest struct{ error }

var errLate = errors.New("too much to do: this request was not looked at in time, and nothing was done")

// reads serves a job that changes nothing.
func (s *System) reads(pattern string, f job) {
	s.handle(pattern, func(r *request) (answer, error) {
		return f(context.WithoutCancel(r.Context()), s.db, r)
	})
}

// finds is reads for what tells whether something was done: it waits until what is being done is.
func (s *System) finds(pattern string, f job) {
	s.reads(pattern, func(ctx context.Context, q querier, r *request) (answer, error) {
		s.writing.Lock()
		defer s.writing.Unlock()
		return f(ctx, q, r)
	})
}

// writes serves a job in a transaction of its own. That the caller has hung up
// changes nothing: what has arrived is done.
func (s *System) writes(pattern string, f job) {
	s.handle(pattern, func(r *request) (answer, error) {
		s.writing.Lock()
		defer s.writing.Unlock()
		if r.late(s.config.Patience) {
			return answer{}, errLate
		}
		return s.transact(context.WithoutCancel(r.Context()), func(ctx context.Context, tx querier) (answer, error) { return f(ctx, tx, r) })
	})
}

// transact runs f in a transaction. Its caller holds s.writing.
func (s *System) transact(ctx context.Context, f func(context.Context, querier) (answer, error)) (answer, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	a, err := f(ctx, tx)
	if err != nil {
		return answer{}, err
	}
	return a, tx.Commit()
}

// handle serves do, with mishaps.
func (s *System) handle(pattern string, do func(*request) (answer, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, plain *http.Request) {
		r := &request{Request: plain, arrived: time.Now()}
		var err error
		if r.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax)); err != nil {
			reply(w, answer{http.StatusBadRequest, refusal{What: "bad-request", Reason: err.Error()}})
			return
		}
		r.mishap = s.luck.draw(r)
		wait(context.WithoutCancel(r.Context()), r.slow)
		if r.fails == beforeActing {
			reply(w, answer{http.StatusInternalServerError, refusal{What: "internal-error"}})
			return
		}
		a, err := do(r)
		_, bad := errors.AsType[badRequest](err)
		switch {
		case bad:
			a = answer{http.StatusBadRequest, refusal{What: "bad-request", Reason: err.Error()}}
		case errors.Is(err, errLate):
			a = answer{http.StatusServiceUnavailable, refusal{What: "late", Reason: err.Error()}}
		case err != nil:
			s.config.Log.ErrorContext(r.Context(), "request failed", "request", r.URL.Path, "error", err)
			a = answer{http.StatusInternalServerError, refusal{What: "internal-error"}}
		case r.fails == afterActing:
			a = answer{http.StatusInternalServerError, refusal{What: "internal-error"}}
		case r.silent:
			wait(r.Context(), silentMax) // done when the caller has hung up
			panic(http.ErrAbortHandler)  // net/http's way to end without an answer
		}
		reply(w, a)
	})
}

// reply writes an answer. Nobody can be told that it did not arrive.
func reply(w http.ResponseWriter, a answer) {
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(a.body)
}

// wait waits so long, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
