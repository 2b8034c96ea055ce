package local

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/weir-go/weir/transport"
)

// listener is one who hears the notes of a boundary.
type listener struct {
	notes chan transport.Note
	gone  chan struct{} // closed by stop
	ended chan struct{} // closed when hear is not called any more
	once  sync.Once
	leave func()
}

// stop takes the listener away and waits until it has heard its last.
func (l *listener) stop() {
	l.once.Do(func() {
		l.leave()
		close(l.gone)
	})
	<-l.ended
}

func (l *listener) run(hear func(transport.Note)) {
	defer close(l.ended)
	for {
		select {
		case <-l.gone:
			return
		case n := <-l.notes:
			select {
			case <-l.gone:
				return
			default:
				hear(n)
			}
		}
	}
}

// Notify implements transport.Transport.
func (e *end) Notify(ctx context.Context, to string, n transport.Note) error {
	if err := e.ready(ctx, to); err != nil {
		return err
	}
	if err := n.Check(); err != nil {
		return err
	}
	e.wire.mu.Lock()
	ears := slices.Clone(e.wire.listeners[to])
	e.wire.mu.Unlock()
	for _, l := range ears {
		own := n
		own.Body = bytes.Clone(n.Body)
		select {
		case l.notes <- own:
		default: // lost, as notes may be: the listener is slow
		}
	}
	return nil
}

// Listen implements transport.Transport.
func (e *end) Listen(ctx context.Context, boundary string, hear func(transport.Note)) (func(), error) {
	if err := e.ready(ctx, boundary); err != nil {
		return nil, err
	}
	w := e.wire
	l := &listener{notes: make(chan transport.Note, transport.MaxNotes), gone: make(chan struct{}), ended: make(chan struct{})}
	l.leave = func() {
		w.mu.Lock()
		w.listeners[boundary] = slices.DeleteFunc(slices.Clone(w.listeners[boundary]), func(o *listener) bool { return o == l })
		w.mu.Unlock()
		e.mu.Lock()
		delete(e.ears, l)
		e.mu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, transport.ErrClosed
	}
	e.ears[l] = true
	w.mu.Lock()
	w.listeners[boundary] = append(w.listeners[boundary], l)
	w.mu.Unlock()
	go l.run(hear)
	return l.stop, nil
}
