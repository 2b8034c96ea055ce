package broker

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/postgres/pgtest"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/jetstream"
)

// hostile are headers that replace those of a well-formed event, and bodies that begin with "body: ". "-" takes one away.
var hostile = map[string][]string{
	"an ID with a NUL":             {"ce-id: a%00b"},
	"an ID of two lines":           {"ce-id: a%0Ab"},
	"an ID with a vertical tab":    {"ce-id: a%0Bb"},
	"an ID that is no UTF-8":       {"ce-id: %ff%fe"},
	"a long ID":                    {"ce-id: " + strings.Repeat("i", 1_500)},
	"no ID":                        {"ce-id: -"},
	"a source with a NUL":          {"ce-source: /till%00"},
	"a source of two lines":        {"ce-source: /till%0A/8"},
	"a source that is no UTF-8":    {"ce-source: %ff"},
	"a long source":                {"ce-source: /" + strings.Repeat("s", 1_500)},
	"a source of ours":             {"ce-source: /weir/kitchen"},
	"no source":                    {"ce-source: -"},
	"a key with a NUL":             {"ce-partitionkey: a%00b"},
	"a key that is no UTF-8":       {"ce-partitionkey: %ff%fe"},
	"a long key":                   {"ce-partitionkey: " + strings.Repeat("k", 600)},
	"a key of ours with a NUL":     {"ce-weirkey: YQBi"},
	"a key of ours, no UTF-8":      {"ce-weirkey: //4="},
	"a key that is no base64":      {"ce-weirkey: !"},
	"a type with a NUL":            {"ce-type: kitchen.clean%00"},
	"a type that is no UTF-8":      {"ce-type: %ff"},
	"a long type":                  {"ce-type: kitchen." + strings.Repeat("t", 600)},
	"the queue of what is refused": {"ce-type: kitchen.refused"},
	"a time beyond all clocks":     {"ce-time: 9999-12-31T23:59:59Z"},
	"a time before all clocks":     {"ce-time: 0001-01-01T00:00:00Z"},
	"a version beyond all":         {"ce-weirversion: 99999999999999999999"},
	"a version of none":            {"ce-weirversion: -1"},
	"a stamp of the last":          {"ce-weirstamp: 9223372036854775807"},
	"a cause with a NUL":           {"ce-weircause: a%00b", "ce-weircorrelation: %ff"},
	"a lane of nobody":             {"ce-weirlane: kitchen/none", "ce-weirpos: 1/0"},
	"a lane of ours":               {"ce-weirlane: kitchen/k7q2xw/kitchen.clean", "ce-weirpos: 1/0"},
	"a place of none":              {"ce-weirlane: floor/k7q2xw/kitchen.clean", "ce-weirpos: -1/-1"},
	"headers of ours, no JSON":     {"ce-weirheaders: e30x"},
	"an attribute with a NUL":      {"ce-note: a%00b"},
	"an attribute that is no text": {"ce-note: %ff"},
	"a broken escape":              {"ce-note: %zz"},
	"a reply to a NUL":             {"ce-weirreplyto: a%00b"},
	"no body":                      {"body: "},
	"a body of NULs":               {"body: \x00\x00"},
	"a body that is deep":          {"body: " + strings.Repeat("[", 20_000)},
	"a body of another type":       {`body: {"Table":7,"N":"one"}`},
	"a large number":               {`body: {"Table":"7","N":99999999999999999999999}`},
	"structured, and no JSON":      {"Content-Type: application/cloudevents+json", "body: {"},
	"structured, and of no type":   {"Content-Type: application/cloudevents+json", `body: {"specversion":1.0,"id":7}`},
	"structured, with a NUL":       {"Content-Type: application/cloudevents+json", `body: {"specversion":"1.0","id":"a\u0000","source":"/t","type":"kitchen.clean","data":1}`},
	"structured, a half letter":    {"Content-Type: application/cloudevents+json", `body: {"specversion":"1.0","id":"\ud800","source":"/t","type":"kitchen.clean","data":1}`},
	"a batch":                      {"Content-Type: application/cloudevents-batch+json", "body: []"},
	"another version of the law":   {"ce-specversion: 0.3"},
	"no attribute at all":          {"ce-specversion: -", "ce-id: -", "ce-source: -", "ce-type: -"},
}

// Whatever anybody sends to a boundary, it is handled, or a dead letter with its reason; what follows it is worked.
func TestHostileEvents(t *testing.T) {
	t.Parallel()
	for name, opener := range map[string]func(t *testing.T) store.Opener{
		"sqlite":   func(t *testing.T) store.Opener { return sqlite.File(filepath.Join(t.TempDir(), "weir.db")) },
		"postgres": func(t *testing.T) store.Opener { return postgres.DB(pgtest.ForTest(t).DSN("postgres")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sendHostile(t, opener(t))
		})
	}
}

func sendHostile(t *testing.T, at store.Opener) {
	s := brokertest.Serve(t)
	w, err := jetstream.Open(jetstream.Config{InProcess: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	kitchen, err := weir.Open(t.Context(), at, weir.Config{Owns: []string{"kitchen"}, Transport: w, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1_000)
	weir.Handle(kitchen, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		done <- m.Body.Table
		return nil
	})
	run(t, kitchen)
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc, natsjs.WithDefaultTimeout(patience)) // or what it was slow to confirm would be sent twice
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	tell := func(table string, headers ...string) {
		n++
		m := nats.NewMsg("weir.kitchen.in.till")
		m.Data = fmt.Appendf(nil, `{"Table":%q}`, table)
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": fmt.Sprint("bill-", n), "ce-source": "/till/7", "ce-type": clean.Name()} {
			m.Header.Set(name, value)
		}
		for _, h := range headers {
			switch name, value, _ := strings.Cut(h, ": "); {
			case name == "body":
				m.Data = []byte(value)
			case value == "-":
				m.Header.Del(name)
			default:
				m.Header.Set(name, value)
			}
		}
		eventually(t, "the inlet takes a message", func() bool {
			_, err := js.PublishMsg(t.Context(), m)
			return err == nil
		})
	}
	for what, headers := range hostile {
		tell(what, headers...)
		tell("after: " + what)
	}
	came := map[string]int{}
	var dead []weir.DeadLetter
	eventually(t, "all are worked, or dead", func() bool {
		for len(done) > 0 {
			came[<-done]++
		}
		if dead, err = kitchen.Dead(t.Context(), weir.DeadQuery{Max: 1_000}); err != nil {
			t.Fatal(err)
		}
		return len(came)+len(dead) >= n
	})
	for what := range hostile {
		if got := came["after: "+what]; got != 1 {
			t.Errorf("what came after %s was worked %d times, want once", what, got)
		}
		if came[what] > 1 {
			t.Errorf("%s was worked %d times", what, came[what])
		}
	}
	for _, d := range dead {
		if d.Reason == "" {
			t.Errorf("a dead letter of %s has no reason", d.Queue)
		}
	}
	t.Logf("%d were worked, %d are dead letters", len(came)-len(hostile), len(dead))
}
