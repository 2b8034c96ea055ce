package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// came makes deliveries of what is written as "7/0 7/1/last 8/0/first".
func came(places string) (ds []transport.Delivery) {
	for _, f := range strings.Fields(places) {
		var p transport.Packet
		p.Lane = transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen.cook"}
		for _, b := range []transport.Begin{transport.BeginFirst, transport.BeginJump} {
			if rest, ok := strings.CutSuffix(f, "/"+string(b)); ok {
				f, p.Begin = rest, b
			}
		}
		var err error
		if p.Position, err = transport.ParsePosition(f); err != nil {
			panic(err)
		}
		ds = append(ds, transport.Delivery{Packet: p})
	}
	return ds
}

func placesOf(ds []transport.Delivery) string {
	var b strings.Builder
	for i := range ds {
		fmt.Fprintf(&b, "%s ", ds[i].Packet.Position)
	}
	return strings.TrimSpace(b.String())
}

func TestLineSort(t *testing.T) {
	for what, c := range map[string]struct {
		have          store.Place
		begins        int64
		came          string
		on, stale     string
		rest          string
		jump, isEarly bool
	}{
		"next":                              {have: end(6, 1), came: "7/0 7/1/last 8/0", on: "7/0 7/1/last 8/0"},
		"next in a batch":                   {have: at(7, 0), came: "7/1 7/2/last", on: "7/1 7/2/last"},
		"in disorder":                       {have: end(6, 1), came: "8/0 7/1/last 7/0", on: "7/0 7/1/last 8/0"},
		"twice":                             {have: end(6, 1), came: "7/0 7/1 7/0 7/1", on: "7/0 7/1"},
		"here already":                      {have: at(7, 1), came: "6/0 7/1 7/2/last", stale: "6/0 7/1", on: "7/2/last"},
		"one is missing":                    {have: end(6, 1), came: "7/1 7/2/last", rest: "7/1 7/2/last", isEarly: true},
		"one is missing behind":             {have: end(6, 1), came: "7/0 7/2/last", on: "7/0", rest: "7/2/last", isEarly: true},
		"a batch is missing":                {have: end(6, 1), came: "8/0", rest: "8/0", isEarly: true},
		"the rest of a batch":               {have: at(6, 1), came: "7/0", rest: "7/0", isEarly: true},
		"unknown lane":                      {came: "7/0 7/1", rest: "7/0 7/1", isEarly: true},
		"unknown lane, batch 1":             {came: "1/0", rest: "1/0", isEarly: true},
		"unknown lane begins":               {begins: 7, came: "7/0/first 7/1", on: "7/0 7/1"},
		"unknown lane begins behind":        {begins: 5, came: "7/0/first 7/1", on: "7/0 7/1"},
		"unknown lane begins with a jump":   {begins: 7, came: "7/0/jump 7/1", on: "7/0 7/1", jump: true},
		"unknown lane begins later":         {begins: 6, came: "6/0 7/0/first", rest: "6/0 7/0", isEarly: true},
		"unknown lane, too late":            {begins: 8, came: "7/0/first 7/1/last 8/0", rest: "7/0 7/1/last 8/0", isEarly: true},
		"unknown lane, too late a jump":     {begins: 8, came: "7/0/jump", rest: "7/0", isEarly: true},
		"unknown lane that nobody spoke of": {came: "7/0/first", rest: "7/0", isEarly: true},
		"first, of a known lane":            {have: end(5, 1), came: "7/0/first", rest: "7/0", isEarly: true},
		"first, which is next":              {have: end(6, 1), came: "7/0/first", on: "7/0"},
		"jump":                              {have: end(2, 1), came: "7/0/jump 7/1/last 8/0", on: "7/0 7/1/last 8/0", jump: true},
		"jump that is next":                 {have: end(6, 1), came: "7/0/jump", on: "7/0"},
		"jump that is here":                 {have: end(7, 1), came: "7/0/jump 8/0", stale: "7/0", on: "8/0"},
		"jump behind what is next":          {have: end(2, 1), came: "3/0 7/0/jump", on: "3/0", rest: "7/0", isEarly: true},
		"a later life of the same numbers":  {have: end(6, 1), came: "6/1/last", stale: "6/1/last"},
	} {
		l := &line{lane: transport.Lane{From: "floor"}, have: c.have, begins: c.begins}
		if dropped := l.take(came(c.came)); len(dropped) > 0 {
			t.Errorf("%s: dropped %s", what, placesOf(dropped))
		}
		s := l.sort()
		if placesOf(s.on) != c.on || placesOf(s.stale) != c.stale || placesOf(l.pending) != c.rest || s.jump != c.jump || s.early != c.isEarly {
			t.Errorf("%s: on %q, stale %q, in hand %q, jump %t, early %t, want %q, %q, %q, %t, %t",
				what, placesOf(s.on), placesOf(s.stale), placesOf(l.pending), s.jump, s.early, c.on, c.stale, c.rest, c.jump, c.isEarly)
		}
	}
}

// Of what came twice the later is kept, for the transport knows no other handle any more.
func TestLineKeepsTheLater(t *testing.T) {
	l := &line{lane: transport.Lane{From: "floor"}, have: end(6, 1)}
	first, again := came("7/0 7/1"), came("7/0 7/1")
	for i := range first {
		first[i].Handle, again[i].Handle = "old", "new"
	}
	l.take(first)
	l.take(again)
	s := l.sort()
	if len(s.on) != 2 || s.on[0].Handle != "new" || s.on[1].Handle != "new" {
		t.Errorf("in hand is %+v, want two with the later handles", s.on)
	}
}

// What is in hand is bounded, in number and bytes; the furthest is given back.
func TestLineIsBounded(t *testing.T) {
	l := &line{lane: transport.Lane{From: "floor"}}
	many := make([]transport.Delivery, pendingMost+5)
	for i := range many {
		many[i].Packet.Position = transport.Position{Batch: 9, Index: len(many) - i}
	}
	dropped := l.take(many)
	if len(l.pending) != pendingMost || len(dropped) != 5 || dropped[4].Packet.Position.Index != len(many) {
		t.Errorf("%d are in hand and %d dropped, want %d and the 5 furthest", len(l.pending), len(dropped), pendingMost)
	}
	l = &line{lane: transport.Lane{From: "floor"}}
	big := came("7/0 7/1 7/2")
	for i := range big {
		big[i].Packet.Body = make([]byte, pendingBytes/2)
	}
	if dropped := l.take(big); placesOf(dropped) != "7/2" {
		t.Errorf("dropped %s, want 7/2", placesOf(dropped))
	}
}

// A gap is wished for, not too often, and in the end what came too early is dropped; a full queue is asked with growing pauses.
func TestLinePatience(t *testing.T) {
	l := &line{lane: transport.Lane{From: "floor"}}
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		after      time.Duration
		wish, drop bool
	}{{0, true, false}, {wishPause / 2, false, false}, {wishPause, true, false}, {gapPatience, true, true}} {
		if wish, drop := l.missing(now.Add(c.after)); wish != c.wish || drop != c.drop {
			t.Errorf("missing() after %s = %t, %t, want %t, %t", c.after, wish, drop, c.wish, c.drop)
		}
	}
	var pauses []time.Duration
	for range 7 {
		l.full("full", now)
		pauses = append(pauses, l.until.Sub(now))
	}
	if pauses[0] != fullPauseMin || pauses[1] != 2*fullPauseMin || pauses[6] != fullPauseMax {
		t.Errorf("pauses %v, want them doubled from %s to %s", pauses, fullPauseMin, fullPauseMax)
	}
	l.kept(at(7, 0), 1, now)
	if !l.until.IsZero() || l.why != "" || !l.gap.IsZero() {
		t.Errorf("after something was kept the line is %+v, want nothing that holds it", l)
	}
}

func TestAdmission(t *testing.T) {
	a := admission{
		boundary: "kitchen",
		owns:     func(boundary string) bool { return boundary == "kitchen" || boundary == "bar" },
		kind: func(topic string) store.Kind {
			return map[string]store.Kind{
				"kitchen.cook": store.KindCommand, "kitchen.ready": store.KindEvent, "till.paid": store.KindEvent, "kitchen.refused": store.KindCommand,
				"floor.opened": store.KindEvent, "kitchen.menu.states": store.KindCommand, "floor.table.states.reply": store.KindReply,
			}[topic]
		},
		apart: func(boundary string) bool { return boundary == "floor" },
		inner: func(topic string) bool { return topic == "kitchen.menu.states" },

		maxBody: 3,
	}
	lane := transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "x"}
	for what, c := range map[string]struct {
		p         transport.Packet
		malformed error
		want      string
	}{
		"command":                       {p: transport.Packet{Lane: lane, Topic: "kitchen.cook", Kind: transport.KindCommand}},
		"command that nobody handles":   {p: transport.Packet{Lane: lane, Topic: "kitchen.paint", Kind: transport.KindCommand}},
		"command to another":            {p: transport.Packet{Lane: lane, Topic: "bar.mix", Kind: transport.KindCommand}, want: "does not own it"},
		"event":                         {p: transport.Packet{Lane: lane, Topic: "floor.opened", Kind: transport.KindEvent}},
		"reply":                         {p: transport.Packet{Lane: lane, Topic: "floor.seat.reply", Kind: transport.KindReply}},
		"event of another":              {p: transport.Packet{Lane: lane, Topic: "till.paid", Kind: transport.KindEvent}, want: "came from boundary floor, which does not own it"},
		"event of ours":                 {p: transport.Packet{Lane: lane, Topic: "kitchen.ready", Kind: transport.KindEvent}, want: "is published here"},
		"event that is a command here":  {p: transport.Packet{Lane: lane, Topic: "kitchen.cook", Kind: transport.KindEvent}, want: "came as event, and is known here as command"},
		"signal":                        {p: transport.Packet{Lane: lane, Topic: "kitchen.stop", Kind: transport.KindSignal}, want: "signals do not go between stores"},
		"foreign command":               {p: transport.Packet{Source: "/till", Topic: "kitchen.cook"}},
		"foreign command, said so":      {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", Kind: transport.KindCommand}},
		"foreign event":                 {p: transport.Packet{Source: "/till", Topic: "till.paid"}},
		"foreign event of ours":         {p: transport.Packet{Source: "/till", Topic: "kitchen.ready"}, want: "is published here"},
		"foreign event of a boundary":   {p: transport.Packet{Source: "/till", Topic: "floor.opened"}, want: "is published by boundary floor alone"},
		"foreign, with a stamp":         {p: transport.Packet{Source: "/till", Topic: "till.paid", Stamp: 9}, want: "attribute weirstamp"},
		"foreign, with a reply's way":   {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", ReplyTo: "floor"}, want: "attribute weirreplyto"},
		"foreign tombstone":             {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", Tombstone: "gone"}, want: "attribute weirtombstone"},
		"foreign reply":                 {p: transport.Packet{Source: "/till", Topic: "floor.table.states.reply"}, want: "replies come from boundaries"},
		"foreign signal":                {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", Kind: transport.KindSignal}, want: "came as signal"},
		"foreign question of a replica": {p: transport.Packet{Source: "/till", Topic: "kitchen.menu.states"}, want: "an entity's owner and its followers"},
		"foreign, with our header":      {p: transport.Packet{Source: "/till", Topic: "till.paid", Headers: map[string]string{headerDeleted: "true"}}, want: "is weir's own"},
		"foreign, of the largest body":  {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", Body: []byte("123")}},
		"foreign, of a larger one":      {p: transport.Packet{Source: "/till", Topic: "kitchen.cook", Body: []byte("1234")}, want: "its body is 4 bytes, at most 3 (Config.MaxBody)"},
		"of a larger body":              {p: transport.Packet{Lane: lane, Topic: "kitchen.cook", Kind: transport.KindCommand, Body: []byte("1234")}},
		"question of a replica":         {p: transport.Packet{Lane: lane, Topic: "kitchen.menu.states", Kind: transport.KindCommand, Stamp: 9, ReplyTo: "floor"}},
		"foreign, unknown":              {p: transport.Packet{Source: "/till", Topic: "kitchen.paint"}, want: "nobody here handles or subscribes"},
		"foreign, to the dead letters":  {p: transport.Packet{Source: "/till", Topic: "kitchen.refused"}, want: "is where what is refused goes"},
		"foreign, no contract's name":   {p: transport.Packet{Source: "/till", Topic: "com.example.Paid v2"}, want: "is no contract's name"},
		"no dot":                        {p: transport.Packet{Source: "/till", Topic: "paid"}, want: "is no contract's name"},
		"malformed":                     {p: transport.Packet{Source: "/till"}, malformed: errors.New("no id"), want: "no id"},
		"a relay's topic, with another": {p: transport.Packet{Lane: lane, Topic: "kitchen.cook@bar", Kind: transport.KindCommand}, want: "is no contract's name"},
	} {
		got := a.refuses(&transport.Delivery{Packet: c.p, Malformed: c.malformed})
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: refused as %q, want %q", what, got, c.want)
		}
	}
}

// What is malformed elsewhere than in its place keeps the lane dense.
func TestOnLane(t *testing.T) {
	p := came("7/0")[0].Packet
	bad := func(attribute string) error {
		return &transport.MalformedError{Attribute: attribute, Problem: "is wrong"}
	}
	for _, c := range []struct {
		d    transport.Delivery
		want bool
	}{
		{transport.Delivery{Packet: p}, true}, {transport.Delivery{Packet: p, Malformed: bad("time")}, true},
		{transport.Delivery{Packet: p, Malformed: bad("weirpos")}, false}, {transport.Delivery{Packet: p, Malformed: bad("source")}, false},
		{transport.Delivery{Packet: transport.Packet{Source: "/till"}}, false},
	} {
		if got := onLane(&c.d); got != c.want {
			t.Errorf("onLane(%+v) = %t, want %t", c.d, got, c.want)
		}
	}
}

func TestMessageAndPacket(t *testing.T) {
	lane := transport.Lane{From: "kitchen", Incarnation: "k7q2xw", Queue: "kitchen.cook.reply@floor"}
	sent := time.UnixMicro(1_700_000_000_000_001)
	m := &store.Message{
		ID: "k7q2xw-1", SentAt: sent, Stamp: 17, Topic: "kitchen.cook.reply@floor", Kind: store.KindReply, Version: 3, Key: "7",
		Cause: "aaaaaa-1~x", Correlation: "aaaaaa-2", Headers: []byte(`{"tenant":"north"}`), Body: []byte("x"),
	}
	p, err := packetOf(lane, end(4, 2), m)
	if err != nil || p.Topic != "kitchen.cook.reply" || p.Cause != "aaaaaa-1" || p.Headers["tenant"] != "north" || p.Stamp != 17 || p.Position.String() != "4/2/last" {
		t.Errorf("packetOf() = %+v, %v, want the reply, as its asker knows what it asked", p, err)
	}
	var got store.Message
	var o store.Origin
	if err := messageOf(&p, &got, &o); err != nil || got.Topic != p.Topic || string(got.Headers) != `{"tenant":"north"}` || o.ID != m.ID || o.From != "kitchen" || !o.SentAt.Equal(sent) {
		t.Errorf("messageOf() = %+v from %+v, %v, want the reply from the kitchen", got, o, err)
	}
	p.Kind, p.Headers = transport.KindEvent, map[string]string{stampHeader: "99", "tenant": "north"}
	if err := messageOf(&p, &got, &o); err != nil || string(got.Headers) != `{"tenant":"north","weir-stamp":"17"}` {
		t.Errorf("messageOf(event) has headers %s, %v, want its own stamp", got.Headers, err)
	}
	p.Headers = nil
	if err := messageOf(&p, &got, &o); err != nil || string(got.Headers) != `{"weir-stamp":"17"}` {
		t.Errorf("messageOf(event) has headers %s, %v, want its stamp", got.Headers, err)
	}
	foreign := transport.Packet{Source: "/till", ID: "1", Topic: "kitchen.cook", ReplyTo: "floor"}
	if err := messageOf(&foreign, &got, &o); err != nil || o.ID != "/till#1" || o.From != "floor" || got.Version != 1 {
		t.Errorf("messageOf(foreign) = %+v from %+v, %v, want version 1, and the reply to floor", got, o, err)
	}
	m.Headers = []byte("x")
	if _, err := packetOf(lane, at(1, 0), m); err == nil {
		t.Error("packetOf() with damaged headers = nil, want an error: it is a dead letter")
	}
}
