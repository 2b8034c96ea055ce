package test

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// faultsShown is how many faults of an audit are worth reading.
const faultsShown = 20

// audit wants the books of a file on which all is done to be in order, and gives them back.
func audit(t testing.TB, file string) *books {
	t.Helper()
	b := examine(t, file)
	b.show(t)
	return b
}

func (b *books) show(t testing.TB) {
	t.Helper()
	for i, f := range b.faults {
		if i == faultsShown {
			t.Errorf("… and %d more", len(b.faults)-i)
			break
		}
		t.Error(f)
	}
}

// examine opens the books and notes their faults.
func examine(t testing.TB, file string) *books {
	t.Helper()
	b := openBooks(t, file)
	b.checkSends()
	b.checkCauses()
	b.checkOrders()
	b.checkCommon(t)
	return b
}

// auditPruned is audit for a journal from which retention has taken what nobody
// needs any more: what is not there is judged by the boundaries' own tables alone.
func auditPruned(t testing.TB, file string) *books {
	t.Helper()
	b := openBooks(t, file)
	b.pruned = true
	b.checkCommon(t)
	b.show(t)
	return b
}

func (b *books) checkCommon(t testing.TB) {
	t.Helper()
	b.checkConservation()
	b.checkEffects()
	b.checkOrder()
	b.checkLives()
	b.checkTags()
	b.checkStore(t)
}

func (b *books) name(p place) string {
	e := b.journal[p.pos]
	return fmt.Sprintf("%s (position %d, key %q) in %s", e.body.Tag, p.pos&(1<<40-1), e.key, p.queue)
}

// checkConservation: accepted = done + dead + discarded, message by message, and
// the queues' counters say so too.
func (b *books) checkConservation() {
	done := map[place]int{}
	counts := map[string]int64{}
	for _, e := range b.effects {
		p := place{e.queue, e.pos}
		if done[p]++; done[p] == 1 {
			counts[e.queue]++
		}
	}
	for _, q := range b.queues {
		for pos, m := range b.journal {
			if m.topic != q.topic || int64(pos) <= q.start {
				continue
			}
			p := place{q.name, pos}
			_, dead := b.dead[p]
			switch ends := min(done[p], 1) + one(dead) + one(b.dropped[p]); {
			case ends == 0:
				b.fault("lost: %s was accepted and is neither done nor dead nor discarded", b.name(p))
			case ends > 1:
				b.fault("%s has ended in %d ways: done %d, dead %t, discarded %t", b.name(p), ends, done[p], dead, b.dropped[p])
			}
		}
		if q.depth != 0 || q.done != counts[q.name] {
			b.fault("%s counts depth %d, done %d, want 0, %d", q.name, q.depth, q.done, counts[q.name])
		}
	}
	for p := range b.dead {
		if _, ok := b.journal[p.pos]; !ok {
			b.fault("lost: the dead letter %d of %s has no message", p.pos, p.queue)
		}
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkEffects: each effect once, and none of what was never sent.
func (b *books) checkEffects() {
	topic := map[string]string{}
	for _, q := range b.queues {
		topic[q.name] = q.topic
	}
	seen := map[place]int{}
	for _, e := range b.effects {
		p := place{e.queue, e.pos}
		seen[p]++
		m, ok := b.journal[e.pos]
		switch {
		case !ok && b.pruned:
		case !ok:
			b.fault("orphan: %s has an effect of %s, which is not in the journal", e.queue, e.tag)
		case m.topic != topic[e.queue] || m.body.Tag != e.tag:
			b.fault("%s has an effect of %s, which the journal has as %s of %s", e.queue, e.tag, m.body.Tag, m.topic)
		case seen[p] == 2:
			b.fault("twice: %s has more than one effect", b.name(p))
		}
	}
}

// checkOrder: within a key the effects of a queue come in the order of the
// messages' commits, and in that of their one producer.
func (b *books) checkOrder() {
	last := map[string]effect{}
	for _, e := range b.effects {
		if e.key == "" {
			continue
		}
		at := e.queue + " " + e.key
		if l, ok := last[at]; ok && (l.pos >= e.pos || l.n >= e.n) {
			b.fault("order: in %s key %q: %s came after %s", e.queue, e.key, e.tag, l.tag)
		}
		last[at] = e
	}
}

// checkLives: once a process has begun to handle, none before it writes any more.
func (b *books) checkLives() {
	for _, e := range b.effects {
		for life, after := range b.begun {
			if e.life < life && e.id > after {
				b.fault("stale: process %d wrote the effect of %s in %s after process %d had begun", e.life, e.tag, e.queue, life)
				break
			}
		}
	}
}

// name is a message by what its sender calls it.
type name struct{ topic, tag string }

// checkSends: what was acknowledged is there, what was refused or rolled back is
// not, what was sent in one call is there whole or not at all, and nothing is
// there twice or was never sent.
func (b *books) checkSends() {
	there := map[name]int{}
	for _, m := range b.journal {
		there[name{m.topic, m.body.Tag}]++
	}
	for n, count := range there {
		if count > 1 {
			b.fault("%s of %s is in the journal %d times", n.tag, n.topic, count)
		}
	}
	tried := map[name]bool{}
	for _, l := range b.reported {
		count := 0
		for _, tag := range l.tags {
			count += min(there[name{l.of, tag}], 1)
		}
		switch l.verb {
		case "try":
			for _, tag := range l.tags {
				tried[name{l.of, tag}] = true
			}
			if count != 0 && count != len(l.tags) {
				b.fault("torn: %d of %d messages sent in one call are there: %s of %s", count, len(l.tags), l.tags, l.of)
			}
		case "ack":
			if count != len(l.tags) {
				b.fault("lost: %s of %s was acknowledged, and %d of %d are there", l.tags, l.of, count, len(l.tags))
			}
		case "void", "refuse":
			if count != 0 {
				b.fault("phantom: %s of %s was rolled back or refused (%s), and is there", l.tags, l.of, l.verb)
			}
		}
	}
	for _, m := range b.journal {
		if m.cause == "" && !tried[name{m.topic, m.body.Tag}] {
			b.fault("phantom: nobody sent %s of %s", m.body.Tag, m.topic)
		}
	}
}

// checkTags: what was acknowledged, and what came of it, has ended once in each of
// its queues, whatever the journal still knows.
func (b *books) checkTags() {
	ended := map[name]int{}
	for _, e := range b.effects {
		ended[name{e.queue, e.tag}]++
	}
	for p := range b.dead {
		ended[name{p.queue, b.journal[p.pos].body.Tag}]++
	}
	expect := func(queue, tag, why string) {
		switch n := ended[name{queue, tag}]; {
		case n == 0:
			b.fault("lost: %s has not ended in %s, and %s", tag, queue, why)
		case n > 1:
			b.fault("twice: %s has ended %d times in %s", tag, n, queue)
		}
	}
	for _, l := range b.reported {
		if l.verb == "ack" {
			for _, tag := range l.tags {
				expect(l.of, tag, "its send was acknowledged")
			}
		}
	}
	for _, e := range b.effects {
		switch e.queue {
		case takeOrder.Name():
			for i := range b.lines[e.tag] {
				expect(prepare.Name(), fmt.Sprintf("%s/%d", e.tag, i+1), "its order is taken")
			}
		case prepare.Name():
			expect(bringFood, e.tag, "it is prepared")
			expect(bill, e.tag, "it is prepared")
		case quote.Name():
			expect(hearQuote, e.tag, "it is answered")
		}
	}
}

// checkCauses: what a handler sends is there if and only if its effect is.
func (b *books) checkCauses() {
	there := map[name]bool{}
	for _, m := range b.journal {
		there[name{m.topic, m.body.Tag}] = true
	}
	caused := map[name]bool{}
	expect := func(topic, tag, by string) {
		caused[name{topic, tag}] = true
		if !there[name{topic, tag}] {
			b.fault("torn: %s has an effect, and its message %s of %s is not there", by, tag, topic)
		}
	}
	for _, e := range b.effects {
		switch e.queue {
		case takeOrder.Name():
			for i := range b.journal[e.pos].body.Lines {
				expect(prepare.Name(), fmt.Sprintf("%s/%d", e.tag, i+1), e.tag)
			}
		case prepare.Name():
			expect(ready.Name(), e.tag, e.tag)
		case quote.Name():
			expect(quote.Reply().Name(), e.tag, e.tag)
		}
	}
	for _, m := range b.journal {
		if m.cause != "" && !caused[name{m.topic, m.body.Tag}] {
			b.fault("torn: %s of %s was sent by a handler that has no effect", m.body.Tag, m.topic)
		}
	}
}

// checkOrders: a row of the boundary's own is there if and only if the message of its transaction is.
func (b *books) checkOrders() {
	sent := map[string]int{}
	for _, m := range b.journal {
		if m.topic == takeOrder.Name() && strings.HasPrefix(m.body.Tag, "own-") {
			sent[m.body.Tag]++
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(sent)) {
		if b.orders[tag] != sent[tag] {
			b.fault("order %s: %d rows, %d messages, want as many", tag, b.orders[tag], sent[tag])
		}
	}
	for tag, n := range b.orders {
		if sent[tag] != n {
			b.fault("order %s: %d rows, %d messages, want as many", tag, n, sent[tag])
		}
	}
}

// checkStore asks weir itself.
func (b *books) checkStore(t testing.TB) {
	eng, err := weir.Open(t.Context(), sqlite.File(b.file), weir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	}()
	found, err := eng.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !strings.Contains(f.What, "dead letters wait in") {
			b.fault("Check() found: %s", f.What)
		}
	}
	for p, l := range b.dead {
		if l.reason == "" {
			b.fault("%s is dead without a reason", b.name(p))
		}
	}
}

// fences is what protects the batches of a file, to be compared with what it is later.
type fences map[int64]fence

type fence struct {
	epoch, owner, open int64
	bits               []byte
}

// readFences reads them while no process works the file.
func readFences(t testing.TB, db *sql.DB) fences {
	t.Helper()
	all := fences{}
	err := each(t.Context(), db, func(scan func(...any) error) error {
		var id int64
		var f fence
		err := scan(&id, &f.epoch, &f.owner, &f.open, &f.bits)
		all[id] = f
		return err
	}, `select id, epoch, owner, open, bits from weir_batches`)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tryFences is readFences, if the file has got a journal yet.
func tryFences(t testing.TB, db *sql.DB) (fences, bool) {
	t.Helper()
	var made bool
	err := db.QueryRowContext(t.Context(), `select exists (select 1 from sqlite_schema where name = 'weir_batches')`).Scan(&made)
	if err != nil {
		t.Fatal(err)
	}
	if !made {
		return nil, false
	}
	return readFences(t, db), true
}

// check wants later to be what could have become of f: an epoch never goes back, a
// batch changes hands only under a higher one, what is settled stays settled.
func (f fences) check(t testing.TB, later fences) {
	t.Helper()
	for id, was := range f {
		is, ok := later[id]
		switch {
		case !ok: // settled, and taken by retention
		case is.epoch < was.epoch, is.owner < was.owner, is.open > was.open, is.owner != was.owner && is.epoch == was.epoch:
			t.Errorf("batch %d of queue %d had epoch %d, owner %d, %d open, and has %d, %d, %d",
				id&(1<<40-1), id>>40, was.epoch, was.owner, was.open, is.epoch, is.owner, is.open)
		}
		for i := range min(len(was.bits), len(is.bits)) {
			if was.bits[i]&^is.bits[i] != 0 {
				t.Errorf("batch %d of queue %d: what was settled is not: bits %x, then %x", id&(1<<40-1), id>>40, was.bits, is.bits)
				break
			}
		}
	}
}
