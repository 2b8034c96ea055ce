package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

var seat = weir.NewCommand("hall.seat", weir.KeyedBy(func(t ticket) string { return t.Order }))

// crossing is a journal that a hall sends to, and that sends to a hall; until is what it waits for.
func crossing(t *testing.T, withHall bool, until func(out []weir.LaneOut, in []weir.LaneIn) bool) journal {
	t.Helper()
	j := newJournal(t)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(j journal, own, other string) *weir.Engine {
		end := wire.Open()
		t.Cleanup(func() { _ = end.Close() })
		e, err := weir.Open(context.Background(), sqlite.File(j.file), weir.Config{
			Owns: []string{own}, Routes: map[string]weir.Route{other: {Capacity: 100}}, Transport: end, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	kitchen := open(j, "kitchen", "hall")
	defer j.start(kitchen)()
	if err := weir.Send(context.Background(), kitchen, seat, ticket{"7", "soup"}); err != nil {
		t.Fatal(err)
	}
	if withHall {
		other := newJournal(t)
		hall := open(other, "hall", "kitchen")
		weir.Handle(hall, seat, func(context.Context, *weir.Message[ticket]) error { return nil })
		defer other.start(hall)()
		if err := weir.Send(context.Background(), hall, cook, ticket{"7", "soup"}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.After(patience); ; {
		out, in, err := kitchen.Lanes(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if until(out, in) {
			return j
		}
		select {
		case <-deadline:
			t.Fatalf("Lanes = %+v, %+v", out, in)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestBoundaryLsWaits(t *testing.T) {
	t.Parallel()
	j := crossing(t, false, func(out []weir.LaneOut, _ []weir.LaneIn) bool {
		return len(out) == 1 && strings.HasPrefix(out[0].State, "waiting")
	})
	j.weir(0, "boundary", "ls").has("OUT", "hall.seat", "hall", "waiting: hall has not said how far it is")
	var m map[string]any
	j.weir(0, "boundary", "ls", "--json").object(&m)
	out := fields(t, list(t, fields(t, m, "out", "in"), "out", 1)[0], "queue", "to", "topic", "depth", "unconfirmed", "oldest", "dead", "limit", "state", "receipt_at", "reported_at")
	if out["depth"] != jsonNumber("1") || out["limit"] != jsonNumber("100") || out["receipt_at"] != nil {
		t.Errorf("out = %v, want depth 1 of 100 and no receipt", out)
	}
}

func TestBoundaryLs(t *testing.T) {
	t.Parallel()
	j := crossing(t, true, func(out []weir.LaneOut, in []weir.LaneIn) bool {
		return len(out) == 1 && out[0].Depth == 0 && out[0].State == "idle" && len(in) == 1 && in[0].Arrived == 1
	})
	j.weir(0, "boundary", "ls").has("hall.seat", "idle", "IN", "hall/", "/kitchen.cook", "1/0")
	var m map[string]any
	j.weir(0, "boundary", "ls", "--json").object(&m)
	in := fields(t, list(t, fields(t, m, "out", "in"), "in", 1)[0], "lane", "from", "batch", "index", "at", "arrived", "jumps", "duplicates", "gaps", "held", "state", "reported_at", "drained_at")
	if in["from"] != "hall" || in["arrived"] != jsonNumber("1") {
		t.Errorf("in = %v, want one message from hall", in)
	}
}

// shut is an end whose inlets cannot be opened.
type shut struct{ transport.Transport }

func (shut) Receive(context.Context, string) (transport.Inlet, error) {
	return nil, fmt.Errorf("%w: max_age is 1h, want none", transport.ErrNeedsPerson)
}

// A boundary for which nothing comes is seen, though nothing ever came.
func TestBoundaryLsShut(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	end := shut{wire.Open()}
	t.Cleanup(func() { _ = end.Close() })
	e, err := weir.Open(context.Background(), sqlite.File(j.file), weir.Config{
		Owns: []string{"kitchen"}, Routes: map[string]weir.Route{"hall": {}}, Transport: end, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	defer j.start(e)()
	for deadline := time.After(patience); ; {
		_, in, err := e.Lanes(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(in) == 1 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("Lanes tell of no inlet that cannot be read")
		case <-time.After(5 * time.Millisecond):
		}
	}
	j.weir(0, "boundary", "ls").has("IN", "kitchen", "waiting: a person must mend it: max_age is 1h")
	j.weir(5, "doctor").has("nothing comes in for boundary kitchen", "max_age is 1h, want none", "→")
}

// A lane is forgotten only when it is silent, and who did it is in the audit.
func TestBoundaryForget(t *testing.T) {
	t.Parallel()
	j := crossing(t, true, func(_ []weir.LaneOut, in []weir.LaneIn) bool { return len(in) == 1 })
	var m map[string]any
	j.weir(0, "boundary", "ls", "--json").object(&m)
	lane, _ := list(t, m, "in", 1)[0].(map[string]any)["lane"].(string)
	j.weir(2, "boundary", "forget", lane).complains("--why")
	j.weir(3, "boundary", "forget", "hall/zzzzzz/none", "--why", "gone").complains("weir boundary ls")
	j.weir(4, "boundary", "forget", lane, "--why", "gone").complains("was last heard of at", "silent for 1h")
	c, err := zombiezen.OpenConn(j.file, zombiezen.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteTransient(c, `update weir_arrivals set at_us = at_us - 7200000000, drained_us = null`, nil)
	if err = errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	j.weir(0, "boundary", "forget", lane, "--why", "gone "+hostile, "--by", "anna").has("Forgotten: lane " + lane)
	m = nil
	j.weir(0, "boundary", "ls", "--json").object(&m)
	list(t, m, "in", 0)
	j.weir(0, "audit", "ls").has("anna", "lane forget", "lane "+lane, "gone", "forgotten")
}

func TestStoreRenew(t *testing.T) {
	j := newJournal(t)
	if err := j.service().Close(); err != nil {
		t.Fatal(err)
	}
	j.weir(2, "store", "renew").complains("--why")
	var first, second map[string]any
	j.weir(0, "store", "renew", "--why", "restored "+hostile, "--by", "anna", "--json").object(&first)
	j.weir(0, "store", "renew", "--why", "again", "--json").object(&second)
	if fields(t, first, "incarnation", "by", "why")["incarnation"] == second["incarnation"] {
		t.Errorf("two renewals gave one incarnation, %v", second["incarnation"])
	}
	j.weir(0, "store", "renew", "--why", "and again").has("new life")
}
