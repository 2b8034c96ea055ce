package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"runtime"

	driver "modernc.org/sqlite"

	"github.com/weir-go/weir/store"
	zombiezen "zombiezen.com/go/sqlite"
)

// kind is this adapter's name.
const kind = "sqlite"

// callersTx is a transaction that the caller began on the store's file.
type callersTx struct{ tx *sql.Tx }

func (callersTx) StoreKind() string { return kind }

// Tx lets messages be appended in the caller's own transaction on the store's
// file: eng.In(sqlite.Tx(tx)). The driver may be any, but in one process it must
// be the library this package uses, see OpenDB. Nobody else can commit to the
// file while the transaction is open: keep it short, and begin it as a write
// transaction (as OpenDB's are), or SQLite refuses the append when somebody else
// has committed since it began.
func Tx(tx *sql.Tx) store.Tx { return callersTx{tx} }

// ownTx is the engine's transaction, lent to a closure.
type ownTx struct {
	c   *conn
	ctx context.Context // the closure's, which ends with it
	tx  *sql.Tx
	// over is set when the closure has returned.
	over bool
}

func (*ownTx) StoreKind() string { return kind }

// SQL is the transaction behind tx. In a closure it is the engine's: what is
// written through it commits with the acknowledgement, or not at all. It ends
// with the closure, and only the engine may commit it or roll it back.
//
// SQL panics when tx is another store's, or its closure has returned: both are
// mistakes in the program, and a closure's panic refuses its change.
func SQL(tx store.Tx) *sql.Tx {
	switch tx := tx.(type) {
	case callersTx:
		return tx.tx
	case *ownTx:
		sqlTx, err := tx.open()
		if err != nil {
			panic(fmt.Errorf("sqlite.SQL: %w", err))
		}
		return sqlTx
	}
	panic(fmt.Errorf("sqlite.SQL: transaction of type %T is not of this store", tx))
}

func (t *ownTx) open() (*sql.Tx, error) {
	switch {
	case t.over:
		return nil, errors.New("the closure has returned, and its transaction ended with it")
	case t.tx != nil:
		return t.tx, nil
	}
	if t.c.bridge == nil {
		t.c.bridge = newBridge(t.c)
	}
	var err error
	t.tx, err = t.c.bridge.begin(t.ctx)
	return t.tx, err
}

// end takes the transaction back from the closure.
func (t *ownTx) end() error {
	t.over = true
	if t.tx == nil {
		return nil
	}
	return t.c.bridge.end(t.ctx, t.tx)
}

// OpenDB opens a pool of connections for the user's own tables in the store's
// file, with the settings that the store relies on: WAL, synchronous=FULL,
// foreign keys, a wait of 5 s for locks, and transactions that begin by taking
// the write lock. Times are stored as text, "2006-01-02 15:04:05.999999999-07:00".
//
// Use this, or modernc.org/sqlite with the same settings, rather than another
// SQLite library in the same process: each would drop the other's POSIX locks on
// the file, and both could then write at once and destroy it.
func OpenDB(path string) (*sql.DB, error) {
	if err := checkVersion(zombiezen.Version); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkFile(path, true); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	pragmas := []string{"busy_timeout(5000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(on)", "trusted_schema(off)"}
	if runtime.GOOS == "darwin" {
		pragmas = append(pragmas, "fullfsync(on)")
	}
	query := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}, "_time_format": {"sqlite"}}
	name := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}
	connector, err := driver.NewConnector(name.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return sql.OpenDB(patient{connector}), nil
}
