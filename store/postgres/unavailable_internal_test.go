package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

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
		{&pgconn.PgError{Code: "57014"}, true}, // a limit of ours, on the server
		{&pgconn.PgError{Code: "55P03"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{fmt.Errorf("%w: standby", store.ErrUnavailable), true},

		{&pgconn.PgError{Code: "28P01"}, false},                                // wrong password
		{errors.Join(&pgconn.PgError{Code: "3D000"}, refused), false},          // no such database
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
