// Package postgres is weir's store in a schema of a PostgreSQL database, 14 or later.
//
// Any number of processes work it at once. The database may be the user's own, so
// that a handler's rows, or a sender's, commit together with the messages: see Tx,
// SQLTx, Pgx and SQL.
//
// # Many processes
//
// A process lives as long as it beats (Heartbeat). One that has not for a lease is
// lost: others mark it so, take its batches over with a higher epoch, and whatever it
// still does is refused. Unkeyed messages are claimed by whoever asks. Keyed ones are
// spread over 16 lanes by their key; a lane of a queue belongs to one process at a
// time (lanes.go), so that a key's messages are worked in order.
//
// # What commits out of turn
//
// Positions are drawn before the commit, so a lower one may become visible after a
// higher one was claimed. A queue's cursor is therefore a position and a snapshot; see
// cursor.go.
//
// # Transactions
//
// All run under READ COMMITTED, and what they need of the session's settings they make for
// themselves, so that PgBouncer may pool them by transaction. Only where nobody stands between us
// and the server are settings kept for the session (settings.go), and named prepared statements used,
// which a pooler may not know; else statements are planned each time.
// default_query_exec_mode in the DSN overrules that.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
)

// DB opens the store in the database that dsn names: a URL or keywords and values, as
// pgx takes them; pool_max_conns is among them.
func DB(dsn string, options ...Option) store.Opener {
	return func(ctx context.Context) (store.Store, error) {
		s, err := open(ctx, dsn, options)
		if err != nil {
			return nil, fmt.Errorf("open PostgreSQL store: %w", err)
		}
		return s, nil
	}
}

var _ store.Store = (*Store)(nil)

// Store is a store in one schema.
type Store struct {
	settings
	pool   *pgxpool.Pool
	direct bool          // there is no pooler between us and the server
	pulse  *pgxpool.Pool // one connection for heartbeats, so that no lease ends for want of one
	// aside is for what must be done while a connection is held: those who hold all of pool's
	// would wait for each other. What uses it holds one only, and needs no other; but for held.go, which leaves room.
	aside *pgxpool.Pool
	ear   *pgxpool.Pool // one connection, to listen on
	texts sync.Map      // statements by their text for the schema weir; of string to string

	closed  chan struct{}
	closing sync.Once

	process atomic.Int64 // given by Begin, 0 before it and after End
	mu      sync.Mutex   // orders Begin and End
	former  int64        // the process that this one was before Begin; under mu

	claiming sync.Map // of queue to *claimState
	watched  watchlist
	runs     runState
	changes  changes
	bell     bell
	tallied  atomic.Int64 // rows of weir.tally written since this process folded them
	senders  senders
	// heldApart has an entry for each commit of held.go.
	heldApart chan struct{}
	bounds    sync.Map     // which of the depths of a topic's queues senders have to know, as last seen; of name to bounds
	reach     atomic.Int64 // the partitions known to be there reach up to this seq
	// roomTried is when a partition was last tried to be made; nil: it was made.
	roomTried atomic.Pointer[time.Time]
	newest    atomic.Int64 // the highest seq that this process has committed
	known     atomic.Pointer[lives.Lives]
	reached   atomic.Int64 // a seq of the newest life known

	era atomic.Int64 // raised when connections of before are in doubt
	// life is the cluster and database that the store was opened in; "" until then.
	life atomic.Value
	// strange: the journal was restored, or failed over, and nobody has begun another life of it since.
	strange atomic.Bool
}

func open(ctx context.Context, dsn string, options []Option) (*Store, error) {
	s, err := meet(ctx, dsn, options)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(advise(err), s.Close())
	}
	if !s.existing {
		if err := s.makeRoom(ctx, 0); err != nil && !errors.Is(err, store.ErrUnavailable) {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// meet makes a store that is connected, and has not looked into the schema.
func meet(ctx context.Context, dsn string, options []Option) (*Store, error) {
	s := &Store{closed: make(chan struct{}), heldApart: make(chan struct{}, apartMost)}
	s.bell.wakes = make(chan struct{}, 1)
	if err := s.apply(options); err != nil {
		return nil, err
	}
	s.life.Store("")
	var err error
	if s.direct, err = s.await(ctx, dsn); err != nil {
		return nil, advise(err)
	}
	if s.pool, err = s.connect(ctx, dsn, poolMax, s.welcomeWorker); err != nil {
		return nil, err
	}
	if s.pulse, err = s.connect(ctx, dsn, 1, s.welcome); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.aside, err = s.connect(ctx, dsn, asideMax, s.welcome); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.ear, err = s.connect(ctx, dsn, 1, s.welcome); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) pools() []*pgxpool.Pool { return []*pgxpool.Pool{s.pool, s.pulse, s.aside, s.ear} }

// Close implements store.Store. What is under way is finished by those who do it.
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.deafen()
		gone := make(chan struct{})
		go func() { // waits for the connections in use
			defer close(gone)
			for _, p := range s.pools() {
				if p != nil {
					p.Close()
				}
			}
		}()
		timer := time.NewTimer(closeTime)
		defer timer.Stop()
		select {
		case <-gone:
		case <-timer.C:
		}
	})
	return nil
}

func (s *Store) checkOpen() error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
		return nil
	}
}

const (
	poolMax   = 12 // connections of one store, unless the DSN says otherwise; besides one for heartbeats, one to listen on, and asideMax
	asideMax  = 4
	closeTime = 2 * time.Second // that Close waits for connections in use
)
