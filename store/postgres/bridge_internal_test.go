package postgres

import (
	"context"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/weir-go/weir/store"
)

// A closure reads by database/sql just what it would read by the driver of pgx.
func TestSQLValues(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	config, err := pgx.ParseConfig(dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	values := []string{
		`'{"b": [1, 2], "a": "x"}'::jsonb`, `'{"b":[1,2], "a":"x"}'::json`, `'{1,2,null}'::int[]`, `'{"a b",c}'::text[]`, `'{t,f}'::bool[]`, `'1 day 2 hours'::interval`, `1.50::numeric`,
		`'NaN'::numeric`, `'00112233-4455-6677-8899-aabbccddeeff'::uuid`, `'2024-02-03 04:05:06.789+02'::timestamptz`, `'2024-02-03 04:05:06.789'::timestamp`, `'infinity'::timestamptz`,
		`'2024-02-03'::date`, `'infinity'::date`, `'04:05:06.7'::time`, `'04:05:06+02'::timetz`, `'10.0.0.1'::inet`, `'10.0.0.0/8'::cidr`, `'08:00:2b:01:02:03'::macaddr`, `'q'::"char"`, `5::oid`,
		`'77'::xid`, `'77'::xid8`, `row(1, 'a')`, `'(1,2)'::point`, `int4range(1, 3)`, `'\x4100'::bytea`, `b'101'`, `1::int2`, `2::int4`, `3::int8`, `1.5::float4`, `0.1::float8`, `true`, `'x'::text`,
		`'y'::varchar(9)`, `'z'::char(3)`, `'n'::name`, `'<a/>'::xml`, `'12.34'::money`, `'a:1'::tsvector`, `'pg_class'::regclass`, `null::int`, `null::jsonb`, `null::text`, `null`,
	}
	ch := &store.Change{Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
		own := SQL(tx)
		for _, v := range values {
			for _, into := range []func() any{func() any { return new(any) }, func() any { return new(string) }, func() any { return new([]byte) }} {
				got, want := into(), into()
				gotErr := own.QueryRowContext(ctx, "select "+v).Scan(got)
				wantErr := db.QueryRowContext(ctx, "select "+v).Scan(want)
				if !reflect.DeepEqual(got, want) || (gotErr == nil) != (wantErr == nil) {
					t.Errorf("select %s into a %T = %#v, %v, want %#v, %v", v, got, reflect.ValueOf(got).Elem(), gotErr, reflect.ValueOf(want).Elem(), wantErr)
				}
			}
		}
		rows, err := own.QueryContext(ctx, "select n as a, n * 2 as b from generate_series(1, $1::int) n", 3)
		if err != nil {
			return err
		}
		names, err := rows.Columns()
		sum := 0
		for rows.Next() {
			var a, b int
			if err := rows.Scan(&a, &b); err != nil {
				return err
			}
			sum += 10*a + b
		}
		if sum != 72 || err != nil || !reflect.DeepEqual(names, []string{"a", "b"}) {
			t.Errorf("three rows of %q sum up to %d, %v, want 72 of a and b", names, sum, err)
		}
		_, err = own.ExecContext(ctx, "savepoint here")
		if _, failed := own.QueryContext(ctx, "select 1 / 0"); failed == nil {
			t.Error("select 1 / 0 = nil, want an error of the query")
		}
		if err == nil {
			_, err = own.ExecContext(ctx, "rollback to savepoint here")
		}
		return err
	}}}
	if err := commitOne(t.Context(), s[0], ch); err != nil {
		t.Errorf("Commit() = %v, want nil", err)
	}
}
