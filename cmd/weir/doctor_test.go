package main

import (
	"os"
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

func TestDoctor(t *testing.T) {
	j := newJournal(t)
	j.work(0, 0, ticket{"order-1", "soup"})
	j.weir(0, "doctor").has(j.file, "All is well.")
	var m map[string]any
	j.weir(0, "doctor", "--json").object(&m)
	fields(t, m, "ok", "store", "findings")

	e := j.service()
	j.send(e, ticket{"order-2", "soup"})
	if err := os.Chmod(j.file, 0o666); err != nil {
		t.Fatal(err)
	}
	j.weir(0, "queue", "pause", "kitchen.cook", "--why", "x", "--by", hostile)
	j.weir(5, "doctor").has("3 problems:", "may be written by everybody", "chmod", "no process works the store", "kitchen.cook is paused", `\x1b]0;owned`)
	j.weir(5, "doctor", "--json").object(&m)
	for _, f := range list(t, m, "findings", 3) {
		fields(t, f, "what", "do")
	}
	if m["ok"] != false {
		t.Errorf("ok = %v, want false", m["ok"])
	}
}

// A replica of which nothing ever comes, as of an entity that is written otherwise at its owner, is told of after a while.
func TestDoctorUnheardOwners(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		snapshot *weir.Snapshot
		want     int
	}{
		{nil, 0},
		{&weir.Snapshot{PageAt: now.Add(-9 * time.Minute)}, 0},
		{&weir.Snapshot{PageAt: now.Add(-10 * time.Minute)}, 1},
		{&weir.Snapshot{PageAt: now.Add(-time.Hour), Loaded: true}, 0},
	} {
		rows := []weir.EntityRow{{EntityRow: store.EntityRow{Entity: "hall.tabel"}, Snapshot: c.snapshot}}
		got := unheardOwners(rows, now)
		if len(got) != c.want || len(got) == 1 && !strings.Contains(got[0].What, "replica of hall.tabel is not loaded, and nothing has come for it for 10m0s") {
			t.Errorf("unheardOwners(%+v) = %v, want %d", c.snapshot, got, c.want)
		}
	}
}
