package main

import (
	"os"
	"testing"
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
