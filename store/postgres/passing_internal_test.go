package postgres

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// passing is a pooler by transaction that tells its clients the number of one of the server's backends, as the server does.
type passing struct {
	lifo     bool // who was given back last is lent first
	mu       sync.Mutex
	given    sync.Cond
	free     []*pgconn.HijackedConn
	pids     []uint32 // told by turns
	told     atomic.Int64
	statuses map[string]string
	clients  sync.WaitGroup
}

// startPassing starts one with so many connections, and gives the DSN by which it is reached.
func startPassing(t *testing.T, connections int, lifo bool) string {
	t.Helper()
	p := &passing{lifo: lifo}
	p.given.L = &p.mu
	for range connections {
		c, err := pgconn.Connect(t.Context(), dsn(t))
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Conn.Close() })
		p.free, p.statuses = append(p.free, h), h.ParameterStatuses
		p.pids = append([]uint32{h.PID}, p.pids...) // as those who are lent first would be
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.clients.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.clients.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { // after the store is closed
		_ = l.Close()
		p.clients.Wait()
	})
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", l.Addr())
}

func (p *passing) take() (h *pgconn.HijackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.free) == 0 {
		p.given.Wait()
	}
	i := 0
	if p.lifo {
		i = len(p.free) - 1
	}
	h = p.free[i]
	p.free = append(p.free[:i:i], p.free[i+1:]...)
	return h
}

func (p *passing) give(h *pgconn.HijackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, h)
	p.given.Signal()
}

// serve serves a client until it leaves.
func (p *passing) serve(c net.Conn) {
	defer c.Close()
	client := pgproto3.NewBackend(c, c)
	if err := p.welcome(client); err != nil {
		return
	}
	var server *pgconn.HijackedConn
	defer func() {
		if server != nil { // the client left in the midst: its transaction is undone with the connection
			_ = server.Conn.Close()
		}
	}()
	for {
		m, err := client.Receive()
		if _, leaves := m.(*pgproto3.Terminate); leaves || err != nil {
			return
		}
		if server == nil {
			server = p.take()
		}
		server.Frontend.Send(m)
		_, sync := m.(*pgproto3.Sync)
		_, query := m.(*pgproto3.Query)
		if !sync && !query {
			continue
		}
		idle, err := answer(server.Frontend, client)
		if err != nil {
			return
		}
		if idle {
			p.give(server)
			server = nil
		}
	}
}

func (p *passing) welcome(client *pgproto3.Backend) error {
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return err
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range p.statuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: p.pids[int(p.told.Add(1)-1)%len(p.pids)], SecretKey: make([]byte, 4)})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return client.Flush()
}

// answer passes the server's answer on; idle: no transaction is open after it.
func answer(server *pgproto3.Frontend, client *pgproto3.Backend) (idle bool, err error) {
	if err := server.Flush(); err != nil {
		return false, err
	}
	for {
		m, err := server.Receive()
		if err != nil {
			return false, err
		}
		client.Send(m)
		if ready, ok := m.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus == 'I', client.Flush()
		}
	}
}

// A pooler is noticed, too, that passes on the numbers of the server's backends, as far as it lends them to others.
func TestPassingPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	for _, lifo := range []bool{false, true} {
		t.Run(fmt.Sprintf("lifo %t", lifo), func(t *testing.T) {
			t.Parallel()
			through := startPassing(t, 2, lifo)
			h := openHarness(t, nil).(*harness)
			opened, err := DB(through+"&pool_max_conns=2", Schema(h.schema))(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := opened.(*Store)
			defer func() { _ = s.Close() }()
			if s.direct {
				t.Error("the pooler is taken for the server")
			}
			sendNow(t, s)
			wantSettings(t, s, "through it")
		})
	}
}

// Who knows better says so.
func TestPoolerIsTold(t *testing.T) {
	t.Parallel()
	for mode, direct := range map[string]bool{"": true, "cache_statement": true, "cache_describe": false, "exec": false, "describe_exec": false} {
		h := openHarness(t, nil).(*harness)
		d := dsn(t)
		if mode != "" {
			d += " default_query_exec_mode=" + mode
		}
		opened, err := DB(d, Schema(h.schema))(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := opened.(*Store).direct; got != direct {
			t.Errorf("with default_query_exec_mode=%s the server is taken to be reached itself: %t, want %t", mode, got, direct)
		}
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}
}
