package many

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// canary is in all bodies, inputs, results, values and headers, and nowhere else.
const canary = "4111-1111-1111-1111"

// A secret is a body, and what a program of another version took for one.
type (
	secret struct{ Card string }
	older  struct {
		Card  int
		Until time.Time
	}
)

var (
	pay       = weir.NewCommand[secret]("vault.pay")
	payOld    = weir.NewCommand[older]("vault.pay")
	payDate   = weir.NewCommand[struct{ Card time.Time }]("vault.pay-date")
	paySent   = weir.NewCommand[secret]("vault.pay-date")
	keep      = weir.NewWorkflow[secret, secret]("vault.keep")
	vaultCard = weir.NewEntity[secret]("vault.card")
	payCode   = weir.NewSignal[secret]("vault.code")
)

// spool is a log.
type spool struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *spool) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *spool) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// What is in a message, a run or an entity is in no log, at whatever level, and in no error that a caller gets: refusals,
// failures, and bodies that cannot be decoded among them.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	onEachStore(t, keepSecrets)
}

func keepSecrets(t *testing.T, open store.Opener) {
	log := &spool{}
	eng, err := weir.Open(t.Context(), open, weir.Config{Owns: []string{"vault"}, MaxBody: 1_000,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	few := weir.Queue{Retry: weir.Retry{Max: 2, Base: time.Millisecond, Cap: time.Millisecond}, Capacity: 20}
	weir.Handle(eng, payOld, func(context.Context, *weir.Message[older]) error { return nil }, few)
	weir.Handle(eng, payDate, func(context.Context, *weir.Message[struct{ Card time.Time }]) error { return nil }, few)
	weir.Register(eng, keep, keepCard)
	card := weir.Own(eng, vaultCard)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- eng.Run(ctx) }()
	<-eng.Ready()
	told := secretErrors(t, eng, card)
	quiet(t, eng, over)
	told = append(told, settleSecrets(t, eng)...)
	quiet(t, eng, over)
	stop()
	told = append(told, <-over, eng.Close(), weir.Send(t.Context(), eng, pay, secret{canary}))
	refused := 0
	for _, err := range told {
		if err == nil {
			continue
		}
		refused++
		if strings.Contains(err.Error(), canary) {
			t.Errorf("an error tells a secret: %v", err)
		}
	}
	if refused < 8 {
		t.Errorf("%d calls were refused, want all of those that are to be", refused)
	}
	all := log.String()
	if !strings.Contains(all, "message is dead") || !strings.Contains(all, "run needs a person") {
		t.Errorf("the log tells of no failure:\n%s", all)
	}
	for line := range strings.Lines(all) {
		if strings.Contains(line, canary) {
			t.Errorf("the log tells a secret: %s", line)
		}
	}
}

// keepCard fails in the way that the run's ID names.
func keepCard(r *weir.Run, in secret) (secret, error) {
	give := func(context.Context) (secret, error) { return in, nil }
	switch r.ID() {
	case "step":
		return weir.Step(r, "a", func(context.Context) (secret, error) { return in, errors.New("no") }, weir.Retry{Max: 1})
	case "panic":
		return weir.Step(r, "a", func(context.Context) (secret, error) { panic("no") }, weir.Retry{Max: 1})
	case "too large":
		return weir.Step(r, "a", func(context.Context) (secret, error) { return secret{strings.Repeat(canary, 100)}, nil })
	case "once":
		return weir.Once(r, "a", func(context.Context) (secret, error) { return in, errors.New("no") }, nil)
	case "another result":
		if _, err := weir.Step(r, "a", give); err != nil {
			return in, err
		}
		weir.Sleep(r, "b", time.Millisecond)
		_, err := weir.Step(r, "c", func(context.Context) (badly, error) { return badly(in), nil })
		return in, err
	case "signal":
		return weir.WaitFor(r, "a", payCode)
	}
	return weir.Step(r, "a", give)
}

// badly is written in a way in which it cannot be read.
type badly struct{ Card string }

func (b *badly) UnmarshalJSON([]byte) error  { return errors.New("unreadable") }
func (b badly) MarshalJSON() ([]byte, error) { return json.Marshal(b.Card) }

// secretErrors does all that is refused, or fails later, with secrets in hand.
func secretErrors(t *testing.T, eng *weir.Engine, card *weir.Owned[secret]) (told []error) {
	t.Helper()
	ctx, one, large := t.Context(), secret{canary}, secret{strings.Repeat(canary, 100)}
	start := func(id string, in secret) {
		_, err := weir.Start(ctx, eng, keep, id, in)
		told = append(told, err)
	}
	tell := func(err error) { told = append(told, err) }
	tell(weir.Send(ctx, eng, pay, one, weir.Headers{"card": canary}))
	tell(weir.Send(ctx, eng, paySent, one))
	tell(weir.Send(ctx, eng, pay, one, weir.Dedup("d")))
	tell(weir.Send(ctx, eng, pay, secret{canary + "2"}, weir.Dedup("d")))
	tell(weir.Send(ctx, eng, pay, large))
	tell(weir.Send(ctx, eng, pay, one, weir.Headers{"card": strings.Repeat(canary, 1_000)}))
	tell(weir.SendAll(ctx, eng, pay, make([]secret, 30)))
	tell(weir.Send(ctx, eng, weir.NewCommand[secret]("stranger.pay"), one))
	for _, id := range []string{"step", "panic", "too large", "once", "another result", "signal", "plain"} {
		start(id, one)
	}
	start("plain", secret{canary + "2"})
	start("large", large)
	tell(weir.Tell(ctx, eng, payCode, "signal", one))
	tell(card.Put(ctx, eng, "a", one))
	tell(card.Put(ctx, eng, "a", large))
	_, err := card.Get(ctx, "a")
	tell(err)
	return told
}

// settleSecrets has a person decide, well and badly.
func settleSecrets(t *testing.T, eng *weir.Engine) (told []error) {
	t.Helper()
	b := weir.Because{By: "ann", Why: "she knows"}
	for _, value := range []string{"{" + canary, `{"Cards":"` + canary + `"}`, `{"Card":"` + canary + `"}`} {
		told = append(told, eng.SettleRun(t.Context(), weir.RunSelection{ID: "once"}, weir.Settled{Value: []byte(value)}, b))
	}
	dead, err := eng.Dead(t.Context(), weir.DeadQuery{Max: 100})
	told = append(told, err)
	for i, d := range dead {
		_, err := eng.EditDead(t.Context(), weir.DeadSelection{Queue: d.Queue, ID: d.Message.ID}, fmt.Appendf(nil, `{"Card":%q,"n":%d`, canary, i), b)
		told = append(told, err)
	}
	if _, err = eng.EditDead(t.Context(), weir.DeadSelection{ID: "none"}, bytes.Repeat([]byte(canary), 1_000), b); err == nil {
		t.Error("EditDead() with a large body = nil, want an error")
	}
	return append(told, err)
}
