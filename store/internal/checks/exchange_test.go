package checks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

func TestArrives(t *testing.T) {
	have := &store.Place{Batch: 3, Index: 4}
	end := &store.Place{Batch: 3, Index: 5, Last: true}
	for _, c := range []struct {
		name            string
		have            *store.Place
		from            store.Place
		jump            bool
		missed, refused bool
	}{
		{name: "an unknown lane", from: store.Place{Batch: 7, Index: 2}},
		{name: "an unknown lane, after a jump", from: store.Place{Batch: 7, Index: 2}, jump: true, missed: true},
		{name: "the next", have: have, from: store.Place{Batch: 3, Index: 5}},
		{name: "the next, after a jump", have: have, from: store.Place{Batch: 3, Index: 5}, jump: true},
		{name: "the same", have: have, from: *have, refused: true},
		{name: "the same, after a jump", have: have, from: *have, jump: true, refused: true},
		{name: "an earlier one", have: have, from: store.Place{Batch: 2, Index: 9}, refused: true},
		{name: "an earlier one, after a jump", have: have, from: store.Place{Batch: 2, Index: 9}, jump: true, refused: true},
		{name: "one missing", have: have, from: store.Place{Batch: 3, Index: 6}, refused: true},
		{name: "the rest of the batch missing", have: have, from: store.Place{Batch: 4}, refused: true},
		{name: "the rest of the batch missing, after a jump", have: have, from: store.Place{Batch: 4}, jump: true, missed: true},
		{name: "the next batch", have: end, from: store.Place{Batch: 4}},
		{name: "beyond the batch's last", have: end, from: store.Place{Batch: 3, Index: 6}, refused: true},
		{name: "a batch missing", have: end, from: store.Place{Batch: 5}, refused: true},
	} {
		missed, err := checks.Arrives(&store.Arrival{Lane: "l", From: c.from, Jump: c.jump}, c.have)
		if missed != c.missed || (err != nil) != c.refused {
			t.Errorf("Arrives(%s) = %t, %v, want %t, refused: %t", c.name, missed, err, c.missed, c.refused)
		}
	}
}

func TestArrival(t *testing.T) {
	place := func(batch int64, index int) store.Place { return store.Place{Batch: batch, Index: index} }
	for _, c := range []struct {
		a    store.Arrival
		good bool
	}{
		{store.Arrival{Lane: "l", From: place(1, 0), To: place(1, 0)}, true},
		{store.Arrival{Lane: "l", From: place(1, 3), To: place(2, 0)}, true},
		{store.Arrival{Lane: "l", From: place(1, 3), To: store.Place{Batch: 1, Index: 3, Last: true}}, true},
		{store.Arrival{Lane: "l", From: store.Place{Batch: 1, Index: 3, Last: true}, To: place(2, 0)}, true},
		{store.Arrival{Lane: "l", From: store.Place{Batch: 1, Index: 3, Last: true}, To: place(1, 4)}, false},
		{store.Arrival{Lane: "l", From: store.Place{Batch: 1, Index: 3, Last: true}, To: place(1, 3)}, false},
		{store.Arrival{Lane: "l", From: place(2, 0), To: place(1, 9)}, false},
		{store.Arrival{Lane: "l", From: place(1, 1), To: place(1, 0)}, false},
		{store.Arrival{Lane: "l", From: place(1, 0), To: place(2, -1)}, false},
		{store.Arrival{Lane: "l", From: place(0, 0), To: place(1, 0)}, false},
		{store.Arrival{Lane: "l", From: place(1, -1), To: place(1, 0)}, false},
		{store.Arrival{From: place(1, 0), To: place(1, 0)}, false},
		{store.Arrival{Lane: strings.Repeat("l", store.MaxLane+1), From: place(1, 0), To: place(1, 0)}, false},
	} {
		if err := checks.Arrival(&c.a); (err == nil) != c.good {
			t.Errorf("Arrival(%.20s, %+v to %+v) = %v, want good: %t", c.a.Lane, c.a.From, c.a.To, err, c.good)
		}
	}
}

func TestDuties(t *testing.T) {
	if err := checks.Duties(store.ClaimRequest{Duties: []string{"relay a", "inlet b"}}); err != nil {
		t.Errorf("Duties() = %v, want nil", err)
	}
	for name, bad := range map[string]store.ClaimRequest{
		"with a queue":  {Duties: []string{"a"}, Queue: 1},
		"with runs":     {Duties: []string{"a"}, Workflow: "w"},
		"with a number": {Duties: []string{"a"}, Max: 1},
		"twice":         {Duties: []string{"a", "a"}},
		"without name":  {Duties: []string{""}},
		"too many":      {Duties: make([]string, store.MaxDuties+1)},
	} {
		if checks.Duties(bad) == nil {
			t.Errorf("Duties(%s) = nil, want an error", name)
		}
	}
}

func TestStates(t *testing.T) {
	m := &store.Message{}
	good := store.State{Entity: "e", Key: "k", Version: 1, Contract: 1, AsOf: time.Unix(1, 0)}
	if err := checks.States(&store.Change{States: []store.State{good}}); err != nil {
		t.Errorf("States(a good one) = %v, want nil", err)
	}
	for name, spoil := range map[string]func(st *store.State){
		"no entity":             func(st *store.State) { st.Entity = "" },
		"no key":                func(st *store.State) { st.Key = "" },
		"a long key":            func(st *store.State) { st.Key = strings.Repeat("k", 513) },
		"a key with a NUL":      func(st *store.State) { st.Key = "a\x00" },
		"a key that is no text": func(st *store.State) { st.Key = "\xff" },
		"no contract":           func(st *store.State) { st.Contract = 0 },
		"no version":            func(st *store.State) { st.Version = 0 },
		"no time":               func(st *store.State) { st.AsOf = time.Time{} },
		"a strange message":     func(st *store.State) { st.Of = m },
		"a tombstone's body":    func(st *store.State) { st.Deleted, st.Body = true, []byte("x") },
		"a long body":           func(st *store.State) { st.Body = make([]byte, checks.ValueMax+1) },
	} {
		bad := good
		spoil(&bad)
		if checks.States(&store.Change{States: []store.State{good, bad}}) == nil {
			t.Errorf("States(%s) = nil, want an error", name)
		}
	}
	if checks.States(&store.Change{States: make([]store.State, store.MaxStates+1)}) == nil {
		t.Error("States(too many) = nil, want an error")
	}
}
