package postgres

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Arrays come to the server as the driver's own.
func TestArrays(t *testing.T) {
	t.Parallel()
	c, err := pgx.Connect(t.Context(), dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	codeArrays(c)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec} {
		for _, list := range [][][]byte{{}, nil, {{}}, {nil, []byte("a"), {}, {0, 255}, bytes.Repeat([]byte("long"), 3_000)}} {
			ints := make([]int64, len(list))
			for i := range ints {
				ints[i] = int64(i)*-7_000_000_000 + 1
			}
			if list == nil {
				ints = nil
			}
			var gotBytes [][]byte
			var gotInts []int64
			var none, holes bool
			err := c.QueryRow(t.Context(), "select $1::bytea[], $2::bigint[], $1::bytea[] is null, array_position($1::bytea[], null) is not null", mode, list, ints).
				Scan(&gotBytes, &gotInts, &none, &holes)
			if err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
			if none != (list == nil) || holes != slices.ContainsFunc(list, func(b []byte) bool { return b == nil }) {
				t.Errorf("%s: of %q the server says that it is null: %t, has null: %t", mode, list, none, holes)
			}
			if !slices.Equal(gotInts, ints) || !slices.EqualFunc(gotBytes, list, bytes.Equal) {
				t.Errorf("%s: %q and %v came back as %q and %v", mode, list, ints, gotBytes, gotInts)
			}
		}
	}
}
