package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
	"github.com/weir-go/weir/store/storetest"
)

// dsnVariable names a server to test on; else one is started for the tests.
const dsnVariable = "WEIR_TEST_POSTGRES"

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if err := sideBySide(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv(dsnVariable) != "" {
		return m.Run()
	}
	server, err := startServer()
	if err == nil {
		err = os.Setenv(dsnVariable, server.DSN("postgres"))
	}
	if err != nil {
		if !errors.Is(err, pgtest.ErrNoBinaries) || os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run() // each test says why it is skipped
	}
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// startServer starts the tests' server, for proofs under load on disk.
func startServer() (*pgtest.Server, error) {
	if os.Getenv(loadVariable) != "" {
		return pgtest.Start(context.Background())
	}
	return pgtest.StartInMemory(context.Background())
}

// sideBySide has more tests run at once than there are processors, unless told otherwise:
// they mostly wait for the server.
func sideBySide() error {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if told {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(min(3*runtime.GOMAXPROCS(0), 12)))
}

// dsn is the server to test on.
func dsn(t testing.TB) string {
	t.Helper()
	d := os.Getenv(dsnVariable)
	if d == "" {
		t.Skipf("no PostgreSQL: set %s, or install the server's binaries", dsnVariable)
	}
	return d
}

func TestLaws(t *testing.T) { storetest.Run(t, openHarness) }

// spare holds schemas of laws that are over, emptied: to make one takes longer than most laws.
// users is the connections of the laws' users, of all laws: those of one would be begun for a
// statement or two.
var (
	spare   = make(chan string, 64)
	schemas atomic.Int64
	users   = sync.OnceValues(func() (*pgxpool.Pool, error) {
		return pgxpool.New(context.Background(), os.Getenv(dsnVariable)+" pool_max_conns=48")
	})
)

// harness is a schema with a table of the user's own beside the journal.
type harness struct {
	t      testing.TB
	open   store.Opener
	db     *pgxpool.Pool
	schema string
	spent  bool // the schema is not for others: what was done in it shows
}

func openHarness(t testing.TB, now func() time.Time) storetest.Harness {
	t.Helper()
	return harnessIn(t, now, spareSchema)
}

// openUnused is openHarness for tests that count blocks: in tables that were emptied, rows lie wherever there is room.
func openUnused(t testing.TB) *harness {
	t.Helper()
	return harnessIn(t, nil, newSchema)
}

func harnessIn(t testing.TB, now func() time.Time, schema func(testing.TB, *pgxpool.Pool) string) *harness {
	t.Helper()
	server := dsn(t)
	db, err := users()
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, db: db, schema: schema(t, db)}
	t.Cleanup(func() {
		if err := h.empty(context.Background()); err != nil || h.spent {
			if err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case spare <- h.schema:
		default:
		}
	})
	if now == nil {
		h.birth(time.Now())
	} else {
		h.birth(now())
	}
	// What parallel laws open together stays far below the server's limit.
	h.open = DB(server+" pool_max_conns=6 user="+worker+" password="+worker, Schema(h.schema), Clock(now))
	return h
}

// worker is the role that the laws hold for: it owns nothing.
const (
	worker    = "weir_test_worker"
	sqlWorker = `do $$ begin create role weir_test_worker login password 'weir_test_worker'; grant pg_read_all_stats to weir_test_worker; exception when duplicate_object or unique_violation then null; end $$`
)

func spareSchema(t testing.TB, db *pgxpool.Pool) string {
	t.Helper()
	select {
	case schema := <-spare:
		return schema
	default:
		return newSchema(t, db)
	}
}

func newSchema(t testing.TB, db *pgxpool.Pool) string {
	t.Helper()
	schema := fmt.Sprintf("t%d_%d", os.Getpid(), schemas.Add(1))
	for _, q := range []string{sqlWorker, "create schema " + schema, "create table " + schema + ".notes (n bigserial, word text not null)",
		"create table " + schema + ".debts (n bigserial primary key, owed bigint references " + schema + ".debts deferrable initially deferred)"} {
		if _, err := db.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Migrate(t.Context(), dsn(t), Roles{Worker: worker}, Schema(schema)); err != nil {
		t.Fatal(err)
	}
	return schema
}

// emptyTime bounds the emptying of a schema: a test that failed may have left a transaction open.
const emptyTime = 2 * time.Minute

// sqlTables lists the tables of a schema but for those that a new journal has rows in;
// tables that refer to others come before them.
const sqlTables = `select string_agg(format('delete from %I.%I;', $1::text, relname), ' ' order by oid desc) from pg_class
	where relnamespace = $1::regnamespace and relkind in ('r', 'p') and not relispartition and relname not in ('meta', 'folds')`

// empty empties the schema, so that the next store in it is a new one; or drops it.
func (h *harness) empty(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, emptyTime)
	defer cancel()
	if h.spent {
		_, err := h.db.Exec(ctx, "drop schema "+h.schema+" cascade")
		return err
	}
	var text string
	if err := h.db.QueryRow(ctx, sqlTables, h.schema).Scan(&text); err != nil {
		return err
	}
	_, err := h.db.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol)
	return err
}

// sqlBirth makes a journal's life begin at a law's time.
const sqlBirth = `delete from weir.lives; insert into weir.lives (first, incarnation, base) select last_value + 1, '%s', %d - last_value from weir.seq`

func (h *harness) birth(now time.Time) {
	h.t.Helper()
	_, err := h.db.Exec(h.t.Context(), fmt.Sprintf(inSchema(sqlBirth, h.schema), newIncarnation(), us(now)), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) Open(ctx context.Context) (store.Store, error) { return h.open(ctx) }

// Crash takes the process for lost, as others do once it has not beaten for a lease.
func (h *harness) Crash(s store.Store) {
	_, err := h.db.Exec(context.Background(), "update "+h.schema+".processes set lost_us = 1 where id = $1", s.(*Store).process.Load())
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) Begin(ctx context.Context) (storetest.Own, error) {
	tx, err := h.db.Begin(ctx)
	if err != nil {
		return storetest.Own{}, err
	}
	return storetest.Own{
		Tx:     Tx(tx),
		Commit: func() error { return tx.Commit(ctx) }, Rollback: func() error { return tx.Rollback(ctx) },
	}, nil
}

func (h *harness) Note(ctx context.Context, tx store.Tx, word string) error {
	_, err := Pgx(tx).Exec(ctx, "insert into "+h.schema+".notes (word) values ($1)", word)
	return err
}

func (h *harness) Owe(ctx context.Context, tx store.Tx) error {
	_, err := Pgx(tx).Exec(ctx, "insert into "+h.schema+".debts (owed) values (404)")
	return err
}

func (h *harness) Notes(ctx context.Context) ([]string, error) {
	rows, err := h.db.Query(ctx, "select word from "+h.schema+".notes order by n")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
