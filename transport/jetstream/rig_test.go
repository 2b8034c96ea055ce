package jetstream_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/transporttest"
)

// patience is for what must come, on a machine that has much else to do. It only guards against hanging.
const patience = 5 * time.Minute

// answer is how long a broker that is there may take to answer; one that is away is noticed by its connection.
const answer = time.Minute

func TestMain(m *testing.M) {
	if !brokertest.Main() {
		brokertest.Verify(m)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// server is a broker that a rig can end, wipe and start. It connects nobody while it does not run.
type server interface {
	Start()
	Kill()
	Wipe()
	nats.InProcessConnProvider
}

// rig is one broker with the processes that use it.
type rig struct {
	server
	settings transporttest.Settings

	mu    sync.Mutex
	lines map[transport.Transport]*line
}

func newRig(s transporttest.Settings, srv server) *rig {
	return &rig{server: srv, settings: s, lines: map[transport.Transport]*line{}}
}

func openInProcess(t testing.TB, s transporttest.Settings) *rig {
	return newRig(s, brokertest.Serve(t))
}

func openChild(t testing.TB, s transporttest.Settings) *rig {
	return newRig(s, brokertest.Begin(t))
}

// line is one process's way to the broker. It can be cut for good.
type line struct {
	server server
	mu     sync.Mutex
	cut    bool
	conns  []net.Conn
}

// InProcessConn dials; nats.go asks for it each time it connects.
func (l *line) InProcessConn() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("this process is dead")
	}
	c, err := l.server.InProcessConn()
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (r *rig) config(l *line) jetstream.Config {
	return jetstream.Config{InProcess: l, Capacity: int64(r.settings.Capacity), Redeliver: r.settings.Redeliver, Timeout: answer, Log: quiet()}
}

func (r *rig) Open(context.Context) (transport.Transport, error) {
	l := &line{server: r.server}
	w, err := jetstream.Open(r.config(l))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[w] = l
	return w, nil
}

func (r *rig) Foreign(_ context.Context, boundary string, h transport.Header, body []byte) error {
	nc, err := nats.Connect("", nats.InProcessServer(&line{server: r.server}), nats.Timeout(answer))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(answer))
	if err == nil {
		_, err = js.PublishMsg(&nats.Msg{Subject: "weir." + boundary + ".in.till", Header: nats.Header(h), Data: body})
	}
	return err
}

func (r *rig) Crash(w transport.Transport) {
	r.mu.Lock()
	l := r.lines[w]
	r.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}
