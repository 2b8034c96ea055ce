package engine

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestResync(t *testing.T) {
	t.Parallel()
	now := time.UnixMicro(1e15)
	done := progress{Snapshot: "s", Done: true, Loaded: true, Began: now.Add(-time.Hour), PageAt: now.Add(-time.Hour), Owner: "own111", Own: "here11", Covered: 50}
	under := done
	under.Done, under.Owner, under.PageAt = false, "", now.Add(-time.Minute)
	stuck := under
	stuck.PageAt = now.Add(-time.Hour)
	quiet := sight{now: now, interval: 10 * time.Second, own: "here11"}
	heard := quiet
	heard.heardAt, heard.beat = now.Add(-5*time.Second), beat{Newest: 60, Incarnation: "own111"}
	for what, c := range map[string]struct {
		p    progress
		s    func(s *sight)
		from sight
		want string
	}{
		"never begun":                              {progress{}, nil, quiet, "first"},
		"all is well":                              {done, nil, heard, ""},
		"all is well, and nobody was heard":        {done, nil, quiet, ""},
		"this store was restored":                  {done, func(s *sight) { s.own = "other1" }, heard, "this store"},
		"a person's wish":                          {done, func(s *sight) { s.wish = 7 }, quiet, "person"},
		"a lane jumped":                            {done, func(s *sight) { s.jumps = 1 }, quiet, "send again"},
		"a gap of the subscription":                {done, func(s *sight) { s.beat.Gaps = 3 }, heard, "gap"},
		"a gap, while a snapshot is under way":     {under, func(s *sight) { s.beat.Gaps = 3 }, heard, "gap"},
		"the owner was restored":                   {done, func(s *sight) { s.beat.Incarnation = "other1" }, heard, "owner's store was restored"},
		"the owner, while a snapshot is under way": {under, func(s *sight) { s.beat.Incarnation = "other1" }, heard, ""},
		"lacking for 59 s":                         {done, func(s *sight) { s.lacking = now.Add(-59 * time.Second) }, heard, ""},
		"lacking for 60 s":                         {done, func(s *sight) { s.lacking = now.Add(-60 * time.Second) }, heard, "newest version"},
		"lacking while a snapshot is under way":    {under, func(s *sight) { s.lacking = now.Add(-time.Hour); s.heardAt = time.Time{} }, heard, ""},
		"no page, and the owner is heard":          {stuck, nil, heard, "no page"},
		"no page, and the owner is not heard":      {stuck, func(s *sight) { s.heardAt = now.Add(-time.Minute) }, heard, ""},
	} {
		s := c.from
		if c.s != nil {
			c.s(&s)
		}
		got := c.p.resync(s)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: resync = %q, want %q", what, got, c.want)
		}
	}
}

// What a resync began for is no reason for the next one; and one that does not help is
// tried again ever later.
func TestResyncEnds(t *testing.T) {
	t.Parallel()
	now := time.UnixMicro(1e15)
	s := sight{now: now, interval: 10 * time.Second, own: "here11", jumps: 2, wish: 9, heardAt: now, beat: beat{Newest: 60, Incarnation: "own111", Gaps: 4}}
	var p progress
	p.begin("s1", "it is the first", s)
	p.Done, p.Owner = true, "own111"
	if why := p.resync(s); why != "" {
		t.Errorf("resync after one for all reasons = %q, want none", why)
	}
	var waits []time.Duration
	for range 9 {
		s.lacking = s.now
		for p.resync(s) == "" {
			s.now = s.now.Add(10 * time.Second)
			s.heardAt = s.now
		}
		waits = append(waits, s.now.Sub(s.lacking))
		p.begin("s", p.resync(s), s)
		p.Done = true
	}
	m := time.Minute
	if want := []time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m, 60 * m}; !slices.Equal(waits, want) {
		t.Errorf("resyncs for what does not come after %v, want %v", waits, want)
	}
	p.begin("s", "a person wants it", s)
	if p.Lacked != 0 {
		t.Errorf("Lacked after a resync for another reason = %d, want 0", p.Lacked)
	}
}

func TestLacks(t *testing.T) {
	t.Parallel()
	p := progress{Covered: 50}
	for _, c := range []struct {
		newest, here int64
		want         bool
	}{{60, 40, true}, {60, 60, false}, {60, 70, false}, {50, 40, false}, {51, 40, true}} {
		if got := p.lacks(c.newest, c.here); got != c.want {
			t.Errorf("lacks(newest %d, here %d) with 50 covered = %v, want %v", c.newest, c.here, got, c.want)
		}
	}
}

// live is a state that was made at the time of its version, in microseconds.
func live(key string, version int64) store.State {
	return store.State{Key: key, Version: version, AsOf: time.UnixMicro(version)}
}

func dead(key string, version int64) store.State {
	return store.State{Key: key, Version: version, AsOf: time.UnixMicro(version), Deleted: true}
}

func made(s store.State, at int64) store.State {
	s.AsOf = time.UnixMicro(at)
	return s
}

func TestSweep(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		here, there []store.State
		newLife     bool
		want        []checked
	}{
		"equal":                           {here: []store.State{live("a", 5)}, there: []store.State{live("a", 5)}},
		"older here":                      {here: []store.State{live("a", 4)}, there: []store.State{live("a", 5)}},
		"another here":                    {here: []store.State{made(live("a", 5), 3)}, there: []store.State{made(live("a", 5), 4)}, want: []checked{{"a", 5, 3}}},
		"missing here":                    {there: []store.State{live("a", 5)}},
		"live here, missing there":        {here: []store.State{live("a", 5)}, want: []checked{{Key: "a", Version: 5}}},
		"dead here, missing there":        {here: []store.State{dead("a", 5)}},
		"live here, dead and newer there": {here: []store.State{live("a", 5)}, there: []store.State{dead("a", 6)}},
		"newer here":                      {here: []store.State{live("a", 7)}, there: []store.State{live("a", 5)}, want: []checked{{Key: "a", Version: 7}}},
		"dead and newer here":             {here: []store.State{dead("a", 7)}, there: []store.State{live("a", 5)}, want: []checked{{Key: "a", Version: 7}}},
		"since the beginning":             {here: []store.State{live("a", 11), live("b", 12)}, there: []store.State{live("b", 5)}},
		"of a life that is over":          {here: []store.State{live("a", 11), live("b", 12)}, there: []store.State{live("b", 5)}, newLife: true, want: []checked{{Key: "a", Version: 11}, {Key: "b", Version: 12}}},
		"between others": {here: []store.State{live("a", 1), live("b", 2), live("d", 3), live("e", 4)}, there: []store.State{live("a", 1), live("c", 9), live("e", 4), live("f", 5)},
			want: []checked{{Key: "b", Version: 2}, {Key: "d", Version: 3}}},
	} {
		for i := range c.want {
			c.want[i].AsOf = cmp.Or(c.want[i].AsOf, c.want[i].Version)
		}
		if got := sweep(c.here, c.there, 10, c.newLife); !slices.Equal(got, c.want) {
			t.Errorf("%s: sweep = %v, want %v", what, got, c.want)
		}
	}
}

func TestRemoved(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1e15)
	got := removed("x.y", []checked{{Key: "a", Version: 5}, {Key: "b", Version: 0}}, at)
	want := []store.State{{Entity: "x.y", Key: "a", Version: 6, Contract: 1, AsOf: at, Deleted: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("removed = %+v, want %+v: of what was never here nothing is removed", got, want)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		have            store.State
		known           bool
		asked           checked
		want            int64
		raised, missing bool
	}{
		"as new":       {made(live("a", 5), 3), true, checked{"a", 5, 3}, 5, false, false},
		"newer":        {dead("a", 9), true, checked{"a", 5, 3}, 9, false, false},
		"forgotten":    {live("a", 5), true, checked{"a", 8, 3}, 9, true, false},
		"another":      {made(live("a", 5), 4), true, checked{"a", 5, 3}, 6, true, false},
		"just fetched": {made(live("a", 5), 4), true, checked{Key: "a", Version: 5}, 5, false, false},
		"unknown":      {store.State{}, false, checked{"a", 8, 3}, 0, false, true},
	} {
		give, raised, missing := answer(c.asked, c.have, c.known)
		if give.Version != c.want || raised != c.raised || missing != c.missing || give.Deleted != c.have.Deleted {
			t.Errorf("%s: answer = %+v, raised %v, missing %v, want version %d, %v, %v", what, give, raised, missing, c.want, c.raised, c.missing)
		}
	}
}

func TestPageCodec(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1e15).UTC()
	states := []store.State{
		{Entity: "x.y", Key: "ä\n{", Version: 7, Contract: 2, AsOf: at, Body: []byte("\n{not JSON\x00\xff")},
		{Entity: "x.y", Key: "b", Version: 8, Contract: 1, AsOf: at, Deleted: true},
		{Entity: "x.y", Key: "c", Version: 9, Contract: 1, AsOf: at, Body: []byte(`{"Name":"<Ann>"}`)},
	}
	p := page{Snapshot: "s", After: "a", Begun: begun{Newest: 5, Incarnation: "abc"}, Incarnation: "def", Missing: []checked{{Key: "d", Version: 3}}, More: true}
	data, err := p.encode(states)
	if err != nil {
		t.Fatal(err)
	}
	got, there, err := decodePage("x.y", data)
	if err != nil || !reflect.DeepEqual(got, p) || !reflect.DeepEqual(there, states) {
		t.Errorf("decodePage = %+v, %+v, %v, want %+v, %+v", got, there, err, p, states)
	}
	for what, bad := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("x"), "cut": data[:len(data)-1], "more": append(data[:len(data):len(data)], 'x'),
		"negative": []byte(`{"states":[{"key":"a","version":1,"bytes":-1}]}` + "\n"),
		"no key":   []byte(`{"states":[{"version":1}]}`), "no version": []byte(`{"states":[{"key":"a"}]}`),
		"too many": []byte(`{"missing":[` + strings.Repeat(`{"key":"a"},`, store.MaxStates) + `{"key":"a"}]}`),
	} {
		if _, _, err := decodePage("x.y", bad); err == nil {
			t.Errorf("%s: decodePage gave no error", what)
		}
	}
}

func TestPageful(t *testing.T) {
	t.Parallel()
	of := func(n, size int) []store.State {
		list := make([]store.State, n)
		for i := range list {
			list[i].Body = make([]byte, size)
		}
		return list
	}
	for _, c := range []struct{ n, size, want int }{{0, 0, 0}, {1, 1 << 20, 1}, {2, 1 << 20, 1}, {10, pageBytes / 4, 4}, {pageStates + 1, 1, pageStates}, {3, 1, 3}} {
		if got := pageful(of(c.n, c.size)); got != c.want {
			t.Errorf("pageful(%d of %d bytes) = %d, want %d", c.n, c.size, got, c.want)
		}
	}
}

// Callers before a question has left share it; those after it has left get another one.
func TestRefreshCoalesces(t *testing.T) {
	t.Parallel()
	q, now := newAsks(), time.UnixMicro(1e15)
	join := func(key string) *refresh {
		r, err := q.join(key)
		if err != nil {
			t.Fatalf("join(%s) = %v", key, err)
		}
		return r
	}
	a, b := join("a"), join("b")
	if join("a") != a {
		t.Error("a second caller got a question of its own, before the first had left")
	}
	if got := q.leave("n1", now); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("leave = %v, want a and b", got)
	}
	again := join("a")
	if again == a {
		t.Error("a caller joined a question that had left: its answer may be older than the call")
	}
	q.answered("n1", []store.State{live("a", 5)}, []checked{{Key: "b", Version: 3}})
	here := map[string]int64{"a": 4, "b": 3}
	met := func() { q.met(func(key string) int64 { return here[key] }) }
	isDone := func(r *refresh) bool {
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	}
	if met(); isDone(a) || isDone(b) {
		t.Error("callers went on before memory had the answer")
	}
	here["a"] = 6 // by an event: newer than the answer
	if met(); !isDone(a) || isDone(b) || isDone(again) {
		t.Errorf("done: a %v, b %v, the second a %v, want only a", isDone(a), isDone(b), isDone(again))
	}
	here["b"] = 4 // the tombstone
	if met(); !isDone(b) {
		t.Error("the caller for what the owner knows nothing of does not go on")
	}
}

func TestRefreshBounds(t *testing.T) {
	t.Parallel()
	q, now := newAsks(), time.UnixMicro(1e15)
	q.capacity = 7
	leave := func(nonce string) int { return len(q.leave(nonce, now)) }
	for i := range flightsMax {
		q.join("a")
		if got := leave(string(rune('a' + i))); got != 1 {
			t.Errorf("leave %d gave %d keys, want 1", i, got)
		}
	}
	for _, key := range strings.Split("abcdefg", "") {
		if _, err := q.join(key); err != nil {
			t.Errorf("join(%s) = %v", key, err)
		}
	}
	if _, err := q.join("h"); !errors.Is(err, errAsksFull) {
		t.Errorf("join beyond the bound = %v, want errAsksFull", err)
	}
	if got := leave("x"); got != 0 {
		t.Errorf("leave with %d under way gave %d keys, want none", flightsMax, got)
	}
	if now = now.Add(flightSlow); leave("y") != 7 {
		t.Error("those that take long still hold back others")
	}
	r := q.flights["a"].left["a"]
	now = now.Add(flightLost - flightSlow)
	if q.expire(now); len(q.flights) != 1 || !errors.Is(r.err, errNoAnswer) {
		t.Errorf("after an hour %d are under way and the caller has %v, want 1 and errNoAnswer", len(q.flights), r.err)
	}
}

// Answers that others may have taken in are looked for often at first.
func TestRefreshLooks(t *testing.T) {
	t.Parallel()
	q, began := newAsks(), time.UnixMicro(1e15)
	if _, err := q.join("a"); err != nil {
		t.Fatal(err)
	}
	q.leave("n", began)
	var at []time.Duration
	for d := time.Duration(0); d < time.Hour; d += 10 * time.Millisecond {
		if len(q.look(began.Add(d))) == 1 {
			at = append(at, d)
		}
	}
	if at[0] != 0 || at[1] != 50*time.Millisecond || at[20] != time.Second || len(at) > 250 {
		t.Errorf("looked %d times in an hour, at first at %v, want every 50 ms at first, and at most 250 times", len(at), at[:21])
	}
}

func TestBeats(t *testing.T) {
	t.Parallel()
	queue := func(name string, gaps int64) store.QueueState {
		return store.QueueState{Queue: store.Queue{Name: name}, Gaps: gaps}
	}
	got := beats([]string{"a.x", "a.y"}, []store.QueueState{queue("a.x@b", 2), queue("a.y@b", 0), queue("a.x@c", 0), queue("a.x@*", 0), queue("a.z@b", 0), queue("a.x", 0)},
		[]store.EntityRow{{Entity: "a.x", Newest: 9}}, "inc")
	want := map[string][]beat{
		"b": {{Entity: "a.x", Newest: 9, Incarnation: "inc", Gaps: 2}, {Entity: "a.y", Incarnation: "inc"}},
		"c": {{Entity: "a.x", Newest: 9, Incarnation: "inc"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("beats = %+v, want %+v", got, want)
	}
}
