package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/weir-go/weir/store"
)

// settingsNow is what a statement runs under.
const settingsNow = `select current_setting('enable_seqscan') || ' ' || current_setting('plan_cache_mode') || ' ' || current_setting('enable_sort')
	|| ' ' || current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout')
	|| ' ' || current_setting('jit')`

// oneConnection is a store with a connection for all its transactions.
func oneConnection(t *testing.T, dsn string) *Store {
	t.Helper()
	h := openHarness(t, nil).(*harness)
	opened, err := DB(dsn+" pool_max_conns=1", Schema(h.schema))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Store)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// under is what statements of a purpose run under.
func under(t *testing.T, s *Store, p purpose) (settings string) {
	t.Helper()
	synchronous := ""
	f := func(x *tx) error {
		x.ask(`select current_setting('synchronous_commit')`, func(read scan) error { return read(&synchronous) })
		return x.get(settingsNow, func(read scan) error { return read(&settings) })
	}
	var err error
	switch p {
	case reading:
		err = s.read(t.Context(), f)
	case writing:
		err = s.write(t.Context(), f)
	case claiming:
		err = s.claimTx(t.Context(), f)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p == writing && synchronous != "on" {
		t.Errorf("synchronous_commit is %s while it is written, want on", synchronous)
	}
	return settings
}

// left is what the connection is left with.
func left(t *testing.T, s *Store) (settings string, kept bool) {
	t.Helper()
	c, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	if err := c.QueryRow(t.Context(), settingsNow).Scan(&settings); err != nil {
		t.Fatal(err)
	}
	known := sessionAt(c.Conn().PgConn())
	return settings, known != nil && known.set
}

// wantSettings looks at what all kinds of transactions run under.
func wantSettings(t *testing.T, s *Store, when string) {
	t.Helper()
	limit := fmt.Sprintf("%[1]dms %[1]dms %[1]dms", (s.lease / 3).Milliseconds())
	if whole := int(s.lease.Seconds()) / 3; s.lease.Milliseconds()%3000 == 0 {
		limit = fmt.Sprintf("%[1]ds %[1]ds %[1]ds", whole)
	}
	for p, want := range map[purpose]string{reading: "on auto on", writing: "off force_generic_plan on", claiming: "off force_generic_plan off"} {
		want += " " + limit + " off"
		if got := under(t, s, p); got != want {
			t.Errorf("%s, settings of purpose %d are %q, want %q", when, p, got, want)
		}
	}
}

// Whatever a connection was used for before, what is run on it runs under the settings that it needs; and where
// the backend is ours alone they are made once.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := oneConnection(t, dsn(t))
	wantSettings(t, s, "on a connection that may be new")
	sendNow(t, s)
	if got, kept := left(t, s); !kept || got[:3] != "off" {
		t.Errorf("after a commit the session has %q, kept %t, want it set", got, kept)
	}
	wantSettings(t, s, "after a commit")
	for _, change := range []string{"set_config('enable_seqscan', 'on', false), set_config('statement_timeout', '0', false), set_config('synchronous_commit', 'off', false)",
		"set_config('enable_seqscan', 'on', true), set_config('lock_timeout', '0', true)"} {
		ch := &store.Change{Sends: keyed(1, ""), Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
			_, err := Pgx(tx).Exec(ctx, "select "+change)
			return err
		}}}
		if err := commitOne(t.Context(), s, ch); err != nil {
			t.Fatal(err)
		}
		if _, kept := left(t, s); kept {
			t.Error("a session that a closure had is taken for set")
		}
		wantSettings(t, s, "after a closure with "+change)
		sendNow(t, s)
		if _, kept := left(t, s); !kept {
			t.Error("a session that a closure had is not set again")
		}
	}
}

// What is not committed has set nothing.
func TestSettingsUndone(t *testing.T) {
	t.Parallel()
	s := oneConnection(t, dsn(t))
	s.pool.Reset()
	err := s.write(t.Context(), func(x *tx) error {
		x.quit = true
		return x.flush()
	})
	if got, kept := left(t, s); err != nil || kept || got[:2] != "on" {
		t.Errorf("after a transaction that was rolled back (%v) the session has %q, kept %t, want it as it began", err, got, kept)
	}
	wantSettings(t, s, "after it")
}

// What stands between us and the server has its connections back as they were, also where it is
// taken for the server.
func TestSettingsThroughPooler(t *testing.T) {
	t.Parallel()
	p := pooled(t)
	s := oneConnection(t, p.DSN("postgres", worker))
	for _, mistaken := range []bool{false, true} {
		if mistaken {
			c, err := s.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Conn().PgConn().CustomData()[sessionOf] = &session{}
			c.Release()
		}
		sendNow(t, s)
		if got, kept := left(t, s); kept || got[:2] != "on" {
			t.Errorf("through a pooler the session has %q, kept %t, want it as it began", got, kept)
		}
		wantSettings(t, s, "through a pooler")
	}
}
