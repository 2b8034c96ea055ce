package weirtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// RequireSent gives the first command of a contract that was sent and that all of
// match accept, and fails t if there is none, telling what was sent instead. s is an
// [Engine], of which all sends count that are committed by now, or a message made by [Message].
func RequireSent[In, Out any](t testing.TB, s weir.Sender, c weir.Command[In, Out], match ...func(In) bool) In {
	t.Helper()
	return require(t, s, wanted{name: c.Name()}, match)
}

// RequirePublished is [RequireSent] for an event, or for replies: request.Reply().
func RequirePublished[T any](t testing.TB, s weir.Sender, c weir.Event[T], match ...func(T) bool) T {
	t.Helper()
	return require(t, s, wanted{name: c.Name()}, match)
}

// RequireTold is [RequireSent] for a signal to a run.
func RequireTold[T any](t testing.TB, s weir.Sender, c weir.Signal[T], runID string, match ...func(T) bool) T {
	t.Helper()
	return require(t, s, wanted{c.Name(), runID}, match)
}

// RequireNothingSent fails t if a message of any of the contracts was sent; of none
// given: if anything was.
func RequireNothingSent(t testing.TB, s weir.Sender, of ...interface{ Name() string }) {
	t.Helper()
	all := sentBy(t, s)
	if len(of) > 0 {
		all = slices.DeleteFunc(all, func(m sent) bool {
			return !slices.ContainsFunc(of, func(c interface{ Name() string }) bool { return c.Name() == m.name })
		})
	}
	if len(all) > 0 {
		t.Fatalf("want nothing sent, there is%s", list(all))
	}
}

// wanted is what a message is to be: of a contract, to a run if it is a signal.
type wanted struct{ name, run string }

func (w wanted) String() string {
	if w.run != "" {
		return w.name + " to " + w.run
	}
	return w.name
}

func require[T any](t testing.TB, s weir.Sender, w wanted, match []func(T) bool) T {
	t.Helper()
	all := sentBy(t, s)
	var same []sent
next:
	for _, m := range all {
		if m.name != w.name || w.run != "" && m.key != w.run {
			continue
		}
		same = append(same, m)
		var body T
		if err := codecOf(s).Unmarshal(m.body, &body); err != nil {
			t.Fatalf("decode %s: %v", m, err)
		}
		for _, ok := range match {
			if !ok(body) {
				continue next
			}
		}
		return body
	}
	switch {
	case len(all) == 0:
		t.Fatalf("want %s sent, there is nothing", w)
	case len(same) == 0:
		t.Fatalf("want %s sent, there is only%s", w, list(all))
	}
	t.Fatalf("of %s is none as wanted; sent were%s", w, list(same))
	panic("unreachable")
}

// listMax is how many are told of in a failure.
const listMax = 20

// list tells each on a line of its own.
func list[T fmt.Stringer](all []T) string {
	var b strings.Builder
	for i, v := range all {
		if i == listMax {
			fmt.Fprintf(&b, "\n  and %d more", len(all)-listMax)
			break
		}
		fmt.Fprintf(&b, "\n  %s", v)
	}
	return b.String()
}

func codecOf(s weir.Sender) weir.Codec {
	if e, ok := s.(*Engine); ok {
		return e.codec
	}
	return weir.JSON{}
}

func sentBy(t testing.TB, s weir.Sender) []sent {
	t.Helper()
	if e, ok := s.(*Engine); ok {
		synctest.Wait() // for what is under way without waiting for time
		return e.sent(t)
	}
	return recorderOf(t, s).sent()
}

// sent is all that is in the journal, in order.
func (e *Engine) sent(t testing.TB) []sent {
	t.Helper()
	ctx := context.Background()
	var all []sent
	for before := store.Pos(0); ; {
		page, err := e.Messages(ctx, weir.MessageQuery{Before: before, Max: store.MaxList})
		if err != nil {
			t.Fatalf("messages: %v", err)
		}
		for i := range page {
			m, err := e.Message(ctx, page[i].ID)
			if err != nil {
				t.Fatalf("message %s: %v", page[i].ID, err)
			}
			all = append(all, sent{name: m.Topic, key: m.Key, body: m.Body})
		}
		if len(page) < store.MaxList {
			slices.Reverse(all)
			return all
		}
		before = page[len(page)-1].Pos
	}
}
