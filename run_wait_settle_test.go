package weir_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weir-go/weir"
)

// What a run waits for may never come: a person says what is to be made of it, and the run goes on. What comes after that is late.
func TestWaitsAreSettled(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Answer(e, cook, func(context.Context, *weir.Message[ticket]) (plate, error) {
		return plate{}, weir.Permanent(errors.New("no such dish"))
	})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		soup, err := weir.Ask(r, "soup", cook, ticket{"7", 1})
		if err != nil {
			return plate{}, err
		}
		_, refused := weir.Ask(r, "fish", cook, ticket{"7", 2})
		if refused == nil {
			return plate{}, errors.New("fish = nil, want the person's word")
		}
		word, err := weir.WaitFor(r, "approval", approved)
		weir.Sleep(r, "rest", 1000*time.Hour)
		return plate{N: soup.N + word.N}, err
	})
	works(t, e)
	ref := startRun(t, e, "7")
	decide := func(step string, act func(weir.RunSelection) error) {
		t.Helper()
		eventually(t, "it waits at "+step, func() bool {
			return slices.Contains(recordNames(storyOf(t, e, "7")), step) && storyOf(t, e, "7").State == weir.RunWaiting
		})
		s := of("7")
		s.Step = step
		decided(t, act(s))
	}
	settle := func(r weir.Settled) func(weir.RunSelection) error {
		return func(s weir.RunSelection) error { return e.SettleRun(t.Context(), s, r, known) }
	}
	decide("soup", settle(weir.Settled{Value: []byte(`{"N":3}`)}))
	decide("fish", settle(weir.Settled{Failed: true}))
	decide("approval", settle(weir.Settled{Value: []byte(`{"N":4}`)}))
	decide("rest", func(s weir.RunSelection) error { return e.SkipRun(t.Context(), s, known) })
	completed(t, ref, 7)
	if s := storyOf(t, e, "7"); len(s.Waits) != 0 {
		t.Errorf("it still waits for %+v", s.Waits)
	}
}
