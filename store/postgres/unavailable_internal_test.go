package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// Errors of a server that cannot be reached match ErrUnavailable, and no others do.
func TestOutage(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{refused, true},
		{fmt.Errorf("connect: %w", errors.Join(errors.New("server refused TLS connection"), refused)), true},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, true},
		{&net.OpError{Op: "dial", Net: "unix", Err: syscall.ENOENT}, true},
		{&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}, true},
		{fmt.Errorf("receive message: %w", io.ErrUnexpectedEOF), true},
		{io.EOF, true},
		{pgconn.ErrConnClosed, true},
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "57P02"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "08006"}, true},
		{&pgconn.PgError{Code: "08P01"}, true},
		{&pgconn.PgError{Code: "53300"}, true},
		{&pgconn.PgError{Code: "25P03"}, true},
		{&pgconn.PgError{Code: "25P04"}, true},
		{&pgconn.PgError{Code: "53100"}, true}, // disk full
		{&pgconn.PgError{Code: "53200"}, true}, // out of memory
		{&pgconn.PgError{Code: "57014"}, true}, // a limit of ours, on the server
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "55P03"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{fmt.Errorf("%w: standby", store.ErrUnavailable), true},

		{&pgconn.PgError{Code: "28P01"}, false},                                // wrong password
		{errors.Join(&pgconn.PgError{Code: "3D000"}, refused), false},          // no such database
		{&pgconn.PgError{Code: "53400"}, false},                                // more than is allowed
		{&pgconn.PgError{Code: "57P04"}, false},                                // the database was dropped
		{&pgconn.PgError{Code: "58030"}, false},                                // its disk is broken
		{&pgconn.PgError{Code: "23505"}, false},                                // unique violation
		{&pgconn.PgError{Code: "22001"}, false},                                // too long
		{&pgconn.PgError{Code: "25P02"}, false},                                // a statement failed before
		{&pgconn.PgError{Code: "42P01"}, false},                                // no such table
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad")}, false}, // our certificate is refused
		{errors.New("anything"), false},
		{store.ErrLeaseLost, false},
	} {
		got := outage(t.Context(), c.err)
		if errors.Is(got, store.ErrUnavailable) != c.want || !errors.Is(got, c.err) {
			t.Errorf("outage(%v) = %v, matches ErrUnavailable: %t, want %t", c.err, got, !c.want, c.want)
		}
	}
	if err := outage(t.Context(), nil); err != nil {
		t.Errorf("outage(nil) = %v, want nil", err)
	}
}

// A caller who no longer waits is no outage; a server that does not answer in our own time is.
func TestOutageOfContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := outage(ctx, context.DeadlineExceeded); errors.Is(err, store.ErrUnavailable) {
		t.Errorf("outage() of a caller's own end = %v, want it not to match ErrUnavailable", err)
	}
	ours, stop := limited(ctx, 0)
	defer stop()
	if err := outage(ours, context.DeadlineExceeded); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("outage() of our own limit = %v, want ErrUnavailable", err)
	}
}

// What the server itself says where it is too slow, or others are in the way, can be tried again: it has written
// nothing, and the same call is right afterwards. What is wrong with a statement is told as it is.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	h, s, _ := processes(t, 1, Lease(time.Second)) // statements may take a third of that
	pause := store.Act{Verb: store.PauseQueue, Queue: cook().Name, By: "ada", Why: "because"}
	holder, err := h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), inSchema(`select 1 from weir.queues for update`, h.schema)); err != nil {
		t.Fatal(err)
	}
	_, err = s[0].Operate(t.Context(), pause)
	if fault, ok := errors.AsType[*pgconn.PgError](err); !errors.Is(err, store.ErrUnavailable) || !ok || fault.Code != queryCanceled && fault.Code != lockNotAvailable {
		t.Errorf("Operate() while another holds its row = %v, want ErrUnavailable, with what the server says", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s[0].Operate(t.Context(), pause); err != nil {
		t.Errorf("Operate() once more = %v, want nil", err)
	}
	for query, want := range map[string]bool{"select pg_sleep(60)": true, "select 1/0": false, "select nothing": false} {
		err := s[0].write(t.Context(), func(tx *tx) error {
			tx.do(query)
			return tx.flush()
		})
		if errors.Is(err, store.ErrUnavailable) != want || err == nil {
			t.Errorf("%s = %v, matches ErrUnavailable: %t, want %t", query, err, !want, want)
		}
	}
}
