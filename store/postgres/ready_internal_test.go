package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// A statement that is made ready waits for a table that somebody has locked no longer than one that is run. Its error tells that it
// was the server which gave up, and not we who gave up the server.
func TestReadyIsLimited(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(t *testing.T, s *Store) error{
		"Commit": func(t *testing.T, s *Store) error {
			return s.Commit(t.Context(), &store.Group{Changes: []*store.Change{{Sends: keyed(1, "")}}})
		},
		"Queues": func(t *testing.T, s *Store) error {
			_, err := s.Reader().Queues(t.Context())
			return err
		},
		"Declare": func(t *testing.T, s *Store) error {
			_, err := s.Declare(t.Context(), nil, []store.Queue{cook()})
			return err
		},
		"declaring with a send": func(t *testing.T, s *Store) error {
			return s.declareUnknown(t.Context(), []store.Topic{{Name: "z", Kind: store.KindCommand}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := openHarness(t, nil).(*harness)
			opened, err := DB(dsn(t)+" pool_max_conns=1", Schema(h.schema), Lease(6*time.Second))(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := opened.(*Store)
			t.Cleanup(func() { _ = s.Close() })
			for _, p := range s.pools() { // nothing is ready on any connection
				p.Reset()
			}
			locked, err := h.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = locked.Rollback(t.Context()) }()
			if _, err := locked.Exec(t.Context(), inSchema(`lock table weir.topics, weir.queues in access exclusive mode`, h.schema)); err != nil {
				t.Fatal(err)
			}
			err = act(t, s)
			fault, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || fault.Code != lockNotAvailable && fault.Code != queryCanceled || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s beside a locked table = %v, want the server's %s or %s", name, err, lockNotAvailable, queryCanceled)
			}
		})
	}
}

// Who opens the store waits for a migration for longer than for other locks.
func TestMigrationIsNotLimited(t *testing.T) {
	t.Parallel()
	h := openHarness(t, nil).(*harness)
	migrating, err := h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = migrating.Rollback(t.Context()) }()
	lock := (&Store{settings: settings{schema: h.schema}}).lockNumber("schema")
	if _, err := migrating.Exec(t.Context(), sqlMigrationLock, lock); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := DB(dsn(t), Schema(h.schema), Lease(time.Second))(t.Context())
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	waitFor(t, "the other to wait", func() bool {
		var waits bool
		err := h.db.QueryRow(t.Context(), `select exists (select 1 from pg_locks where locktype = 'advisory' and not granted
			and (classid::bigint << 32 | objid::bigint) = $1)`, lock).Scan(&waits)
		return err == nil && waits
	})
	if _, err := migrating.Exec(t.Context(), `select pg_sleep(0.7)`); err != nil { // twice what a statement has
		t.Fatal(err)
	}
	if err := migrating.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("open beside a migration = %v, want nil", err)
	}
}

// Who only looks waits for no migration, and who may have to migrate not for ever: any role may take the lock.
func TestMigrationLockIsHeld(t *testing.T) {
	t.Parallel()
	h := openHarness(t, nil).(*harness)
	holder, err := h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.Background()) }()
	lock := (&Store{settings: settings{schema: h.schema}}).lockNumber("schema")
	if _, err := holder.Exec(t.Context(), sqlMigrationLock, lock); err != nil {
		t.Fatal(err)
	}
	s, err := DB(dsn(t), Schema(h.schema), Existing())(t.Context())
	if err != nil {
		t.Fatalf("open of what exists = %v, want nil", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if m, err := Plan(t.Context(), dsn(t), Roles{}, Schema(h.schema)); err != nil || m.From != m.To {
		t.Errorf("Plan() = %+v, %v, want nothing to do", m, err)
	}
	short := func(s *settings) { s.lockWait = 20 * time.Millisecond }
	if _, err := DB(dsn(t), Schema(h.schema), short)(t.Context()); err == nil || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "lock of the schema's migration") {
		t.Errorf("open by who may have to migrate = %v, want ErrUnavailable, and whose lock it is", err)
	}
}
