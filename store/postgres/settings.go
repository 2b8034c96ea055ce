package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What statements of ours run under: limits, so that an owner that was stopped does not sit on its locks, and
// plans that find rows by an index. A pooler may give the connection to others with the next transaction, and may
// have had it from those who left synchronous_commit off: so all of it holds for a transaction alone. Where the
// backend is the one that we connected to, the first that writes makes it hold for the session: to make it anew
// costs as much as to write three messages. A closure may have changed it, so after one it is made again.

// purpose is what a transaction is for.
type purpose uint8

const (
	reading purpose = iota
	writing
	claiming
)

const (
	// The time, the transaction, and whether the process has been taken for lost. The server's own
	// configuration may change while a session lasts, so synchronous_commit is looked at each time.
	headFacts = `select coalesce($1::bigint, (extract(epoch from now()) * 1000000)::bigint),
		case when $3 then pg_current_xact_id()::text else '' end,
		coalesce((select lost_us is not null or ended_us is not null from weir.processes where id = $2), $2 <> 0),
		case when $4 and current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', true) else '' end`
	// Queries of ours are short; compiling them costs more than running them. $6: the backend that keeps what is set.
	headLimits = `, pg_postmaster_start_time()::text, pg_backend_pid(), set_config('jit', 'off', pg_backend_pid() <> $6)
			|| set_config('statement_timeout', $5, pg_backend_pid() <> $6)
			|| set_config('idle_in_transaction_session_timeout', $5, pg_backend_pid() <> $6) || set_config('lock_timeout', $5, pg_backend_pid() <> $6)`
	// What is written is found row by row, by an index. While a table is young the planner
	// would rather read the whole of it, and keeps to that when it has grown. A plan is made
	// once on a connection: for most of these statements that costs more than to run them. And it
	// would start processes beside ours, as soon as a backlog is large: they cost more than they do.
	headByIndex = ` || set_config('plan_cache_mode', 'force_generic_plan', pg_backend_pid() <> $6) || set_config('enable_seqscan', 'off', pg_backend_pid() <> $6)
			|| set_config('enable_bitmapscan', 'off', pg_backend_pid() <> $6) || set_config('enable_hashjoin', 'off', pg_backend_pid() <> $6)
			|| set_config('enable_mergejoin', 'off', pg_backend_pid() <> $6) || set_config('max_parallel_workers_per_gather', '0', pg_backend_pid() <> $6)`

	sqlHead      = headFacts + headLimits
	sqlWriteHead = sqlHead + headByIndex
	sqlShortHead = headFacts // where the session is set to the rest

	sqlByIndex = `select set_config('plan_cache_mode', 'force_generic_plan', true) || set_config('enable_seqscan', 'off', true)
		|| set_config('enable_bitmapscan', 'off', true) || set_config('enable_hashjoin', 'off', true)
		|| set_config('enable_mergejoin', 'off', true) || set_config('max_parallel_workers_per_gather', '0', true)`
	// All that a claim reads it reads in the order of an index, too: it would sort a whole backlog.
	sqlInOrder = sqlByIndex + ` || set_config('enable_sort', 'off', true)`
	// Null is what the session began with.
	sqlAnyPlan = `select set_config('plan_cache_mode', null, true), set_config('enable_seqscan', null, true), set_config('enable_bitmapscan', null, true),
		set_config('enable_hashjoin', null, true), set_config('enable_mergejoin', null, true), set_config('max_parallel_workers_per_gather', null, true)`
	// A closure's statements are planned as their author's session has it, not for ours.
	sqlTheirs = sqlAnyPlan + `, set_config('jit', null, true)`
	// And whatever it has set of this is not for ours: limits, the role (for the session, too), a commit that waits for no disk.
	sqlOurs = sqlByIndex + ` || set_config('jit', 'off', true) || set_config('role', null, false) || set_config('statement_timeout', $1, true)
		|| set_config('lock_timeout', $1, true) || set_config('idle_in_transaction_session_timeout', $1, true)
		|| case when $2 and current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', true) else '' end`
)

// limitSession has sessions begin with the limits of transactions, in what they are told as they begin. A statement is made ready
// before the transaction that it is for begins, and waits for whoever has its table locked, too. A pooler lets nobody tell that.
func (s *Store) limitSession(parameters map[string]string) {
	for _, limit := range []string{"statement_timeout", "lock_timeout"} {
		parameters[limit] = s.limit()
	}
	// What is run in no transaction of ours has the defaults, which a role or a database may have otherwise.
	parameters["default_transaction_isolation"], parameters["default_transaction_read_only"] = "read committed", "off"
}

// limit is how long a statement may take: a third of the lease, so that an owner that was stopped does not sit on its locks.
func (s *Store) limit() string { return fmt.Sprintf("%dms", (s.lease / 3).Milliseconds()) }

// For what bounds itself: a migration, a detaching.
const (
	sqlNoLimitHere = `select set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`
	sqlNoLimit     = `select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)`
	sqlLimit       = `select set_config('statement_timeout', null, false), set_config('lock_timeout', null, false)` // as the session began
)

// session is what is known of a connection that stays ours.
type session struct {
	set    bool
	server string // since when the server has run
}

const sessionOf = "weir.session" // in a connection's custom data, of *session

// welcomeWorker is welcome for connections that nothing but transactions that begin with head are run on.
func (s *Store) welcomeWorker(ctx context.Context, c *pgx.Conn) error {
	if s.direct {
		c.PgConn().CustomData()[sessionOf] = &session{}
	}
	return s.welcome(ctx, c)
}

// sessionAt is that of a connection, nil if others may have the connection, too.
func sessionAt(c *pgconn.PgConn) *session {
	known, _ := c.CustomData()[sessionOf].(*session)
	return known
}

// backend is the connection of a transaction of our own.
func (t *tx) backend() *pgconn.PgConn { return t.w.(copier).pgConn() }

// unsettle is called before a closure is lent the connection.
func (t *tx) unsettle() {
	t.settles = false
	if known := sessionAt(t.backend()); known != nil {
		known.set = false
	}
}

// head asks for what every transaction begins with.
func (t *tx) head(begin string, p purpose) {
	t.do(begin)
	conn := t.backend()
	known := sessionAt(conn)
	if known != nil && p == reading {
		defer t.do(sqlAnyPlan) // what the session was set to is for others
	}
	args := []any{t.s.clockNow(), t.process, p == writing, p == writing && !t.s.unsafe}
	if known != nil && known.set {
		t.server = known.server
		t.ask(sqlShortHead, func(read scan) error {
			var skip any
			return read(&t.now, &t.xid, &t.lost, &skip)
		}, args...)
		if p == claiming {
			t.do(sqlSortOff)
		}
		return
	}
	query, keeps := sqlHead, int32(0)
	if p == writing {
		query = sqlWriteHead
		if known != nil {
			keeps = int32(conn.PID())
		}
	}
	t.ask(query, func(read scan) error {
		var skip any
		var backend int32
		err := read(&t.now, &t.xid, &t.lost, &skip, &t.server, &backend, &skip)
		t.settles = keeps != 0 && backend == keeps
		return err
	}, append(args, t.s.limit(), keeps)...)
	if p == claiming {
		t.do(sqlInOrder)
	}
}

// settled notes that the transaction has committed.
func (t *tx) settled() {
	if t.settles {
		*sessionAt(t.backend()) = session{set: true, server: t.server}
	}
}

// ours ends what sqlTheirs begins. Statements of ours are made ready before those that are sent with them
// run, so it goes first, and alone.
func (t *tx) ours() error {
	t.do(sqlOurs, t.s.limit(), !t.s.unsafe)
	return t.flush()
}
