package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// books are what is left when no process works the file: the boundaries' own
// tables and the journal, read by SQL, and what the processes said. The audit of
// them is the oracle of all tests here.
type books struct {
	file     string
	journal  map[store.Pos]entry
	queues   []account
	effects  []effect // in the order of their commits
	dead     map[place]letter
	dropped  map[place]bool // discarded
	orders   map[string]int // by tag
	lines    map[string]int // by an order's tag
	pruned   bool           // retention has taken from the journal
	begun    map[int]int    // the last effect when a process began to handle, by its number
	reported []line
	faults   []string
}

// entry is a message in the journal.
type entry struct {
	topic, key string
	body       job
	cause      string
}

// account is a queue with its counters.
type account struct {
	id                         int64
	name, topic                string
	start, depth, done, onDead int64
}

// effect is a row that a handler left.
type effect struct {
	id               int
	queue, tag, key  string
	pos              store.Pos
	n, attempt, life int
}

// letter is a dead letter.
type letter struct {
	reason      string
	quarantined bool
	attempts    int
}

// place is a message as seen by a queue.
type place struct {
	queue string
	pos   store.Pos
}

// openBooks reads them.
func openBooks(t testing.TB, file string) *books {
	t.Helper()
	b := &books{
		file: file, journal: map[store.Pos]entry{}, dead: map[place]letter{}, dropped: map[place]bool{}, orders: map[string]int{},
		begun: map[int]int{}, lines: map[string]int{},
	}
	db := openTables(t, file)
	var err error
	if b.reported, err = reportOf(file).lines(); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func(context.Context, *sql.DB) error{
		b.readJournal, b.readQueues, b.readEffects, b.readDead, b.readDropped, b.readOrders, b.readBegun, b.readLeft,
	} {
		if err := read(t.Context(), db); err != nil {
			t.Fatalf("read the books of %s: %v", file, err)
		}
	}
	return b
}

// openTables opens the boundaries' own tables, making them first.
func openTables(t testing.TB, file string) *sql.DB {
	t.Helper()
	db, err := sqlite.OpenDB(file)
	if err == nil {
		_, err = db.ExecContext(t.Context(), tables)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// each calls row for every row of a query, to scan it.
func each(ctx context.Context, db *sql.DB, row func(scan func(...any) error) error, query string, args ...any) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (b *books) readJournal(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var pos store.Pos
		var e entry
		var body []byte
		if err := scan(&pos, &e.topic, &e.key, &body, &e.cause); err != nil {
			return err
		}
		b.journal[pos] = e
		err := json.Unmarshal(body, &e.body)
		b.journal[pos] = e
		return err
	}, `select m.pos, t.name, coalesce(m.key, ''), m.body, coalesce(m.cause, '')
		from (select * from weir_messages union all select * from weir_kept) m join weir_topics t on t.id = m.pos >> 40`)
}

func (b *books) readQueues(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var a account
		err := scan(&a.id, &a.name, &a.topic, &a.start, &a.depth, &a.done, &a.onDead)
		b.queues = append(b.queues, a)
		return err
	}, `select q.id, q.name, t.name, q.start_pos, t.appended - q.base - q.done - q.gone, q.done, q.on_dead
		from weir_queues q join weir_topics t on t.id = q.topic order by q.name`)
}

func (b *books) readEffects(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var e effect
		var id string
		if err := scan(&e.id, &e.queue, &id, &e.tag, &e.key, &e.n, &e.attempt, &e.life); err != nil {
			return err
		}
		var err error
		_, e.pos, err = store.ParseID(id)
		b.effects = append(b.effects, e)
		return err
	}, `select id, queue, message, tag, key, n, attempt, life from effects order by id`)
}

func (b *books) readDead(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var p place
		var l letter
		err := scan(&p.queue, &p.pos, &l.reason, &l.quarantined, &l.attempts)
		b.dead[p] = l
		return err
	}, `select q.name, d.pos, d.reason, d.quarantined, d.attempts from weir_dead d join weir_queues q on q.id = d.queue`)
}

func (b *books) readDropped(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var p place
		err := scan(&p.queue, &p.pos)
		b.dropped[p] = true
		return err
	}, `select q.name, a.pos from weir_attempts a join weir_queues q on q.id = a.queue where a.verdict = 'discarded'`)
}

func (b *books) readOrders(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var tag string
		var lines int
		err := scan(&tag, &lines)
		b.orders[tag]++
		b.lines[tag] = lines
		return err
	}, `select tag, lines from orders`)
}

func (b *books) readBegun(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var life, after int
		err := scan(&life, &after)
		b.begun[life] = after
		return err
	}, `select life, after from begun`)
}

// readLeft notes what should be gone when all is done, and damage.
func (b *books) readLeft(ctx context.Context, db *sql.DB) error {
	for what, query := range map[string]string{
		"rows in deferred": `select count(*) from weir_deferred`,
		"open batches":     `select count(*) from weir_batches where state < 2`,
		"suspects started": `select count(*) from weir_starts`,
	} {
		var n int
		if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return err
		}
		if n != 0 {
			b.fault("after all is done there are %d %s, want 0", n, what)
		}
	}
	return each(ctx, db, func(scan func(...any) error) error {
		var text string
		err := scan(&text)
		if err == nil && text != "ok" {
			b.fault("PRAGMA integrity_check = %q, want ok", text)
		}
		return err
	}, `pragma integrity_check`)
}

func (b *books) fault(format string, args ...any) {
	b.faults = append(b.faults, fmt.Sprintf(format, args...))
}
