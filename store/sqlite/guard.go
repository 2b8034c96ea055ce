package sqlite

import (
	"strings"

	"zombiezen.com/go/sqlite"
)

// guard is asked when a statement is prepared on the writer connection. While
// the connection is lent to a closure, its statements may not end the
// transaction, change how the connection works, or write to the journal's
// tables: the counters of the transaction under way are in memory.
type guard struct{ c *conn }

// Authorize implements sqlite.Authorizer.
func (g guard) Authorize(a sqlite.Action) sqlite.AuthResult {
	if !g.c.lent {
		return sqlite.AuthResultOK
	}
	switch a.Type() {
	case sqlite.OpTransaction, sqlite.OpAttach, sqlite.OpDetach:
		return sqlite.AuthResultDeny
	case sqlite.OpPragma:
		return allowIf(harmlessPragmas[a.Pragma()])
	case sqlite.OpInsert, sqlite.OpUpdate, sqlite.OpDelete, sqlite.OpDropTable, sqlite.OpAlterTable:
		return allowIf(!ours(a.Table()))
	}
	return sqlite.AuthResultOK
}

func allowIf(yes bool) sqlite.AuthResult {
	if yes {
		return sqlite.AuthResultOK
	}
	return sqlite.AuthResultDeny
}

// harmlessPragmas only read, or last no longer than the transaction.
var harmlessPragmas = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true, "index_list": true, "index_info": true, "index_xinfo": true,
	"foreign_key_list": true, "foreign_key_check": true, "defer_foreign_keys": true,
}

// ours reports whether a table is the journal's.
func ours(table string) bool { return strings.HasPrefix(strings.ToLower(table), "weir_") }
