package weir_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
)

// The acknowledgement leaves without what comes after its handler: to say nothing would be to lose it.
func TestMessageSendsOnlyUntilItsHandlerHasReturned(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	refusals := make(chan error, 2)
	kept := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		m.OnCommit(func(ctx context.Context, _ weir.Tx) error {
			m.OnCommit(func(context.Context, weir.Tx) error { t.Error("a closure of a closure is run"); return nil })
			refusals <- weir.Publish(ctx, m, ready, plate{})
			return nil
		})
		kept <- m
		return nil
	})
	send(t, e, clean, ticket{"terrace", 1})
	run(t, e)
	m := receive(t, kept)
	emptied(t, e, clean.Name())
	_, started := weir.Start(t.Context(), m, wash, "7", ticket{})
	for what, err := range map[string]error{
		"Publish in OnCommit": receive(t, refusals), "Publish afterwards": weir.Publish(t.Context(), m, ready, plate{}), "Start afterwards": started,
	} {
		if err == nil || !strings.Contains(err.Error(), "until its handler has returned") {
			t.Errorf("%s = %v, want it refused", what, err)
		}
	}
}

// A replay would do it again.
func TestRuleEngineIsRefusedInWorkflows(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan error, 3)
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		if len(got) == 0 {
			_, started := weir.Start(r.Context(), e, wash, "x", ticket{})
			_, waited := weir.Find(e, wash, "x").Result(r.Context())
			got <- weir.Send(r.Context(), e, clean, ticket{})
			got <- started
			got <- waited
		}
		return plate{}, weir.Send(r.Context(), r, clean, in)
	})
	works(t, e)
	completed(t, startRun(t, e, "7"), 0)
	for _, what := range []string{"Send", "Start"} {
		if err := receive(t, got); !errors.Is(err, weir.ErrInHandler) {
			t.Errorf("%s through the engine in a workflow = %v, want ErrInHandler", what, err)
		}
	}
	if err := receive(t, got); err == nil || !strings.Contains(err.Error(), "use Call") {
		t.Errorf("Result in a workflow = %v, want it refused: use Call", err)
	}
}

// A run that waits for what cannot come says so at once.
func TestEventOfAnUnknownBoundaryIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	closing := weir.NewEvent[ticket]("bar.closes")
	weir.Register(e, dine, func(r *weir.Run, _ ticket) (plate, error) {
		_, err := weir.WaitFor(r, "closing", closing.For("7"))
		return plate{}, err
	})
	works(t, e)
	startRun(t, e, "7")
	if s := inState(t, e, "7", weir.RunNeedsPerson); !strings.Contains(s.Reason, `nobody knows boundary "bar"`) {
		t.Errorf("parked because of %q, want the boundary that nobody knows", s.Reason)
	}
}

// What is wrong with a call is said in the caller's words.
func TestMistakesOfCallersAreNamed(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	var nameless weir.Command[ticket, weir.None]
	_, opened := weir.Open(t.Context(), nil, weir.Config{})
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"Open without a store", opened, "sqlite.File"},
		{"Send of a zero contract", weir.Send(t.Context(), e, nameless, ticket{}), "make it with NewCommand"},
		{"Send without a sender", weir.Send(t.Context(), nil, clean, ticket{}), "the sender is nil"},
		{"Send in no transaction", weir.Send(t.Context(), e.In(nil), clean, ticket{}), "the transaction is nil"},
		{"Send in sqlite.Tx(nil)", weir.Send(t.Context(), e.In(sqlite.Tx(nil)), clean, ticket{}), "given to sqlite.Tx is nil"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s = %v, want an error with %q", c.what, c.err, c.want)
		}
	}
}

// refusing is a transport whose broker refuses the login.
type refusing struct{ transport.Transport }

var errLogin = fmt.Errorf("%w: not connected: authorization violation", transport.ErrUnavailable)

func (refusing) Listen(context.Context, string, func(transport.Note)) (func(), error) {
	return nil, errLogin
}
func (refusing) Notify(context.Context, string, transport.Note) error { return errLogin }
func (refusing) Receive(context.Context, string) (transport.Inlet, error) {
	return nil, errLogin
}
func (refusing) Send(context.Context, string, []transport.Packet) (int, error) { return 0, errLogin }
func (refusing) Close() error                                                  { return nil }

// A broker that cannot be reached is not told as a receiver that does not answer.
func TestLaneSaysThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{Transport: refusing{}, Routes: map[string]weir.Route{"bar": {}}})
	run(t, e)
	send(t, e, weir.NewCommand[ticket]("bar.mix"), ticket{"terrace", 1})
	eventually(t, "the lane's state says why", func() bool {
		out, _, err := e.Lanes(t.Context())
		return err == nil && len(out) == 1 && out[0].State == "waiting: "+errLogin.Error()
	})
}
