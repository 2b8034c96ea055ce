package weir_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
)

func TestContractNamesAreChecked(t *testing.T) {
	commands, events := openEngine(t, newFile(t), weir.Config{}), openEngine(t, newFile(t), weir.Config{})
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"kitchen.prepare-food", true},
		{"kitchen.v2.prepare", true},
		{"kitchen." + strings.Repeat("x", 192), true},
		{"kitchen." + strings.Repeat("x", 193), false},
		{"", false},
		{"kitchen", false},
		{"kitchen.", false},
		{".prepare", false},
		{"Kitchen.prepare", false},
		{"kitchen.prepare food", false},
		{"kitchen.prepare_food", false},
		{"kitchen..prepare", false},
		{"kitchen.prepare\n", false},
		{"kitchen.cook.reply", false},
	} {
		for what, err := range map[string]error{
			"Send":    weir.Send(t.Context(), commands, weir.NewCommand[ticket](c.name), ticket{}),
			"Publish": weir.Publish(t.Context(), events, weir.NewEvent[ticket](c.name), ticket{}),
		} {
			if (err == nil) != c.ok {
				t.Errorf("%s(%q) = %v, want accepted: %t", what, c.name, err, c.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "name") {
				t.Errorf("%s(%q) = %v, want it to speak of the name", what, c.name, err)
			}
		}
	}
}

type ticketV1 struct{ Tbl string }

// The three versions of one contract.
var (
	versionOne   = weir.NewCommand[ticketV1]("kitchen.versioned")
	versionTwo   = weir.NewCommand[ticket]("kitchen.versioned", weir.Upcast(1, fromV1))
	versionThree = weir.NewCommand[ticket]("kitchen.versioned", weir.Upcast(2, func(old ticket) (ticket, error) { return old, nil }))
)

func fromV1(old ticketV1) (ticket, error) {
	if old.Tbl == "" {
		return ticket{}, errors.New("no table in the old ticket")
	}
	return ticket{Table: old.Tbl, N: 1}, nil
}

func TestUpcastReadsOlderVersions(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 2)
	weir.Handle(e, versionTwo, into(got))
	send(t, e, versionOne, ticketV1{"terrace"}, ticketV1{""})
	send(t, e, versionTwo, ticket{"garden", 7})
	run(t, e)
	bodies := map[ticket]bool{receive(t, got).Body: true, receive(t, got).Body: true}
	if !bodies[ticket{"terrace", 1}] || !bodies[ticket{"garden", 7}] {
		t.Errorf("handled %v, want the old ticket converted and the new one as it is", bodies)
	}
	dead := deadLetters(t, e, versionTwo.Name(), 1)[0]
	if !strings.Contains(dead.Reason, "no table in the old ticket") || dead.Attempts != 1 {
		t.Errorf("a failed upcast is dead for %q after %d attempts, want its error after 1", dead.Reason, dead.Attempts)
	}
}

func TestMissingUpcastIsDeadWithItsReason(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, versionThree, func(context.Context, *weir.Message[ticket]) error { return nil })
	send(t, e, versionOne, ticketV1{"terrace"})
	run(t, e)
	if dead := deadLetters(t, e, versionThree.Name(), 1)[0]; !strings.Contains(dead.Reason, "version 1 and there is no Upcast") {
		t.Errorf("dead for %q, want the missing Upcast named", dead.Reason)
	}
}

// A rollout has old and new programs at once: the old one must not kill what only
// the new one understands.
func TestNewerVersionIsRetriedUntilTheNewerProgramComes(t *testing.T) {
	file := newFile(t)
	older := openEngine(t, file, weir.Config{})
	weir.Handle(older, versionOne, func(context.Context, *weir.Message[ticketV1]) error {
		t.Error("the older program handled a newer message")
		return nil
	}, weir.Queue{Retry: weir.Retry{Max: 10_000, Base: time.Millisecond, Cap: time.Millisecond}})
	send(t, older, versionTwo, ticket{"terrace", 7})
	stop := run(t, older)
	var story weir.MessageStory
	eventually(t, "it was tried again", func() bool {
		story = onlyStory(t, older, versionTwo.Name())
		return len(story.Queues[0].Attempts) >= 2
	})
	if a := story.Queues[0].Attempts[0]; a.Verdict != "retry" || !strings.Contains(a.Reason, "deploy the newer one") {
		t.Errorf("first attempt is %s for %q, want a retry that says to deploy", a.Verdict, a.Reason)
	}
	stop()
	newer := openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(newer, versionTwo, into(got))
	run(t, newer)
	if m := receive(t, got); m.Body != (ticket{"terrace", 7}) {
		t.Errorf("the newer program got %+v", m.Body)
	}
}

// onlyStory is the story of a topic's only message.
func onlyStory(t testing.TB, e *weir.Engine, topic string) weir.MessageStory {
	t.Helper()
	list, err := e.Messages(context.Background(), weir.MessageQuery{Topic: topic})
	if err != nil || len(list) != 1 {
		t.Fatalf("Messages(%s) = %d messages, %v, want one", topic, len(list), err)
	}
	story, err := e.Message(context.Background(), list[0].ID)
	if err != nil {
		t.Fatalf("Message(%s) = %v", list[0].ID, err)
	}
	return story
}

func TestUndecodableBodyIsDeadWithItsReason(t *testing.T) {
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	number := weir.NewCommand[int](clean.Name())
	good := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, into(good))
	send(t, e, number, 42)
	send(t, e, clean, ticket{"terrace", 1})
	run(t, e)
	receive(t, good)
	dead := deadLetters(t, e, clean.Name(), 1)[0]
	if dead.Attempts != 1 || !strings.Contains(dead.Reason, "decode "+clean.Name()) || !strings.Contains(dead.Reason, "number") {
		t.Errorf("dead for %q after %d attempts, want the decoder's error after 1", dead.Reason, dead.Attempts)
	}
	if string(dead.Message.Body) != "42" {
		t.Errorf("the dead letter's body is %q, want it as it was sent", dead.Message.Body)
	}
}

func TestUpcastsAreChecked(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	same := func(v ticket) (ticket, error) { return v, nil }
	for name, c := range map[string]weir.Command[ticket, weir.None]{
		"version 0":     weir.NewCommand[ticket]("kitchen.zero", weir.Upcast(0, same)),
		"version 10001": weir.NewCommand[ticket]("kitchen.far", weir.Upcast(10_001, same)),
		"version 3":     weir.NewCommand[ticket]("kitchen.twice", weir.Upcast(3, same), weir.Upcast(3, same)),
	} {
		if err := weir.Send(t.Context(), e, c, ticket{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Send of a contract with a bad Upcast = %v, want an error with %q", err, name)
		}
	}
}

// reversing writes bodies backwards, which no JSON decoder reads.
type reversing struct{ json weir.JSON }

func reverse(b []byte) []byte {
	r := bytes.Clone(b)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return r
}

func (c reversing) Marshal(v any) ([]byte, error) {
	b, err := c.json.Marshal(v)
	return reverse(b), err
}
func (c reversing) Unmarshal(b []byte, v any) error { return c.json.Unmarshal(reverse(b), v) }

func TestCodecEncodesBodiesAndReplies(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{Codec: reversing{}})
	got := make(chan *weir.Message[plate], 1)
	weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) { return plate(m.Body), nil })
	weir.Subscribe(e, cook.Reply(), "staff.cooked", into(got), weir.FromEarliest)
	run(t, e)
	send(t, e, cook, ticket{"terrace", 3})
	if m := receive(t, got); m.Body != (plate{"terrace", 3}) {
		t.Errorf("the reply is %+v", m.Body)
	}
	story := onlyStory(t, e, cook.Name())
	if want := `}3:"N","ecarret":"elbaT"{`; string(story.Body) != want {
		t.Errorf("the stored body is %s, want %s", story.Body, want)
	}
}

// raw keeps byte slices as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (raw) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}

func TestBodiesAreOpaqueBytes(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{Codec: raw{}})
	blob := weir.NewCommand[[]byte]("kitchen.blob")
	got := make(chan *weir.Message[[]byte], 8)
	weir.Handle(e, blob, into(got), weir.Queue{Concurrency: 1})
	bodies := [][]byte{{0}, []byte("a\x00b"), {0xff, 0xfe}, []byte(strings.Repeat("[", 10_000)), {}, nil}
	send(t, e, blob, bodies...)
	run(t, e)
	for _, want := range bodies {
		if m := receive(t, got); !bytes.Equal(m.Body, want) {
			t.Errorf("got %d bytes %.20q, want %d bytes %.20q", len(m.Body), m.Body, len(want), want)
		}
	}
}
