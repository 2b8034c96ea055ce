package postgres

import (
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// callersPgx and callersSQL are transactions that the caller began on the store's database.
type (
	callersPgx struct{ tx pgx.Tx }
	callersSQL struct{ tx *sql.Tx }
)

func (callersPgx) StoreKind() string { return kind }
func (callersSQL) StoreKind() string { return kind }

// Tx lets messages be appended in the caller's own transaction on the store's
// database: eng.In(postgres.Tx(tx)). While the transaction is open, other senders of
// the keys, and of the deduplication keys, that it has sent with wait for its end:
// keep it short. It should run under READ COMMITTED.
func Tx(tx pgx.Tx) store.Tx { return callersPgx{tx} }

// SQLTx is Tx for a transaction of database/sql, by the driver of pgx (package
// github.com/jackc/pgx/v5/stdlib).
func SQLTx(tx *sql.Tx) store.Tx { return callersSQL{tx} }

// ownTx is the engine's transaction, lent to a closure.
type ownTx struct {
	tx pgx.Tx
	// over is set when the closure has returned.
	over bool
}

func (*ownTx) StoreKind() string { return kind }

// Pgx is the transaction behind tx. In a closure it is the engine's: what is written
// through it commits with the acknowledgement, or not at all. It ends with the closure,
// and only the engine may commit it or roll it back.
//
// Pgx panics when tx is another store's, or its closure has returned: both are
// mistakes in the program, and a closure's panic refuses its change.
func Pgx(tx store.Tx) pgx.Tx {
	switch tx := tx.(type) {
	case callersPgx:
		return tx.tx
	case *ownTx:
		if tx.over {
			panic(fmt.Errorf("postgres.Pgx: the closure has returned, and its transaction ended with it"))
		}
		return tx.tx
	}
	panic(fmt.Errorf("postgres.Pgx: transaction of type %T is not one of pgx of this store", tx))
}
