package main

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// On PostgreSQL there are the same figures, and no schema is left.
func TestBenchPostgres(t *testing.T) {
	t.Parallel()
	at := server(t)
	var queue benchResult
	benchmark(t, &queue, "queue", "--store", at, "--messages", "10000", "--backlog", "10000", "--latency", "0.2")
	var flow workflowResult
	benchmark(t, &flow, "workflow", "--store", at, "--smoke")
	if queue.Settings.Store != "postgres" || flow.Settings.Store != "postgres" {
		t.Errorf("weir bench --store %s measured %s and %s", at, queue.Settings.Store, flow.Settings.Store)
	}
	c, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	var left []string
	err = c.QueryRow(t.Context(), `select coalesce(array_agg(nspname::text), '{}') from pg_namespace where nspname like 'weir%'`).Scan(&left)
	if err != nil || len(left) != 0 {
		t.Errorf("schemas left: %v, %v, want none", left, err)
	}
}
