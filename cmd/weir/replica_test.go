package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/local"
)

type dish struct {
	Name string `json:"name"`
}

var (
	dishes = weir.NewEntity[dish]("kitchen.dish")
	tables = weir.NewEntity[dish]("hall.table")
)

var replicaFields = []string{"entity", "role", "live", "deleted", "newest", "as_of", "snapshot"}

// larder is a journal that owns dishes and follows tables, of whose owner nothing is heard.
func larder(t *testing.T) journal {
	t.Helper()
	j := newJournal(t)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	end := wire.Open()
	defer end.Close()
	e, err := weir.Open(context.Background(), sqlite.File(j.file), weir.Config{
		Owns: []string{"kitchen"}, Routes: map[string]weir.Route{"hall": {}}, Transport: end, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	own := weir.Own(e, dishes)
	weir.Follow(e, tables)
	defer j.start(e)()
	for _, id := range []string{"soup", "fish", hostile} {
		if err := own.Put(context.Background(), e, id, dish{id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := own.Delete(context.Background(), e, "fish"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(patience); ; {
		rows, err := e.Entities(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 2 {
			return j
		}
		select {
		case <-deadline:
			t.Fatalf("%d entities, want 2", len(rows))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestReplica(t *testing.T) {
	j := larder(t)
	j.weir(0, "replica", "ls").has("ENTITY", "STATE", "LIVE", "EQUAL", "kitchen.dish", "owner", "2", "1", "hall.table", "loads since", "never", "└ it is the first")
	var m map[string]any
	j.weir(0, "replica", "ls", "--json").object(&m)
	for i, want := range []map[string]any{
		{"entity": "kitchen.dish", "role": "owner", "live": jsonNumber("2"), "deleted": jsonNumber("1"), "snapshot": nil},
		{"entity": "hall.table", "role": "follower", "live": jsonNumber("0"), "newest": jsonNumber("0"), "as_of": nil},
	} {
		r := fields(t, list(t, fields(t, m, "replicas"), "replicas", 2)[i], replicaFields...)
		for name, v := range want {
			if r[name] != v {
				t.Errorf("%s of %v = %v, want %v", name, r["entity"], r[name], v)
			}
		}
		if r["snapshot"] != nil {
			fields(t, r["snapshot"], "began", "page_at", "why", "done", "loaded", "times", "wish", "fresh_at")
		}
	}
	j.weir(0, "replica", "show", "kitchen.dish").has("kitchen.dish", "owner", "entries", "2", "tombstones", "1", "newest", "version")
	j.weir(3, "replica", "show", "kitchen.pan").complains("kitchen.pan", "weir replica ls")
	j.weir(0, "replica", "show", "kitchen.dish", "soup").has("kitchen.dish", "soup", "version", "as of", "contract version 1", `"name": "soup"`)
	j.weir(0, "replica", "show", "kitchen.dish", hostile)
	j.weir(0, "replica", "show", "kitchen.dish", "fish").has("fish", "version", "deleted")
	j.weir(3, "replica", "show", "kitchen.dish", "cake").complains("cake")
	m = nil
	j.weir(0, "replica", "show", "kitchen.dish", "soup", "--json").object(&m)
	if v := fields(t, m, "entity", "id", "version", "contract", "as_of", "deleted", "value")["value"]; fields(t, v, "name")["name"] != "soup" {
		t.Errorf("value = %v, want soup", v)
	}
}

// A person's wish is kept until a process that works the store has met it, and is shown.
func TestReplicaResync(t *testing.T) {
	j := larder(t)
	j.weir(2, "replica", "resync", "hall.table").complains("--why")
	j.weir(3, "replica", "resync", "kitchen.dish", "--why", "x").complains("does not follow kitchen.dish", "weir replica ls")
	j.weir(0, "replica", "resync", "hall.table", "--why", "looks "+hostile, "--by", "anna").has("resync of hall.table", "replica show hall.table")
	j.weir(0, "replica", "show", "hall.table").has("loads since", "snapshot", "1 time", "why", "it is the first", "wanted", "by anna: looks", "not begun yet")
	var m map[string]any
	j.weir(0, "replica", "show", "hall.table", "--json").object(&m)
	wish := fields(t, m["snapshot"].(map[string]any)["wish"], "at", "by", "why", "met")
	if wish["by"] != "anna" || wish["why"] != "looks "+hostile || wish["met"] != false {
		t.Errorf("wish = %v, want anna's, not met", wish)
	}
	m = nil
	j.weir(0, "replica", "resync", "hall.table", "--why", "again", "--json").object(&m)
	fields(t, m, "entity", "by", "why")
	j.weir(0, "audit", "ls").has("replica resync", "replica hall.table", "again", "anna", "replica resync", "looks")
	m = nil
	j.weir(0, "audit", "ls", "--json").object(&m)
	first, _ := list(t, m, "audit", 2)[1].(map[string]any)
	if first["by"] != "anna" || first["why"] != "looks "+hostile {
		t.Errorf("the first act in the audit = %v, want anna's", first)
	}
}
