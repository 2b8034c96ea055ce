package weir

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Handle registers the one handler of a command. Call it before [Engine.Run],
// which reports what is wrong with it. See the package's comment for what its
// error means.
func Handle[In any](e *Engine, c Command[In, None], h func(context.Context, *Message[In]) error, o ...HandleOption) {
	register(e, c.contract, c.topic.Name, o, h)
}

// Answer registers the one handler of a request. What it returns leaves as the
// reply, with the acknowledgement.
func Answer[In, Out any](e *Engine, c Command[In, Out], h func(context.Context, *Message[In]) (Out, error), o ...HandleOption) {
	reply := c.Reply()
	if h == nil {
		register[In](e, c.contract, c.topic.Name, o, nil)
		return
	}
	register(e, c.contract, c.topic.Name, o, func(ctx context.Context, m *Message[In]) error {
		out, err := h(ctx, m)
		if err != nil {
			return err
		}
		return send(ctx, m, &reply.contract, []Out{out}, []SendOption{Key(m.Key)})
	})
}

// Subscribe registers a subscriber of an event, or of a request's replies, under a name of its own,
// "wait-staff.bring-food", which must belong to a boundary of this engine. Each subscriber gets each event. A name that
// the store does not know yet begins with the next event, or, with [FromEarliest], with the earliest that is kept.
func Subscribe[T any](e *Engine, c Event[T], subscriber string, h func(context.Context, *Message[T]) error, o ...HandleOption) {
	err := checkName("subscriber", subscriber)
	if subscriber == c.topic.Name {
		err = fmt.Errorf("weir: subscriber %s: want a name other than the event's", subscriber)
	}
	c.err = errors.Join(c.err, err)
	register(e, c.contract, subscriber, o, h)
}

// register erases the handler's type and leaves the rest to the engine.
func register[T any](e *Engine, c contract[T], queue string, opts []HandleOption, h func(context.Context, *Message[T]) error) {
	var hd handling
	for _, o := range opts {
		o.applyHandle(&hd)
	}
	settings, err := hd.settings(queue)
	err = errors.Join(c.err, err)
	if h == nil {
		err = errors.Join(err, fmt.Errorf("weir: %s: the handler is nil", queue))
	}
	if !e.owns[ownerOf(queue)] {
		err = errors.Join(err, fmt.Errorf("weir: %s is handled here, but Config.Owns has no %q", queue, ownerOf(queue)))
	}
	if owner := ownerOf(c.topic.Name); !e.owns[owner] && owner != ownerOf(queue) {
		if c.topic.Kind != store.KindEvent && c.topic.Kind != store.KindReply {
			err = errors.Join(err, fmt.Errorf("weir: %s is handled here, but Config.Owns has no %q", c.topic.Name, owner))
		} else if !e.routes(owner) && !e.core.Detached() {
			err = errors.Join(err, e.homeless("subscriber "+queue+" of "+c.topic.Name, c.topic.Name))
		}
	}
	if c.topic.Kind == store.KindEvent {
		e.heard.Store(c.topic.Name, true)
	}
	capacity := max(orDefault(hd.queue.Capacity, 100_000), 0) // -1: unbounded
	settings.Queue = store.Queue{
		Name:         queue,
		Topic:        c.topic,
		FromEarliest: hd.from == FromEarliest,
		Capacity:     capacity,
		Required:     hd.queue.Required,
		MaxLag:       hd.queue.MaxLag,
		OnDead:       store.OnDead(hd.queue.OnDead),
	}
	settings.Work = func(ctx context.Context, a *engine.Attempt) error {
		m := newMessage[T](e, a)
		if err := c.decode(e.config.Codec, a.Message.Version, a.Message.Body, &m.Body); err != nil {
			if _, newer := errors.AsType[*errTooNew](err); newer {
				return err
			}
			return Permanent(fmt.Errorf("decode %s: %w", a.Message.Topic, err))
		}
		var err error
		if m.Headers, err = decodeHeaders(a.Message.Headers); err != nil {
			return Permanent(err)
		}
		if e.config.Around == nil {
			return h(ctx, m)
		}
		w := Work{Kind: a.Message.Kind.String(), Queue: queue, Name: m.Name, Key: m.Key, ID: m.ID, Attempt: m.Attempt}
		return e.config.Around(ctx, w, func(ctx context.Context) error { return h(ctx, m) })
	}
	e.core.Register(settings, err)
}

func newMessage[T any](e *Engine, a *engine.Attempt) *Message[T] {
	sm := a.Message
	m := &Message[T]{
		ID: sm.ID, Name: sm.Topic, Key: sm.Key, Cause: sm.Cause, Correlation: sm.Correlation,
		Attempt: a.Number, SentAt: sm.SentAt, attempt: a, eng: e,
	}
	if m.Correlation == "" {
		m.Correlation = m.ID
	}
	return m
}
