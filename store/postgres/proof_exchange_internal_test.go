package postgres

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// arrived is a change as it comes on a lane: so many messages, from one place to another.
func arrived(lane string, batch int64, count int) *store.Change {
	ch := &store.Change{Outside: true, Arrival: &store.Arrival{Lane: lane,
		From: store.Place{Batch: batch, Last: count == 1}, To: store.Place{Batch: batch, Index: count - 1, Last: true}}}
	for i := range count {
		ch.Sends = append(ch.Sends, &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Key: strconv.Itoa(i % 3), Body: []byte("x"),
			Origin: &store.Origin{ID: fmt.Sprintf("%s-%d-%d", lane, batch, i), From: "floor", SentAt: time.Now()}})
	}
	return ch
}

// atOnce commits two changes at once, by a process each.
func atOnce(t testing.TB, stores [2]*Store, changes [2]*store.Change) (first, second error) {
	var both sync.WaitGroup
	both.Go(func() { first = commitOne(t.Context(), stores[0], changes[0]) })
	second = commitOne(t.Context(), stores[1], changes[1])
	both.Wait()
	return first, second
}

// proveArrivals has two processes commit the same arrivals at once, on lanes that are new and on lanes that
// are not: one of them has it, the other is told that it is there.
func proveArrivals(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	const rounds, each = 40, 3
	for round := range rounds {
		lane, batch := fmt.Sprintf("floor/k7q2xw/%d", round/4), int64(round%4+1)
		changes := [2]*store.Change{arrived(lane, batch, each), arrived(lane, batch, each)}
		if (round+round/4)%2 == 1 { // all of them tombstones: there are no origins to tell that they are the same
			changes[0].Sends, changes[1].Sends = nil, nil
		}
		var first, second error
		if round/4%2 == 0 {
			first, second = atOnce(t, stores, changes)
		} else {
			first, second = newMeeting(h).commit(t, stores, changes[0], changes[1])
		}
		if first != nil {
			first, second = second, first
		}
		misplaced, ok := errors.AsType[*store.MisplacedError](second)
		if first != nil || !ok || misplaced.Have != changes[0].Arrival.To {
			t.Errorf("round %d: Commit(the same arrival, twice at once) = %v and %v, want nil and a MisplacedError that has it", round, first, second)
		}
	}
	rows, err := stores[0].Reader().Exchange().Arrivals(t.Context(), "")
	if err != nil || len(rows) != rounds/4 {
		t.Fatalf("Arrivals() = %d lanes, %v, want %d", len(rows), err, rounds/4)
	}
	for _, r := range rows {
		if r.Arrived != 2*each || r.Jumps != 0 || r.Have.Batch != 4 {
			t.Errorf("Arrivals(): %+v, want %d messages, up to batch 4", r, 2*each)
		}
	}
	list, err := stores[0].Reader().Messages(t.Context(), store.MessageQuery{Topic: "a.cook", Max: store.MaxList})
	if err != nil || len(list) != rounds/2*each {
		t.Errorf("Messages() = %d, %v, want %d: each arrival once", len(list), err, rounds/2*each)
	}
}

// proveOrigins has two processes commit the same messages at once, by different lanes: as an event comes that
// two boundaries of this store subscribe to. Each is here once.
func proveOrigins(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	const rounds, each = 30, 5
	for round := range rounds {
		var changes [2]*store.Change
		for i := range changes {
			changes[i] = arrived(fmt.Sprintf("floor/k7q2xw/%d", i), int64(round+1), each)
			for n, m := range changes[i].Sends {
				m.Origin.ID = fmt.Sprintf("k7q2xw-%d", round*each+n)
			}
		}
		var first, second error
		if round%2 == 0 {
			first, second = atOnce(t, stores, changes)
		} else {
			first, second = newMeeting(h).commit(t, stores, changes[0], changes[1])
		}
		if first != nil || second != nil {
			t.Errorf("Commit(the same messages by two lanes) = %v and %v, want nil", first, second)
		}
		for n := range each {
			if a, b := changes[0].Sends[n], changes[1].Sends[n]; a.Pos != b.Pos || a.ID != b.ID || a.Stamp != b.Stamp {
				t.Errorf("message %s is at %d and at %d, want one place", a.ID, a.Pos, b.Pos)
			}
		}
	}
	list, err := stores[0].Reader().Messages(t.Context(), store.MessageQuery{Topic: "a.cook", Max: store.MaxList})
	if err != nil || len(list) != rounds*each {
		t.Errorf("Messages() = %d, %v, want %d: each once", len(list), err, rounds*each)
	}
}

// What is so much that it goes by COPY has its origins too, and is known when it comes again.
func TestManyArrive(t *testing.T) {
	t.Parallel()
	_, stores, queue := twins(t, func(*Store) {})
	ch := arrived("floor/k7q2xw/a", 1, 3*copyMin)
	if err := commitOne(t.Context(), stores[0], ch); err != nil {
		t.Fatal(err)
	}
	b := claimSome(t, stores[1], queue, store.MaxBatch)
	if b == nil || len(b.Deliveries) != 3*copyMin {
		t.Fatalf("Claim() = %+v, want %d messages", b, 3*copyMin)
	}
	for i, d := range b.Deliveries {
		m, want := d.Message, ch.Sends[i]
		if m.ID != want.Origin.ID || m.Origin == nil || m.Origin.From != want.Origin.From || m.Origin.SentAt.UnixMicro() != want.Origin.SentAt.UnixMicro() || m.Stamp != want.Stamp {
			t.Errorf("Claim(): delivery %d is %+v, want %+v", i, m, want)
		}
	}
	again := arrived("floor/k7q2xw/a", 1, 3*copyMin)
	again.Arrival.Lane = "floor/k7q2xw/b"
	if err := commitOne(t.Context(), stores[1], again); err != nil {
		t.Fatal(err)
	}
	for i, m := range again.Sends {
		if m.Pos != ch.Sends[i].Pos || m.Stamp != ch.Sends[i].Stamp {
			t.Errorf("message %s that comes again is at %d, want %d", m.ID, m.Pos, ch.Sends[i].Pos)
		}
	}
}

// What a sender could not give any more, doctor tells for a day.
func TestCheckSeesWhatIsMissingForGood(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	for _, lane := range []string{"a lane", "old", "good"} {
		ch := arrived(lane, 7, 1)
		ch.Arrival.Jump = lane != "good"
		if err := commitOne(t.Context(), stores[0], ch); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.db.Exec(t.Context(), inSchema("update weir.arrivals set jumped_us = jumped_us - 90000000000 where lane = 'old'", h.schema)); err != nil {
		t.Fatal(err)
	}
	if err := commitOne(t.Context(), stores[1], arrived("a lane", 8, 1)); err != nil {
		t.Fatal(err)
	}
	found, err := stores[0].Reader().Check(t.Context())
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "on lane a lane something is missing") || !strings.Contains(found[0].What, "1 times in all") {
		t.Errorf("Check() = %+v, %v, want one that names the lane", found, err)
	}
}
