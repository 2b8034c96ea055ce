package sqlite_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// TestCheckFinds wants each thing that Check looks for to be found, once, with
// what to do; and nothing else.
func TestCheckFinds(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(d *desk)
		what []string
		do   string
	}{
		{"nothing", func(d *desk) {
			d.send(cook, "a1 2")
			d.claim(cook, "a1 2")
		}, nil, ""},
		{"paused", func(d *desk) {
			d.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
		}, []string{"kitchen.cook is paused since 2026-03-01T12:00:00Z by ada: mended"}, "weir queue resume kitchen.cook"},
		{"dead", func(d *desk) {
			d.die(cook, cook, "a1 a2")
		}, []string{"1 dead letters wait in kitchen.cook, the oldest since 2026-03-01T12:00:00Z"}, "weir dead ls kitchen.cook"},
		{"full", func(d *desk) {
			d.send(cook, "1 2 3 4 5 6 7 8")
		}, []string{"kitchen.cook is nearly full: depth 8 of 10"}, "weir queue show kitchen.cook"},
		{"silent", func(d *desk) {
			d.move(2 * time.Minute)
		}, []string{"process 1 (pid 1 on here) has been silent for 2m0s without having ended"}, "start the service again"},
		{"overdue", func(d *desk) {
			d.send(cook, "1")
			d.settle(d.claim(cook, "1"), store.Retry, "1")
			d.move(7 * time.Minute)
			d.beat()
		}, []string{"was due in kitchen.cook at 2026-03-01T12:01:00Z and has not been claimed"}, "weir queue show kitchen.cook"},
		{"abandoned", func(d *desk) {
			d.send(cook, "1 2")
			d.settle(d.claim(cook, "1 2"), store.Done, "1")
			d.sql(`update weir_batches set owner = 77 where open > 0`)
			d.move(2 * time.Minute)
			d.beat()
		}, []string{"batch 1 of kitchen.cook is open with 1 messages, but process 77 ended"}, "start the service that handles it"},
		{"stray follower", func(d *desk) {
			d.die(cook, cook, "a1 a2 a3")
			d.sql(`delete from weir_dead`)
		}, []string{"waits in kitchen.cook behind an earlier one of key \"a\", but there is none"}, "weir message show"},
		{"counters", func(d *desk) {
			d.send(cook, "1 2 3")
			d.sql(`update weir_queues set done = 1`)
		}, []string{"the counters of kitchen.cook say that 2 messages wait to be claimed, counted are 3 or more"}, "report it"},
		{"state counters", func(d *desk) {
			d.commit(&store.Change{States: []store.State{guest(1)}})
			d.sql(`update weir_entities set live = 2`)
		}, []string{"the counters of customers.customer say that it has 2 states and 0 tombstones, counted are 1 and 0"}, "report it"},
		{"newest state", func(d *desk) {
			d.commit(&store.Change{States: []store.State{guest(7)}})
			d.sql(`update weir_entities set newest = 6`)
		}, []string{"customers.customer has a state of version 7, and its newest is said to be 6"}, "report it"},
		{"missing for good", func(d *desk) {
			place := store.Place{Batch: 7}
			d.commit(&store.Change{Arrival: &store.Arrival{Lane: "old", From: place, To: place, Jump: true}})
			d.move(25 * time.Hour)
			d.beat()
			d.commit(&store.Change{Arrival: &store.Arrival{Lane: "good", From: place, To: place}})
			d.commit(&store.Change{Arrival: &store.Arrival{Lane: "floor", From: place, To: place, Jump: true}})
			place.Index++
			d.commit(&store.Change{Arrival: &store.Arrival{Lane: "floor", From: place, To: place}})
		}, []string{"on lane floor something is missing that its sender could not give any more, last noticed at 2026-03-02T13:00:00Z (1 times in all)"}, "sender's log"},
		{"strange life", func(d *desk) {
			d.send(cook, "1")
			d.sql(`insert into weir_lives (first, incarnation, base) values (77, 'zzzzzz', 1)`)
			d.reopen()
		}, []string{"the store's life zzzzzz began with message number 77, and 1 is the newest"}, "weir store renew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := command()
			q.Capacity = 10
			d := openDesk(t, q)
			c.make(d)
			found := d.check()
			if len(found) != len(c.what) {
				t.Fatalf("Check = %+v, want %q", found, c.what)
			}
			for i, what := range c.what {
				if !strings.Contains(found[i].What, what) || !strings.Contains(found[i].Do, c.do) {
					t.Errorf("Check = %+v, want %q, do %q", found[i], what, c.do)
				}
			}
		})
	}
}

func guest(version int64) store.State {
	return store.State{Entity: "customers.customer", Key: "ada", Version: version, Contract: 1, AsOf: time.Unix(version, 0), Body: []byte("{}")}
}

// beat says that the process lives.
func (d *desk) beat() {
	d.Helper()
	if err := d.store.Heartbeat(d.ctx()); err != nil {
		d.Fatalf("Heartbeat = %v, want nil", err)
	}
}

// A follower waits for what is leased again, too.
func TestCheckKnowsLeasedBlockers(t *testing.T) {
	d := openDesk(t, command())
	d.send(cook, "a1 a2")
	b := d.claim(cook, "a1 a2")
	d.commit(&store.Change{Settle: []store.Settlement{
		settlement(b, "a1", store.Retry, d.now), settlement(b, "a2", store.Behind, d.now)}})
	d.move(time.Minute)
	d.beat()
	d.claim(cook, "a1")
	if found := d.check(); len(found) != 0 {
		t.Errorf("Check while the earlier one is leased = %+v, want nothing", found)
	}
}

func TestCheckFindsDamageAndLongLog(t *testing.T) {
	d := openDesk(t, command())
	var line []string
	for i := range 2000 {
		line = append(line, fmt.Sprint(i))
	}
	d.send(cook, strings.Join(line, " "))
	if err := d.store.Close(); err != nil {
		t.Fatalf("Close = %v, want nil", err)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), info.Size()-3*4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path+"-wal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	if err := os.Truncate(d.path+"-wal", 65<<20); err != nil {
		t.Fatal(err)
	}
	found := fmt.Sprint(d.check())
	for _, want := range []string{"the write-ahead log " + d.path + "-wal is 65 MiB", "the file is damaged: ", "restore the latest backup"} {
		if !strings.Contains(found, want) {
			t.Errorf("Check = %s, want %q", found, want)
		}
	}
}
