package weirtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Message is a message to call a handler with, as a plain function or method:
//
//	m := weirtest.Message(t, Ticket{Table: "7"})
//	plate, err := kitchen.prepare(weirtest.Context(t, m), m)
//	weirtest.RequirePublished(t, m, FoodReady)
//
// What the handler sends through it, and its OnCommit closures, are kept and go
// nowhere: see [RequireSent], [RequirePublished] and [Commit]. The options are those
// of a send ([weir.Key], [weir.Headers]); other fields (ID, Attempt) may be set before the call.
// The body goes through JSON, as on its way to a real handler.
func Message[T any](t testing.TB, body T, o ...weir.SendOption) *weir.Message[T] {
	t.Helper()
	var (
		got  *weir.Message[T]
		with engine.Settings
		errs error
	)
	r := &recorder{}
	ctx := engine.WithDetached(t.Context(), func(s engine.Settings, faults error) { with, errs = s, faults })
	c := weir.NewCommand[T]("weirtest.message")
	eng, err := weir.Open(ctx, r.open, weir.Config{Owns: []string{"weirtest"}, Codec: r})
	if err == nil {
		weir.Handle(eng, c, func(_ context.Context, m *weir.Message[T]) error {
			got = m
			return nil
		})
		err = errors.Join(errs, weir.Send(ctx, eng, c, body, o...))
	}
	if err != nil {
		t.Fatalf("weirtest.Message: %v", err)
	}
	r.attempt = engine.Detach(t.Context(), r.message, with)
	if err := with.Work(r.attempt, r.attempt); err != nil {
		t.Fatalf("weirtest.Message: %v", err)
	}
	return got
}

// Context is the context that the handler of a message made by [Message] would get:
// it has an idempotency key, and a send through an engine is refused. It ends with t.
func Context[T any](t testing.TB, m *weir.Message[T]) context.Context {
	t.Helper()
	return recorderOf(t, m).attempt
}

// Commit does what the acknowledgement of a message made by [Message] would do with
// its OnCommit closures: it runs them in tx, in order, until one fails.
func Commit[T any](t testing.TB, m *weir.Message[T], tx weir.Tx) error {
	t.Helper()
	r := recorderOf(t, m)
	for _, f := range r.attempt.Caused().Closures {
		if err := f(t.Context(), tx); err != nil {
			return err
		}
	}
	return nil
}

// recorder stands behind one message: it is the store of that message's engine, which
// takes the one message and nothing else, and its codec.
type recorder struct {
	store.Store // nil: nothing else of it is asked for
	weir.JSON

	message *store.Message
	attempt *engine.Attempt
}

func (r *recorder) open(context.Context) (store.Store, error) { return r, nil }

// Info implements store.Store.
func (r *recorder) Info() store.Info {
	return store.Info{Kind: "none", Name: "weirtest", Incarnation: "weirts", Schema: 1}
}

// Commit implements store.Store.
func (r *recorder) Commit(_ context.Context, g *store.Group) error {
	for _, c := range g.Changes {
		for _, m := range c.Sends {
			m.Pos, m.SentAt = 1, time.Now()
			m.ID = r.Info().Incarnation.ID(m.Pos)
			r.message = m
		}
	}
	return nil
}

// question is how a message is asked for its recorder: a *weir.Message tells nothing
// of what it has sent, but what it sends is encoded by the recorder.
type question struct{ answer *recorder }

var errAnswered = errors.New("it was only a question")

// Marshal implements weir.Codec.
func (r *recorder) Marshal(v any) ([]byte, error) {
	if q, ok := v.(*question); ok {
		q.answer = r
		return nil, errAnswered
	}
	return r.JSON.Marshal(v)
}

// recorderOf is the recorder of a message made by Message.
func recorderOf(t testing.TB, s weir.Sender) *recorder {
	t.Helper()
	q := &question{}
	err := weir.Send(context.Background(), s, weir.NewCommand[*question]("weirtest.question"), q)
	if q.answer == nil {
		t.Fatalf("%T is neither a *weirtest.Engine nor a message made by weirtest.Message (%v)", s, err)
	}
	return q.answer
}

// sent is what was sent, in order.
func (r *recorder) sent() []sent {
	var all []sent
	for _, m := range r.attempt.Caused().Sends {
		all = append(all, sent{name: m.Topic, key: m.Key, body: m.Body})
	}
	return all
}

// sent is one message that was sent.
type sent struct {
	name, key string
	body      []byte
}

func (s sent) String() string {
	const most = 200
	body := string(s.body)
	if len(body) > most {
		body = body[:most] + "…"
	}
	if s.key != "" {
		return fmt.Sprintf("%s, key %s: %s", s.name, s.key, body)
	}
	return fmt.Sprintf("%s: %s", s.name, body)
}
