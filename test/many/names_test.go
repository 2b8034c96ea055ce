package many

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/transport/jetstream"
)

// Whatever is wrong with a database's address, or a broker's, the error does not show the password in it.
func TestPasswordsAreNotTold(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	for _, dsn := range []string{
		"host=127.0.0.1 port=1 user=ann password=hunter2 dbname=orders",
		"host=127.0.0.1 port=one user=ann password=hunter2 dbname=orders",
		"host=127.0.0.1 port=1 user=ann password='hunter2 dbname=orders",
		"host=127.0.0.1 port=1 user=ann password=hunter2 dbname=orders pool_max_conns=many",
		"postgres://ann:hunter2@127.0.0.1:1/orders",
		"postgres://ann:%zzhunter2@127.0.0.1:1/orders",
		"postgres://ann:a/hunter2@127.0.0.1:1/orders",
		"postgres://ann:a hunter2@127.0.0.1:1/orders",
		"postgres://ann:hunter2@127.0.0.1:port/orders",
		"postgres://ann:hunter2@127.0.0.1:1/orders?pool_max_conns=many",
		"postgres://ann:hunter2@127.0.0.1:1/orders?default_query_exec_mode=simple_protocol",
		"postgres://ann:hunter2@127.0.0.1:1/orders?default_query_exec_mode=none",
		"postgres://ann:hunter2@127.0.0.1:1/orders?sslmode=perhaps",
		"postgres://ann@127.0.0.1:1/orders?password=hunter2",
		"postgres://127.0.0.1:port/orders?user=ann&password=hunter2",
	} {
		_, err := weir.Open(t.Context(), postgres.DB(dsn, postgres.Existing()), weir.Config{})
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Open(%s) = %v, want an error without the password", dsn, err)
		}
	}
	for _, server := range []string{
		"nats://ann:hunter2@127.0.0.1:4222", "nats://ann:%zzhunter2@127.0.0.1:4222", "nats://ann:hunter2@:4222",
		"tls://ann:a/hunter2@broker:4222", "http://ann:hunter2@127.0.0.1:4222", "ann:hunter2@127.0.0.1:4222", "hunter2@127.0.0.1:4222",
	} {
		wire, err := jetstream.Open(jetstream.Config{Servers: []string{server}, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("Open(%s) = nil, want an error", server)
			_ = wire.Close()
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("Open(%s) = %v, want an error without the password", server, err)
		}
	}
}

// A store that is open tells its place without the password; so does its log.
func TestPlaceIsToldWithoutPassword(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	_, schema := poolOf(t, dsn)
	log := &spool{}
	eng, err := weir.Open(t.Context(), postgres.DB(dsn+" password=hunter2", postgres.Schema(schema)),
		weir.Config{Owns: []string{"house"}, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- eng.Run(ctx) }()
	<-eng.Ready()
	if at := eng.StoreInfo().Name; at == "" || strings.Contains(at, "hunter2") {
		t.Errorf("StoreInfo().Name = %q, want a place without the password", at)
	}
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if err := eng.Close(); err != nil {
		t.Error(err)
	}
	if said := log.String(); !strings.Contains(said, "weir runs") || strings.Contains(said, "hunter2") {
		t.Errorf("the log says %s, want it without the password", said)
	}
}

// The name of a schema is one, or the store is refused before anything is asked of the server.
func TestSchemaNames(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, _ := poolOf(t, dsn)
	schemas := func() (n int) {
		if err := db.QueryRow(t.Context(), "select count(*) from pg_namespace").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := schemas()
	for _, name := range []string{
		"", "Weir", "1weir", "we-ir", "we.ir", "we ir", `we"ir`, "we'ir", "weir;drop schema public", "weir\x00", "wéir", "\xff",
		strings.Repeat("w", 42), "weir\n", "$weir", "weir--",
	} {
		for what, err := range map[string]error{
			"Open":    openAndClose(t, postgres.DB(dsn, postgres.Schema(name))),
			"Migrate": migrates(t, dsn, name),
		} {
			if err == nil || !strings.Contains(err.Error(), "schema") || !strings.Contains(err.Error(), "want lower-case letters") {
				t.Errorf("%s in schema %q = %v, want an error that says which names there are", what, name, err)
			}
		}
	}
	if after := schemas(); after != before {
		t.Errorf("%d schemas, want %d: none was made", after, before)
	}
	for _, name := range []string{"select", "_", "user", strings.Repeat("w", 41)} { // words of SQL, too
		if err := openAndClose(t, postgres.DB(dsn, postgres.Schema(name))); err != nil {
			t.Errorf("Open in schema %q = %v, want nil", name, err)
		}
		if _, err := db.Exec(t.Context(), `drop schema "`+name+`" cascade`); err != nil {
			t.Error(err)
		}
	}
}

func migrates(t *testing.T, dsn, schema string) error {
	_, err := postgres.Migrate(t.Context(), dsn, postgres.Roles{}, postgres.Schema(schema))
	return err
}

func openAndClose(t *testing.T, open store.Opener) error {
	st, err := open(t.Context())
	if err != nil {
		return err
	}
	return st.Close()
}
