package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
)

var deadFields = append([]string{"queue", "died_at", "attempts", "reason", "quarantined", "behind", "edited"}, messageFields...)

// deaths are tickets that die, of one order each.
func deaths(dishes ...string) []ticket {
	tickets := make([]ticket, len(dishes))
	for i, dish := range dishes {
		tickets[i] = ticket{fmt.Sprintf("order-%d", i+1), dish}
	}
	return tickets
}

func TestDeadLs(t *testing.T) {
	j := newJournal(t)
	j.work(4, 0, deaths("no soup", "no "+hostile, "no salt", "no soup")...)
	j.weir(0, "dead", "ls").has("DIED", "ID", "QUEUE", "KEY", "TRIES", "REASON", "order-1", "there is no soup", "order-2", `no \x1b]0;owned`, "order-4")
	j.weir(0, "dead", "ls", "kitchen.cook", "--matching", "salt").has("order-3").lacks("soup")
	j.weir(0, "dead", "ls", "staff.serve").has("No dead letters")
	j.weir(3, "dead", "ls", "kitchen.wash").complains("weir queue ls")
	j.weir(2, "dead", "ls", "--after", "nonsense").complains("nonsense")

	var m map[string]any
	j.weir(0, "dead", "ls", "--max", "3", "--json").object(&m)
	fields(t, m, "dead", "next")
	d := fields(t, list(t, m, "dead", 3)[0], deadFields...)
	if d["reason"] != `order "order-1": there is no soup` || d["attempts"] != jsonNumber("1") {
		t.Errorf("dead = %v, want order-1's", d)
	}
	next := m["next"].(string)
	j.weir(0, "dead", "ls", "--max", "3").has("There are more: --after " + next)
	j.weir(0, "dead", "ls", "--max", "3", "--after", next, "--json").object(&m)
	if list(t, m, "dead", 1); m["next"] != nil {
		t.Errorf("next of the last page = %v, want null", m["next"])
	}
}

// A group tells what reasons have in common, or the reason itself if all are the same.
func TestDeadGroup(t *testing.T) {
	j := newJournal(t)
	j.work(5, 0, deaths("no soup", "no soup", "no salt", "panic", "no item 17")...)
	j.weir(0, "dead", "ls", "--group").has("COUNT", "REASON", "2  kitchen.cook", "order …: there is no soup", `order "order-3": there is no salt`)
	var m map[string]any
	j.weir(0, "dead", "ls", "--group", "--json").object(&m)
	fields(t, m, "groups", "count", "cut")
	g := fields(t, list(t, m, "groups", 4)[0], "queue", "reason", "count", "first_at", "last_at", "example")
	if g["count"] != jsonNumber("2") || m["count"] != jsonNumber("5") {
		t.Errorf("groups = %v, want 2 of 5 in the first", m)
	}
	j.weir(0, "dead", "ls", "--group", "--max", "1", "--json").object(&m)
	list(t, m, "groups", 1)
}

func TestDeadTallyIsBounded(t *testing.T) {
	tally := deadTally{byKey: map[groupKey]*tallied{}}
	for i := range 3 * groupMax {
		tally.add(weir.DeadLetter{Queue: "q", Reason: strings.Repeat("x", i%(2*groupMax)), DiedAt: time.Unix(int64(i), 0)})
	}
	groups := tally.groups()
	if len(groups) != groupMax+1 || groups[0].Reason != groupRest || tally.scanned != 3*groupMax {
		t.Errorf("%d groups of %d, the first %q, want %d of %d, the rest first", len(groups), tally.scanned, groups[0].Reason, groupMax+1, 3*groupMax)
	}
}

func TestDeadShow(t *testing.T) {
	j := newJournal(t)
	j.work(2, 0, ticket{"order-1", "panic"}, ticket{"order-2", "no soup"}, ticket{"order-3", "soup"})
	ids := j.ids("kitchen.cook") // newest first
	j.weir(0, "dead", "show", ids[2]).has("message", ids[2], "dead in", "kitchen.cook", "died", "after 2 attempts", "reason", "the oven exploded",
		"body (", `"dish": "panic"`, "attempts", "attempt 1", "the oven exploded", ".go:", "attempt 2", "failed for good")
	var m map[string]any
	j.weir(0, "dead", "show", ids[1], "--queue", "kitchen.cook", "--json").object(&m)
	d := fields(t, list(t, fields(t, m, "dead"), "dead", 1)[0], append([]string{"body", "history"}, deadFields...)...)
	fields(t, list(t, d, "history", 1)[0], attemptFields...)
	j.weir(3, "dead", "show", ids[0]).complains("not among the dead letters", "weir message show "+ids[0])
	j.weir(3, "dead", "show", "nonsense").complains("nonsense")
	if got := j.weir(0, "dead", "show", ids[1], "--body").out; got != `{"order":"order-2","dish":"no soup"}` {
		t.Errorf("--body = %q, want the body's bytes", got)
	}
}

func TestDeadRetryOne(t *testing.T) {
	j := newJournal(t)
	j.work(1, 0, ticket{"order-1", "no soup"}, ticket{"order-2", "soup"})
	ids := j.ids("kitchen.cook")
	j.weir(0, "dead", "retry", ids[1], "--why", "x", "--dry-run").has("Would retry 1 dead letter.")
	j.weir(4, "dead", "retry", ids[0], "--why", "x").complains("not dead")
	j.weir(3, "dead", "retry", "nonsense", "--why", "x").complains("nonsense")
	j.weir(3, "dead", "retry", ids[1], "--queue", "kitchen.wash", "--why", "x").complains("kitchen.wash")
	var m map[string]any
	j.weir(0, "dead", "retry", ids[1], "--why", "it came", "--by", "anna", "--json").object(&m)
	fields(t, m, "verb", "count", "more", "dry_run", "by", "why")
	j.weir(0, "message", "show", ids[1]).has("kitchen.cook: deferred", "attempt 1", "retried by anna: it came")
	j.weir(4, "dead", "retry", ids[1], "--why", "x").complains("not dead")
	j.work(1, 0)
	j.weir(0, "message", "show", ids[1]).has("kitchen.cook: dead", "attempt 1")
}

// An edited body is what the queue delivers; the journal keeps what was sent.
func TestDeadEdit(t *testing.T) {
	j := newJournal(t)
	j.work(2, 0, deaths("no soup", "no salt")...)
	ids := j.ids("kitchen.cook")
	file := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(file, []byte(`{"order":"order-1","dish":"salad"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	j.weir(1, "dead", "retry", ids[1], "--body", file+".missing", "--why", "x").complains("body.json.missing")
	j.weir(0, "dead", "retry", ids[1], "--body", file, "--why", "no soup today").has("Retried 1 dead letter.")
	stdin := func(code int, body string) said {
		return cmdline(t, code, body, "dead", "retry", ids[0], "--body", "-", "--why", "no salt today", "--store", j.file)
	}
	stdin(1, "").complains("empty")
	stdin(2, "{not JSON").complains("not JSON")
	stdin(0, `{"order":"order-2","dish":"pepper"}`).has("Retried 1 dead letter.")
	j.work(0, 0)
	j.weir(0, "message", "show", ids[1]).has(`"dish": "no soup"`, "kitchen.cook: done")
	if got := j.weir(0, "message", "show", j.ids("kitchen.ready")[0], "--body").out; !strings.Contains(got, "pepper") && !strings.Contains(got, "salad") {
		t.Errorf("what was cooked = %s, want the edited dish", got)
	}
	j.weir(0, "audit", "ls").has("AT", "BY", "VERB", "TARGET", "WHY", "retry", ids[0], "no salt today", "before", "after", ids[1], "no soup today")
	var m map[string]any
	j.weir(0, "audit", "ls", "--max", "1", "--json").object(&m)
	fields(t, list(t, fields(t, m, "audit"), "audit", 1)[0], "at", "by", "verb", "target", "why", "before", "after")
}

func TestDeadBulk(t *testing.T) {
	j := newJournal(t)
	j.work(3, 0, deaths("no soup", "no salt", "no soup")...)
	j.weir(0, "dead", "discard", "--queue", "kitchen.cook", "--matching", "pepper", "--why", "x").has("nothing was done")
	j.weir(0, "dead", "discard", "--queue", "kitchen.cook", "--matching", "soup", "--why", "x", "--dry-run").has("Would discard 2 dead letters.")
	j.weir(0, "dead", "discard", "--queue", "kitchen.cook", "--matching", "soup", "--why", "sold out").has("Discarded 2 dead letters.")
	j.weir(3, "dead", "retry", "--queue", "kitchen.wash", "--all", "--why", "x").complains("kitchen.wash")
	j.weir(0, "dead", "retry", "--queue", "kitchen.cook", "--all", "--why", "salt came").has("Retried 1 dead letter.")
	j.weir(0, "dead", "ls").has("No dead letters")
	j.weir(0, "message", "show", j.ids("kitchen.cook")[2]).has("kitchen.cook: discarded", "attempt 1", "\n    discarded by", "sold out")
}

// An act settles at most 10,000 at a time: the verb goes on until it is done.
func TestDeadBulkOfMany(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	e := j.service()
	stop := j.start(e)
	for range 3 {
		batch := make([]ticket, 4_000)
		for i := range batch {
			batch[i] = ticket{"", "no soup"}
		}
		j.send(e, batch...)
	}
	j.settled(e, 12_000, 0)
	stop()
	j.weir(0, "dead", "discard", "--queue", "kitchen.cook", "--all", "--why", "x", "--dry-run").has("Would discard 10,000 dead letters and more.")
	s := j.weir(0, "dead", "discard", "--queue", "kitchen.cook", "--all", "--why", "sold out")
	if s.has("Discarded 12,000 dead letters."); !strings.Contains(s.err, "10,000 of about 12,000") {
		t.Errorf("progress = %q, want 10,000 of about 12,000", s.err)
	}
}

// What comes back to life and dies again at once does not keep the verb going for ever.
func TestDeadBulkEnds(t *testing.T) {
	j := newJournal(t)
	j.work(1, 0, ticket{"order-1", "no soup"})
	a := &app{ctx: t.Context(), err: t.Output(), store: j.file}
	e, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f := deadFlags{Queue: "kitchen.cook", All: true}
	acted, err := f.run(a, e, func(weir.DeadSelection, weir.Because) (weir.Acted, error) {
		return weir.Acted{Count: 1, More: true}, nil
	})
	if err != nil || acted.Count != 1 {
		t.Errorf("run = %+v, %v, want it to end after 1", acted, err)
	}
	calls := 0
	_, err = f.run(a, e, func(weir.DeadSelection, weir.Because) (weir.Acted, error) {
		calls++
		return weir.Acted{}, weir.ErrConflict
	})
	if calls != 1 || exitCode(err) != exitRefused {
		t.Errorf("run = %v after %d calls, want the error of the first", err, calls)
	}
}
