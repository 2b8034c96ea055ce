package jetstream

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/weir-go/weir/transport"
)

const (
	noteFrom = "weir-from"
	noteKind = "weir-kind"
)

func notesOf(boundary string) string { return "weir." + boundary + ".notes" }

// Notify implements transport.Transport.
func (t *Transport) Notify(ctx context.Context, to string, n transport.Note) error {
	if err := t.ready(ctx, to); err != nil {
		return err
	}
	if err := n.Check(); err != nil {
		return err
	}
	if err := t.connected(); err != nil {
		return fmt.Errorf("notify %s: %w", to, err)
	}
	m := &nats.Msg{Subject: notesOf(to), Header: nats.Header{noteFrom: {n.From}, noteKind: {n.Kind}}, Data: n.Body}
	if err := t.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("notify %s: %w", to, t.outcome(ctx, err))
	}
	return nil
}

// ear is one who hears the notes of a boundary.
type ear struct {
	t    *Transport
	sub  *nats.Subscription
	hear func(transport.Note)

	mu      sync.Mutex // held while hear runs
	stopped bool
}

// Listen implements transport.Transport.
func (t *Transport) Listen(ctx context.Context, boundary string, hear func(transport.Note)) (func(), error) {
	if err := t.ready(ctx, boundary); err != nil {
		return nil, err
	}
	e := &ear{t: t, hear: hear}
	var err error
	if e.sub, err = t.nc.Subscribe(notesOf(boundary), e.note); err != nil {
		return nil, fmt.Errorf("listen for %s: %w", boundary, t.outcome(ctx, err))
	}
	if err := e.sub.SetPendingLimits(transport.MaxNotes, -1); err != nil {
		return nil, fmt.Errorf("listen for %s: %w", boundary, t.outcome(ctx, err))
	}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.ears[e] = true
	}
	t.mu.Unlock()
	if closed {
		e.stop()
		return nil, transport.ErrClosed
	}
	// What others send from now on is heard. While the broker is away that begins when it is back.
	if t.nc.IsConnected() {
		wait, cancel := context.WithTimeout(ctx, t.config.Timeout)
		defer cancel()
		_ = t.nc.FlushWithContext(wait)
	}
	return e.stop, nil
}

// note hears one note. What is none is somebody's mistake, and nothing to us.
func (e *ear) note(m *nats.Msg) {
	n := transport.Note{From: m.Header.Get(noteFrom), Kind: m.Header.Get(noteKind), Body: m.Data}
	if err := n.Check(); err != nil {
		e.t.config.Log.Debug("not a note", "subject", m.Subject, "error", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.hear(n)
	}
}

// stop ends it; when it returns, hear is not running and does not again.
func (e *ear) stop() {
	_ = e.sub.Unsubscribe() // fails when it is done already, or the connection is closed
	e.t.mu.Lock()
	delete(e.t.ears, e)
	e.t.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
}
