package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// job is the body of all messages.
type job struct {
	Tag    string // its name among those of its contract
	Key    string
	N      int    // rises within the key
	Lines  int    // of an order: the dishes it makes
	Smooth bool   // of an order: none of them fails
	Fails  int    // attempts that fail first …
	At     string // … in this queue
	Rotten bool   // no attempt can do it
	Deed   string // what its handler does to the process: see deed
	Pad    string // makes it large
}

func (j job) key() string { return j.Key }

// The contracts of the two boundaries, staff and kitchen.
var (
	takeOrder = weir.NewCommand[job]("staff.take-order")
	prepare   = weir.NewCommand[job]("kitchen.prepare-food", weir.KeyedBy(job.key))
	clean     = weir.NewCommand[job]("kitchen.clean")
	quote     = weir.NewRequest[job, job]("kitchen.quote")
	ready     = weir.NewEvent[job]("kitchen.food-ready", weir.KeyedBy(job.key))
)

// Their subscribers.
const (
	bringFood = "staff.bring-food"
	bill      = "staff.bill"
	hearQuote = "staff.hear-quote"
)

// tables are the boundaries' own: append-only, and nothing in them is unique, so
// that what happens twice shows. begun says how many effects there were when a process ran its first handler.
const tables = `
create table if not exists orders (id integer primary key, tag text not null, lines integer not null, life integer not null) strict;
create table if not exists effects (
  id integer primary key, queue text not null, message text not null, tag text not null, key text not null,
  n integer not null, attempt integer not null, life integer not null) strict;
create table if not exists begun (life integer not null, after integer not null) strict;`

// shop is a program that uses weir: two boundaries in one file, with tables of their own.
type shop struct {
	file   string
	life   int
	report report
	fuse   *fuse
	db     *sql.DB
	eng    *weir.Engine
	store  store.Store
	queue  weir.Queue // of all queues
	calm   bool       // nothing fails, and handlers that are told to be long are
	alone  bool       // nobody sees to the dead
	seen   sync.Map   // messages postponed by this process
	gate   *gate      // of handlers told to wait at one
	begun  sync.Once
	doubt  bool // an error of a send leaves open if it was sent
	end    context.CancelFunc
	ran    chan error // what Run has returned; nil before Run
}

// quick is a policy under which failures cost a test no time.
var quick = weir.Retry{Base: time.Millisecond, Cap: 5 * time.Millisecond}

// premises are where a shop opens.
type premises struct {
	file  string
	life  int
	fuse  string // see newFuse
	doubt bool
	open  store.Opener // default: the file, with the fuse on it
	log   io.Writer
}

// open opens the file. Nothing runs yet.
func open(ctx context.Context, at premises) (*shop, error) {
	s := &shop{file: at.file, life: at.life, doubt: at.doubt, queue: weir.Queue{Concurrency: 4, Retry: quick, Capacity: 300}}
	var err error
	if s.report, err = openReport(at.file); err != nil {
		return nil, err
	}
	s.fuse = newFuse(at.fuse, s.report)
	if s.db, err = sqlite.OpenDB(at.file); err != nil {
		return nil, err
	}
	if at.open == nil {
		at.open = s.fuse.opener(at.file)
	}
	keep := func(ctx context.Context) (store.Store, error) {
		var err error
		s.store, err = at.open(ctx)
		return s.store, err
	}
	s.eng, err = weir.Open(ctx, keep, weir.Config{
		Owns:        []string{"staff", "kitchen"},
		Log:         slog.New(slog.NewTextHandler(at.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		StopTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// serve registers the handlers and runs the engine until close.
func (s *shop) serve() {
	weir.Handle(s.eng, takeOrder, s.take, s.queue)
	weir.Handle(s.eng, prepare, s.cook, s.queue)
	weir.Handle(s.eng, clean, s.does(clean.Name()), s.queue)
	weir.Answer(s.eng, quote, s.price, s.queue)
	weir.Subscribe(s.eng, quote.Reply(), hearQuote, s.does(hearQuote), s.queue)
	weir.Subscribe(s.eng, ready, bringFood, s.does(bringFood), s.queue)
	parks := s.queue
	parks.OnDead = weir.Park
	weir.Subscribe(s.eng, ready, bill, s.does(bill), parks)
	ctx, cancel := context.WithCancel(context.Background())
	s.end, s.ran = cancel, make(chan error, 1)
	go func() {
		err := s.eng.Run(ctx)
		if err != nil {
			s.report.say("stopped %v", err)
		}
		s.ran <- err
	}()
}

// close stops what runs and tells how it ended.
func (s *shop) close() error {
	var err error
	if s.ran != nil {
		s.end()
		err = <-s.ran
	}
	return errors.Join(err, s.eng.Close(), s.db.Close(), s.report.file.Close())
}

// take makes a dish of each line of an order.
func (s *shop) take(ctx context.Context, m *weir.Message[job]) error {
	for i := range m.Body.Lines {
		dish := job{Tag: fmt.Sprintf("%s/%d", m.Body.Tag, i+1), Key: m.Body.Tag, N: i + 1}
		if !m.Body.Smooth {
			dish.Fails, dish.At = 1+i%2, []string{prepare.Name(), bringFood}[i%2]
		}
		if err := weir.Send(ctx, m, prepare, dish); err != nil {
			return err
		}
	}
	return s.do(ctx, m, takeOrder.Name())
}

// cook makes a dish, which is then ready.
func (s *shop) cook(ctx context.Context, m *weir.Message[job]) error {
	dish := m.Body
	dish.Deed = ""
	if err := weir.Publish(ctx, m, ready, dish); err != nil {
		return err
	}
	return s.do(ctx, m, prepare.Name())
}

func (s *shop) price(ctx context.Context, m *weir.Message[job]) (job, error) {
	return m.Body, s.do(ctx, m, quote.Name())
}

func (s *shop) does(queue string) func(context.Context, *weir.Message[job]) error {
	return func(ctx context.Context, m *weir.Message[job]) error { return s.do(ctx, m, queue) }
}

const rotten = "rotten: no attempt mends it"

// do is what all handlers do: fail as they are told, or leave one row in effects.
func (s *shop) do(ctx context.Context, m *weir.Message[job], queue string) error {
	var err error
	s.begun.Do(func() { err = s.begin(ctx) })
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err() // a transaction that ends with it says otherwise
	case err != nil:
		return err
	}
	b := &m.Body
	switch {
	case b.Rotten:
		return weir.Permanent(errors.New(rotten))
	case b.At == queue && m.Attempt <= b.Fails:
		return fmt.Errorf("attempt %d fails", m.Attempt)
	}
	if err := s.deed(ctx, b.Deed, queue+m.ID); err != nil {
		return err
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (queue, message, tag, key, n, attempt, life)
			values (?, ?, ?, ?, ?, ?, ?)`, queue, m.ID, b.Tag, b.Key, b.N, m.Attempt, s.life)
		return err
	})
	return nil
}

// begin notes that this process handles from now on.
func (s *shop) begin(ctx context.Context) error {
	tx, err := s.tx(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `insert into begun select ?, coalesce(max(id), 0) from effects`, s.life); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// tx begins a transaction of the shop's own, however long a commit holds the file: it takes as long as the disk does.
func (s *shop) tx(ctx context.Context) (*sql.Tx, error) {
	const busy = 5 // SQLITE_BUSY
	for {
		tx, err := s.db.BeginTx(ctx, nil)
		if e, ok := errors.AsType[sqliteError](err); !ok || e.Code()&0xff != busy {
			return tx, err
		}
	}
}

// sqliteError is an error of SQLite's.
type sqliteError interface {
	error
	Code() int
}

// deed does to the process what a message is there to do.
func (s *shop) deed(ctx context.Context, deed, id string) error {
	wait := time.Duration(0)
	switch deed {
	case "":
		return nil
	case "exit": // as the operating system's out-of-memory killer is seen by a supervisor
		os.Exit(137)
	case "kill":
		die()
	case "not-yet":
		if _, known := s.seen.LoadOrStore(id, true); !known {
			return weir.NotYet("the oven is cold", time.Millisecond)
		}
		return nil
	case "gate": // whatever its context says
		s.gate.arrived <- ctx
		<-s.gate.opened
		return nil
	case "dawdle":
		wait = 2 * time.Millisecond
	case "slow": // longer than a suspect is waited for
		wait = 6500 * time.Millisecond
	case "long": // longer than a stop waits
		if !s.calm {
			return nil
		}
		wait = time.Minute
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gate holds handlers until it is opened.
type gate struct {
	arrived chan context.Context // of each handler that waits
	opened  chan struct{}
}

func newGate() *gate { return &gate{make(chan context.Context, 1), make(chan struct{})} }

// die ends this process as kill -9 does.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // what was sent arrives any moment
}

// rest waits until nothing is left to do, seeing to the dead meanwhile.
func (s *shop) rest(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-s.ran:
			s.ran <- err
			return errors.Join(errors.New("Run has returned before all was done"), err)
		case <-tick.C:
		}
		queues, err := s.eng.Queues(ctx, 0)
		if err != nil {
			return err
		}
		depth := int64(0)
		for i := range queues {
			depth += queues[i].Depth
		}
		acted := int64(0)
		if !s.alone && (depth == 0 || n%10 == 0) {
			if acted, err = s.attend(ctx); err != nil {
				return err
			}
		}
		if depth == 0 && acted == 0 && len(queues) > 0 {
			return nil
		}
	}
}

// attend is the person who sees to the dead: a rotten dish is mended and what was
// quarantined, since it was being worked when somebody killed the process three times, tried again.
func (s *shop) attend(ctx context.Context) (acted int64, err error) {
	letters, err := s.eng.Dead(ctx, weir.DeadQuery{Max: 1000})
	if err != nil {
		return 0, err
	}
	for _, l := range letters {
		of := weir.DeadSelection{Queue: l.Queue, ID: l.Message.ID}
		var done weir.Acted
		switch {
		case l.BehindID != "":
			continue // comes along
		case l.Queue == prepare.Name() && strings.Contains(l.Reason, rotten):
			done, err = s.mend(ctx, of)
		case l.Quarantined:
			done, err = s.eng.RetryDead(ctx, of, weir.Because{By: "test", Why: "the process was killed from outside"})
		}
		if err != nil {
			return acted, err
		}
		acted += done.Count
	}
	return acted, nil
}

// mend makes a rotten dish good and has it tried again.
func (s *shop) mend(ctx context.Context, of weir.DeadSelection) (weir.Acted, error) {
	found, err := s.eng.Dead(ctx, weir.DeadQuery{Queue: of.Queue, ID: of.ID})
	if err != nil || len(found) != 1 {
		return weir.Acted{}, errors.Join(err, fmt.Errorf("Dead(%s) = %d letters, want 1", of.ID, len(found)))
	}
	var dish job
	if err := json.Unmarshal(found[0].Message.Body, &dish); err != nil {
		return weir.Acted{}, err
	}
	dish.Rotten = false
	body, err := json.Marshal(dish)
	if err != nil {
		return weir.Acted{}, err
	}
	return s.eng.EditDead(ctx, of, body, weir.Because{By: "test", Why: "fresh food came"})
}

// sent sends what has these tags and says so before and after.
func (s *shop) sent(of string, tags string, send func() error) error {
	s.report.say("try %s %s", of, tags)
	if err := send(); err != nil {
		if !s.doubt {
			s.report.say("refuse %s %s", of, tags)
		}
		return err
	}
	s.report.say("ack %s %s", of, tags)
	return nil
}

// command sends a command.
func command[Out any](ctx context.Context, s *shop, c weir.Command[job, Out], b job, o ...weir.SendOption) error {
	return s.sent(c.Name(), b.Tag, func() error { return weir.Send(ctx, s.eng, c, b, o...) })
}

// own takes an order in a transaction of the shop's own, together with a row in orders.
func (s *shop) own(ctx context.Context, b job) error {
	return s.sent(takeOrder.Name(), b.Tag, func() error {
		return s.inOwn(ctx, b, (*sql.Tx).Commit)
	})
}

// void takes an order and thinks better of it.
func (s *shop) void(ctx context.Context, b job) error {
	s.report.say("void %s %s", takeOrder.Name(), b.Tag)
	return s.inOwn(ctx, b, (*sql.Tx).Rollback)
}

func (s *shop) inOwn(ctx context.Context, b job, end func(*sql.Tx) error) error {
	tx, err := s.tx(ctx)
	if err != nil {
		return ownError{err}
	}
	_, err = tx.ExecContext(ctx, `insert into orders (tag, lines, life) values (?, ?, ?)`, b.Tag, b.Lines, s.life)
	if err == nil {
		err = weir.Send(ctx, s.eng.In(sqlite.Tx(tx)), takeOrder, b)
	}
	if err != nil {
		return ownError{errors.Join(err, tx.Rollback())}
	}
	s.fuse.burn(ownEnd, false)
	if err := end(tx); err != nil {
		return ownError{err}
	}
	s.fuse.burn(ownEnd, true)
	return nil
}

// ownError is the failure of a transaction of the shop's own.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

// stopSignal is done when the parent asks for a stop.
func stopSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}
