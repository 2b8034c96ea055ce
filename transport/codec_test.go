package transport_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/transport"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sent() time.Time { return time.Date(2026, 11, 22, 8, 30, 0, 123456000, time.UTC) }

// order is a packet with nothing unusual.
func order() transport.Packet {
	return transport.Packet{
		Lane:     transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen.prepare-food"},
		Position: transport.Position{Batch: 12, Index: 3},
		ID:       "k7q2xw-1hk3", Topic: "kitchen.prepare-food", Kind: transport.KindCommand, Version: 1,
		Key: "table 7", SentAt: sent(), ContentType: "application/json", Body: []byte(`{"dish":"soup"}`),
	}
}

// packets are packets as they go out, by golden file.
func packets() map[string]transport.Packet {
	full := order()
	full.Position.Last, full.Begin, full.Stamp = true, transport.BeginJump, 1_700_000_000_000_001
	full.Kind, full.Version = transport.KindReply, 3
	full.Cause, full.Correlation, full.ReplyTo = "p3ab9c-1x", "p3ab9c-1w", "waiters"
	full.Headers = map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01", "tracestate": "rojo=1, congo=t%61",
		"tenant": "north", "subject": "Euro € 😀",
	}
	odd := order()
	odd.Key = "table\x007\xff"
	odd.Headers = map[string]string{"Not-A-Name": "x", "data": "1", "id": "2", "weirlane": "3", "empty": "", "bell": "\a", "note": `"żółć" 100%`}
	tombstone := order()
	tombstone.Tombstone, tombstone.Body = "body is 1048577 bytes,\nat most 1048576", nil
	foreign := transport.Packet{Source: "https://example.com/till", ID: "A 1", Topic: "com.example.paid", SentAt: sent(), Body: []byte("<paid/>"), ContentType: "text/xml"}
	bare := transport.Packet{Source: "till", ID: "1", Topic: "paid"}
	return map[string]transport.Packet{"order": order(), "full": full, "odd": odd, "tombstone": tombstone, "foreign": foreign, "bare": bare}
}

// wire is what goes over the wire, in a form for people.
func wire(h transport.Header, body []byte) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(h[name], " | "))
	}
	fmt.Fprintf(&b, "\n%s\n", body)
	return b.Bytes()
}

// What is on the wire is an agreement with programs of others: it changes only on purpose.
func TestEncodeGolden(t *testing.T) {
	for name, p := range packets() {
		t.Run(name, func(t *testing.T) {
			h, err := p.Encode()
			if err != nil {
				t.Fatalf("Encode() = %v, want nil", err)
			}
			file, got := filepath.Join("testdata", name+".golden"), wire(h, p.Body)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Encode() =\n%s\nwant (%v)\n%s", got, err, want)
			}
			back, err := transport.Decode(h, p.Body)
			if p.Tombstone != "" {
				p.Tombstone = strings.ReplaceAll(p.Tombstone, "\n", " ")
			}
			if err != nil || !reflect.DeepEqual(back, p) {
				t.Errorf("Decode(Encode(p)) = %+v, %v, want %+v", back, err, p)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		change func(p *transport.Packet)
		want   error
		says   string
	}{
		"big body":          {func(p *transport.Packet) { p.Body = make([]byte, transport.MaxBody+1) }, transport.ErrTooBig, "body is 1048577 bytes, at most 1048576"},
		"big key":           {func(p *transport.Packet) { p.Key = long }, transport.ErrTooBig, "key is 2000 bytes, at most 512"},
		"big cause":         {func(p *transport.Packet) { p.Cause = long }, transport.ErrTooBig, "cause is 2000 bytes"},
		"big headers":       {func(p *transport.Packet) { p.Headers = map[string]string{"a": strings.Repeat("x", 9000)} }, transport.ErrTooBig, "Headers is 9009 bytes, at most 8192"},
		"no ID":             {func(p *transport.Packet) { p.ID = "" }, transport.ErrInvalid, "both are needed"},
		"no topic":          {func(p *transport.Packet) { p.Topic = "" }, transport.ErrInvalid, "both are needed"},
		"control character": {func(p *transport.Packet) { p.Topic = "a\nb" }, transport.ErrInvalid, `topic "a\nb" has the control character U+000A`},
		"noncharacter":      {func(p *transport.Packet) { p.Topic = "a\uffff" }, transport.ErrInvalid, "the noncharacter U+FFFF"},
		"not UTF-8":         {func(p *transport.Packet) { p.ID = "a\xff" }, transport.ErrInvalid, "bytes that are not UTF-8"},
		"header not UTF-8":  {func(p *transport.Packet) { p.Headers = map[string]string{"a": "\xff"} }, transport.ErrInvalid, `header "a" is not UTF-8`},
		"kind":              {func(p *transport.Packet) { p.Kind = "order" }, transport.ErrInvalid, `kind "order"`},
		"boundary":          {func(p *transport.Packet) { p.Lane.From = "Floor" }, transport.ErrInvalid, `boundary "Floor": want`},
		"incarnation":       {func(p *transport.Packet) { p.Lane.Incarnation = "a.b" }, transport.ErrInvalid, `incarnation "a.b"`},
		"queue":             {func(p *transport.Packet) { p.Lane.Queue = "a..b" }, transport.ErrInvalid, `queue "a..b"`},
		"wildcard":          {func(p *transport.Packet) { p.Lane.Queue = "a.*" }, transport.ErrInvalid, `queue "a.*"`},
		"reply to":          {func(p *transport.Packet) { p.ReplyTo = "9" }, transport.ErrInvalid, `boundary "9"`},
		"negative":          {func(p *transport.Packet) { p.Position.Index = -1 }, transport.ErrInvalid, "is negative"},
		"begin":             {func(p *transport.Packet) { p.Begin = "last" }, transport.ErrInvalid, `begin "last": want first or jump`},
		"begin nowhere": {func(p *transport.Packet) {
			p.Lane, p.Position, p.Source, p.Begin = transport.Lane{}, transport.Position{}, "till", "first"
		}, transport.ErrInvalid, "on a lane"},
		"stamp":       {func(p *transport.Packet) { p.Stamp = -1 }, transport.ErrInvalid, "stamp -1 is negative"},
		"nobody's":    {func(p *transport.Packet) { p.Lane = transport.Lane{} }, transport.ErrInvalid, "neither a lane nor a source"},
		"two senders": {func(p *transport.Packet) { p.Source = "till" }, transport.ErrInvalid, "both the lane"},
		"year":        {func(p *transport.Packet) { p.SentAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, transport.ErrInvalid, "year 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			p := order()
			c.change(&p)
			if _, err := p.Encode(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Encode() = %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

// event is the headers of a foreign program's event, each "name: value" of changes set or, if empty, taken away.
func event(changes ...string) transport.Header {
	h := transport.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/till"}, "ce-type": {"paid"}}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, ": ")
		if value == "" {
			delete(h, name)
			continue
		}
		h[name] = append([]string(nil), value)
	}
	return h
}

func TestDecodeForeign(t *testing.T) {
	for name, c := range map[string]struct {
		h     transport.Header
		check func(p transport.Packet) (got, want any)
	}{
		"name in any case":   {event("ce-id: ", "CE-ID: 7"), func(p transport.Packet) (any, any) { return p.ID, "7" }},
		"percent-encoded":    {event("ce-subject: Euro%20%e2%82%AC%20%F0%9F%98%80"), func(p transport.Packet) (any, any) { return p.Headers["subject"], "Euro € 😀" }},
		"encoded needlessly": {event("ce-id: %41%2e"), func(p transport.Packet) (any, any) { return p.ID, "A." }},
		"decoded once":       {event("ce-id: %2541"), func(p transport.Packet) (any, any) { return p.ID, "%41" }},
		"quoted":             {event(`ce-id: "a \"b\" \\ %20"`), func(p transport.Packet) (any, any) { return p.ID, `a "b" \  ` }},
		"raw UTF-8":          {event("ce-id: żółć"), func(p transport.Packet) (any, any) { return p.ID, "żółć" }},
		"time with an offset": {event("ce-time: 2026-11-22T09:30:00.5+01:00"), func(p transport.Packet) (any, any) {
			return p.SentAt, time.Date(2026, 11, 22, 8, 30, 0, 5e8, time.UTC)
		}},
		"extension":       {event("ce-tenant: north"), func(p transport.Packet) (any, any) { return p.Headers, map[string]string{"tenant": "north"} }},
		"schema":          {event("ce-dataschema: https://example.com/s"), func(p transport.Packet) (any, any) { return p.Headers["dataschema"], "https://example.com/s" }},
		"key":             {event("ce-partitionkey: table 7"), func(p transport.Packet) (any, any) { return p.Key, "table 7" }},
		"content type":    {event("Content-Type: text/plain; charset=utf-8"), func(p transport.Packet) (any, any) { return p.ContentType, "text/plain; charset=utf-8" }},
		"both types":      {event("Content-Type: text/plain", "ce-datacontenttype: text/xml"), func(p transport.Packet) (any, any) { return p.ContentType, "text/xml" }},
		"other headers":   {event("Nats-Msg-Id: 7", "ce: 1", "x-y: z"), func(p transport.Packet) (any, any) { return len(p.Headers), 0 }},
		"later weir":      {event("ce-weirtomorrow: 1"), func(p transport.Packet) (any, any) { return len(p.Headers), 0 }},
		"no lane":         {event(), func(p transport.Packet) (any, any) { return p.Lane, transport.Lane{} }},
		"source":          {event(), func(p transport.Packet) (any, any) { return p.Source, "/till" }},
		"trace of event":  {event("ce-traceparent: 00-a"), func(p transport.Packet) (any, any) { return p.Headers["traceparent"], "00-a" }},
		"trace of hop":    {event("ce-traceparent: 00-a", "ce-tracestate: a=1", "traceparent: 00-b"), func(p transport.Packet) (any, any) { return p.Headers, map[string]string{"traceparent": "00-b"} }},
		"trace as it is":  {event("traceparent: 00-b", `tracestate: a="%41", b=2`), func(p transport.Packet) (any, any) { return p.Headers["tracestate"], `a="%41", b=2` }},
		"trace in garble": {event("traceparent: \x01"), func(p transport.Packet) (any, any) { return len(p.Headers), 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := transport.Decode(c.h, []byte("x"))
			if err != nil {
				t.Fatalf("Decode(%v) = %v, want nil", c.h, err)
			}
			if got, want := c.check(p); !reflect.DeepEqual(got, want) {
				t.Errorf("Decode(%v) gives %#v, want %#v", c.h, got, want)
			}
		})
	}
}

func TestDecodeMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		h    transport.Header
		says string
	}{
		"nothing":            {nil, "attribute specversion is missing or empty"},
		"no id":              {event("ce-id: "), "attribute id is missing or empty"},
		"blank id":           {transport.Header{"ce-specversion": {"1.0"}, "ce-id": {" "}, "ce-source": {"/till"}, "ce-type": {"paid"}}, "attribute id is missing or empty"},
		"no source":          {event("ce-source: "), "attribute source is missing or empty"},
		"no type":            {event("ce-type: "), "attribute type is missing or empty"},
		"version":            {event("ce-specversion: 0.3"), `attribute specversion is "0.3": want 1.0`},
		"source":             {event("ce-source: http://[::1"), `attribute source is "http://[::1": want a URI reference`},
		"time":               {event("ce-time: yesterday"), `attribute time is "yesterday": want a time as in RFC 3339`},
		"name":               {event("ce-my_ext: 1"), `attribute "my_ext" is no name for one`},
		"name data":          {event("ce-data: 1"), `attribute "data" is no name for one`},
		"twice":              {event("CE-Id: 2"), "attribute id is there more than once"},
		"two values":         {transport.Header{"ce-id": {"1", "2"}}, "attribute id is there more than once"},
		"no value":           {transport.Header{"ce-id": {}}, "attribute id is there more than once"},
		"half an escape":     {event("ce-id: 100%"), `attribute id is "100%": want two hexadecimal digits after each %`},
		"no escape":          {event("ce-id: %zz"), "want two hexadecimal digits"},
		"overlong":           {event("ce-id: %C0%A0"), "it has bytes that are not UTF-8"},
		"control character":  {event("ce-id: a%0Ab"), "it has the control character U+000A"},
		"open quote":         {event(`ce-id: "a`), "the closing quote is missing"},
		"after the quote":    {event(`ce-id: "a" b`), "nothing may follow the closing quote"},
		"long":               {event("ce-id: " + strings.Repeat("x", 600)), "attribute id is 600 bytes, at most 512"},
		"long key":           {event("ce-partitionkey: " + strings.Repeat("x", 600)), "attribute partitionkey is 600 bytes, at most 512"},
		"large":              {event("ce-a: " + strings.Repeat("x", 9000)), "it has headers of 9009 bytes, at most 8192"},
		"huge":               {event("ce-a: " + strings.Repeat("x", 70000)), "at most 65536"},
		"kind":               {event("ce-weirkind: order"), `attribute weirkind is "order": want command`},
		"contract version":   {event("ce-weirversion: 1.5"), `attribute weirversion is "1.5": want a whole number`},
		"stamp":              {event("ce-weirstamp: 0"), `attribute weirstamp is "0": want a whole number of 1 or more`},
		"begin":              {event("ce-source: /weir/floor", "ce-weirlane: floor/a/b", "ce-weirpos: 1/2", "ce-weirbegin: last"), `attribute weirbegin is "last": want first or jump`},
		"lane":               {event("ce-weirlane: floor"), `attribute weirlane is "floor": want boundary/incarnation/queue`},
		"position":           {event("ce-source: /weir/floor", "ce-weirlane: floor/a/b", "ce-weirpos: 1"), `attribute weirpos is "1": want batch/index`},
		"position no lane":   {event("ce-weirpos: 1/2"), `attribute weirlane is ""`},
		"another's lane":     {event("ce-weirlane: floor/a/b", "ce-weirpos: 1/2"), `attribute source is "/till", but the lane is of boundary floor`},
		"reply to":           {event("ce-weirreplyto: *"), `attribute weirreplyto is "*": want a boundary's name`},
		"key":                {event("ce-weirkey: ="), `attribute weirkey is "=": want up to 512 bytes in base64`},
		"headers":            {event("ce-weirheaders: e30x"), "attribute weirheaders is no JSON object of texts in base64"},
		"structured in Avro": {event("Content-Type: application/cloudevents+avro"), `content type is "application/cloudevents+avro": want binary mode`},
		"batch":              {event("Content-Type: application/cloudevents-batch+json"), "want binary mode"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := transport.Decode(c.h, []byte("x"))
			bad, ok := errors.AsType[*transport.MalformedError](err)
			if !ok || !strings.Contains(bad.Error(), c.says) {
				t.Errorf("Decode(%v) = %v, want a MalformedError with %q", c.h, err, c.says)
			}
			if string(p.Body) != "x" {
				t.Errorf("Decode(%v) keeps the body %q, want x", c.h, p.Body)
			}
		})
	}
	if _, err := transport.Decode(event(), make([]byte, transport.MaxBody+1)); err == nil || !strings.Contains(err.Error(), "1048577 bytes of data, at most 1048576") {
		t.Errorf("Decode(a body of 1 MiB + 1) = %v, want how big it may be", err)
	}
}

// Of what has too large a body all is read but that.
func TestDecodeLarge(t *testing.T) {
	lane := event("ce-source: /weir/floor", "ce-weirlane: floor/a/b", "ce-weirpos: 1/2")
	for what, c := range map[string]struct {
		h    transport.Header
		size int
		says string
	}{
		"large":      {event("ce-partitionkey: 7"), transport.MaxBody + 1, "1048577 bytes of data, at most 1048576: they are not kept"},
		"very large": {event("ce-partitionkey: 7"), transport.MaxBody + transport.MaxWire + 1, "bytes of data, at most 1048576: they are not kept"},
		"on a lane":  {lane, transport.MaxBody + transport.MaxWire + 1, "bytes of data, at most 1048576: they are not kept"},
		"malformed":  {event("ce-time: noon"), 2 * transport.MaxBody, "attribute time"},
	} {
		p, err := transport.Decode(c.h, make([]byte, c.size))
		if bad, ok := errors.AsType[*transport.MalformedError](err); !ok || !strings.Contains(bad.Error(), c.says) {
			t.Errorf("%s: Decode = %v, want a MalformedError with %q", what, err, c.says)
		}
		if p.Body != nil || p.ID == "" || p.Topic == "" || p.Source == "" && p.Lane.From != "floor" || what == "large" && p.Key != "7" {
			t.Errorf("%s: Decode gave %+v, want what its headers say, and no body", what, p)
		}
	}
	p, err := transport.Decode(event("Content-Type: application/cloudevents+json"), make([]byte, 2*transport.MaxBody))
	if err == nil || !strings.Contains(err.Error(), "they are not kept") || p.Body != nil {
		t.Errorf("Decode(structured, 2 MiB) = %d bytes, %v, want none", len(p.Body), err)
	}
}

func TestDecodeStructured(t *testing.T) {
	h := transport.Header{"Content-Type": {"Application/CloudEvents+JSON; charset=utf-8"}, "traceparent": {"00-b"}}
	const core = `{"specversion":"1.0","id":"1","source":"/till","type":"paid",`
	for name, c := range map[string]struct{ body, want, says string }{
		"data":          {core + `"data":{"a": 1},"table":7,"vip":true,"traceparent":"00-a"}`, `{"a": 1}`, ""},
		"text":          {core + `"datacontenttype":"text/plain","data":"hello"}`, "hello", ""},
		"text in JSON":  {core + `"data":"hello"}`, `"hello"`, ""},
		"base64":        {core + `"data_base64":"AAE="}`, "\x00\x01", ""},
		"no data":       {core + `"subject":null}`, "", ""},
		"no JSON":       {`<x/>`, "", "is no JSON object"},
		"no id":         {`{"specversion":"1.0","source":"/till","type":"paid"}`, "", "attribute id is missing"},
		"both":          {core + `"data":1,"data_base64":"AA=="}`, "", "both data and data_base64"},
		"no base64":     {core + `"data_base64":"?"}`, "", "data_base64 is no base64"},
		"object":        {core + `"table":{"n":7}}`, "", `attribute table is {"n":7}: want a text, a boolean or a 32-bit integer`},
		"fraction":      {core + `"table":7.5}`, "", "32-bit integer"},
		"name":          {core + `"Table":7}`, "", `attribute "Table" is no name`},
		"control":       {core + `"table":"a\u0000"}`, "", "the control character U+0000"},
		"version first": {`{"specversion":"2.0","id":"1","source":"/till","type":"paid"}`, "", `specversion is "2.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := transport.Decode(h, []byte(c.body))
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Decode(%s) = %v, want %q", c.body, err, c.says)
				}
				return
			}
			if err != nil || string(p.Body) != c.want || p.ID != "1" || p.Headers["traceparent"] != "00-b" {
				t.Errorf("Decode(%s) = %+v, %v, want data %q", c.body, p, err, c.want)
			}
			if name == "data" && (p.Headers["table"] != "7" || p.Headers["vip"] != "true" || p.ContentType != "application/json") {
				t.Errorf("Decode(%s) = %+v, want table 7, vip true, JSON", c.body, p)
			}
		})
	}
}

func TestPosition(t *testing.T) {
	p := func(batch int64, index int, last bool) transport.Position {
		return transport.Position{Batch: batch, Index: index, Last: last}
	}
	for _, c := range []struct {
		a, b transport.Position
		want bool
	}{
		{p(1, 0, false), p(1, 1, false), true}, {p(1, 1, true), p(2, 0, false), true}, {p(1, 0, true), p(2, 0, true), true},
		{p(1, 1, true), p(1, 2, false), false}, {p(1, 1, false), p(2, 0, false), false}, {p(1, 1, true), p(3, 0, false), false},
		{p(1, 1, true), p(2, 1, false), false}, {p(1, 1, false), p(1, 1, false), false},
	} {
		if got := c.a.Precedes(c.b); got != c.want {
			t.Errorf("%s.Precedes(%s) = %t, want %t", c.a, c.b, got, c.want)
		}
	}
	if c := p(1, 9, true).Compare(p(2, 0, false)); c >= 0 {
		t.Errorf("Compare(1/9, 2/0) = %d, want below 0", c)
	}
	for _, s := range []string{"", "1", "1/", "/1", "-1/0", "1/-1", "01/2", "1/2/", "1/2/3", "1/2/lastly", "1/99999999999", "+1/2"} {
		if got, err := transport.ParsePosition(s); err == nil {
			t.Errorf("ParsePosition(%q) = %s, want an error", s, got)
		}
	}
}

// Whatever comes, decoding says yes or why not; and what it says yes to can be sent on and is the same again.
func FuzzDecode(f *testing.F) {
	for _, p := range packets() {
		h, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(wire(h, nil)), p.Body)
	}
	f.Add("Content-Type: application/cloudevents+json\n", []byte(`{"specversion":"1.0","id":"1","source":"/till","type":"paid","data":{"a":1}}`))
	f.Fuzz(func(t *testing.T, lines string, body []byte) {
		h := transport.Header{}
		for line := range strings.Lines(lines) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
				h[name] = append(h[name], value)
			}
		}
		p, err := transport.Decode(h, body)
		if err != nil {
			if _, ok := errors.AsType[*transport.MalformedError](err); !ok {
				t.Fatalf("Decode() = %v, want a MalformedError", err)
			}
			return
		}
		again, err := p.Encode()
		if errors.Is(err, transport.ErrTooBig) {
			return // what has no weir headers may grow by them
		}
		if err != nil {
			t.Fatalf("Encode(%+v) = %v, want nil", p, err)
		}
		back, err := transport.Decode(again, p.Body)
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("Decode(Encode(p)) = %+v, %v, want %+v", back, err, p)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	p := order()
	for b.Loop() {
		if _, err := p.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	p := order()
	h, _ := p.Encode()
	for b.Loop() {
		if _, err := transport.Decode(h, p.Body); err != nil {
			b.Fatal(err)
		}
	}
}
