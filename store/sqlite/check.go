package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// What Check takes for wrong. Each bound is far beyond what a healthy store shows.
const (
	silentAfter  = time.Minute     // a process beats every few seconds
	overdueAfter = 5 * time.Minute // a due message is claimed within seconds
	walMax       = 64 << 20        // SQLite checkpoints at 4 MiB
	fullShare    = 0.8             // of the capacity; from here best-effort sends are refused
)

// And how much it reads, so that it may be asked while the store works.
const (
	quickCheckMax = 512 << 20 // bytes of the file; beyond, PRAGMA quick_check takes many seconds
	countMax      = 10_000    // messages counted of one queue
	checkedKeys   = 10_000    // keys looked at of one queue
	heldMax       = 1_000     // messages of a key looked for in open batches
)

// checkup gathers findings in one read transaction.
type checkup struct {
	s        *Store
	c        *conn
	now      time.Time
	live     int64     // the process that works the store, 0: none
	since    time.Time // and since when
	findings []store.Finding
}

func (k *checkup) found(what, do string) {
	k.findings = append(k.findings, store.Finding{What: what, Do: do})
}

// Check looks for what should not be. The whole file is checked for damage only
// while it is small (512 MiB): beyond that it is an operator's decision to read it all.
func (r reader) Check(ctx context.Context) ([]store.Finding, error) {
	k := &checkup{s: r.s, now: r.s.now()}
	k.wal()
	err := r.s.read(ctx, func(c *conn) error {
		k.c = c
		return k.all()
	})
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultCorrupt {
		k.damaged(err.Error())
		err = nil
	}
	return k.findings, err
}

func (k *checkup) all() error {
	sound, err := k.integrity()
	if err != nil || !sound { // then the rest would only find consequences
		return err
	}
	if err := k.processes(); err != nil {
		return err
	}
	if err := k.runs(); err != nil {
		return err
	}
	if err := k.exchange(); err != nil {
		return err
	}
	queues, err := readQueues(k.c, nil)
	if err != nil {
		return err
	}
	for i := range queues {
		q := &queues[i]
		for _, check := range []func(*queueRow) error{
			k.count, k.counters, k.state, k.letters, k.batches, k.overdue, k.followers,
		} {
			if err := check(q); err != nil {
				return fmt.Errorf("queue %s: %w", q.Name, err)
			}
		}
	}
	return nil
}

func (k *checkup) damaged(how string) {
	k.found("the file is damaged: "+how, "stop all writers, keep a copy of the file and its -wal, and restore the latest backup")
}

// wal looks at the write-ahead log's size by its name only: opening it, or the
// file, would drop locks that SQLite holds for this process.
func (k *checkup) wal() {
	info, err := os.Stat(k.s.path + "-wal")
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			k.found("the write-ahead log cannot be looked at: "+err.Error(), "check the permissions of the directory of "+k.s.path)
		}
		return
	}
	if info.Size() > walMax {
		k.found(fmt.Sprintf("the write-ahead log %s-wal is %d MiB", k.s.path, info.Size()>>20),
			"a long read holds back checkpoints: end programs that keep a transaction open on the file (backups, exports, sqlite3 shells)")
	}
}

const (
	fileBytes  = `select page_count * page_size from pragma_page_count, pragma_page_size`
	quickCheck = `pragma quick_check(5)`
)

func (k *checkup) integrity() (sound bool, err error) {
	size, _, err := k.c.number(fileBytes)
	if err != nil || size > quickCheckMax {
		return true, err
	}
	sound = true
	err = k.c.query(quickCheck, nil, func(s *sqlite.Stmt) error {
		if text := s.ColumnText(0); text != "ok" {
			k.damaged(text)
			sound = false
		}
		return nil
	})
	return sound, err
}

const newestProcess = `select id, pid, host, beat_us, ended_us, started_us from weir_processes order by id desc limit 1`

// processes looks at the newest process only: it has taken the store over from all earlier ones.
func (k *checkup) processes() error {
	return k.c.query(newestProcess, nil, func(s *sqlite.Stmt) error {
		if !s.ColumnIsNull(4) {
			return nil
		}
		silent := k.now.Sub(moment(s, 3))
		if silent <= silentAfter {
			k.live, k.since = s.ColumnInt64(0), moment(s, 5)
		} else {
			k.found(fmt.Sprintf("process %d (pid %d on %s) has been silent for %s without having ended",
				s.ColumnInt64(0), s.ColumnInt(1), s.ColumnText(2), silent.Round(time.Second)),
				"if it is dead, start the service again: it takes over what was left; if it hangs, end it first")
		}
		return nil
	})
}

func (k *checkup) count(q *queueRow) error { return q.count(k.c) }

func (q *queueRow) stopped() bool { return q.Paused != nil || q.Parked }

const countBeyond = `select count(*) from (select 1 from weir_messages where pos > ?1 and pos < ?2 limit ?3)`

// counters compares the depth, which is computed from counters, with a count of
// what waits, as far as that is cheap.
func (k *checkup) counters(q *queueRow) error {
	waiting := q.Depth - q.Leased - q.Deferred
	_, end := idRange(q.topic)
	limit := min(max(waiting, 0), countMax) + 1
	counted, _, err := k.c.number(countBeyond, max(q.cursor, q.topic<<numberBits), end, limit)
	if err != nil {
		return err
	}
	if counted == waiting || waiting > countMax && counted == limit {
		return nil
	}
	more := ""
	if counted == limit {
		more = " or more"
	}
	k.found(fmt.Sprintf("the counters of %s say that %d messages wait to be claimed, counted are %d%s", q.Name, waiting, counted, more),
		"this is a bug in weir, please report it with the output of weir doctor; its depth and capacity are off by the difference")
	return nil
}

// state looks at the queue's own row.
func (k *checkup) state(q *queueRow) error {
	if p := q.Paused; p != nil {
		k.found(fmt.Sprintf("queue %s is paused since %s by %s: %s", q.Name, p.At.Format(time.RFC3339), p.By, p.Why),
			"weir queue resume "+q.Name+" when the reason is gone")
	}
	if q.Parked {
		k.found(fmt.Sprintf("queue %s is parked: more than %d messages waited for it; retention no longer waits for it", q.Name, q.MaxLag),
			"weir queue resume "+q.Name+" once its handler keeps up; it goes on at the earliest message kept")
	}
	if q.Capacity > 0 && float64(q.Depth) >= fullShare*float64(q.Capacity) {
		k.found(fmt.Sprintf("queue %s is nearly full: depth %d of %d", q.Name, q.Depth, q.Capacity),
			"weir queue show "+q.Name+" tells whether it drains; raise its concurrency or its capacity")
	}
	return nil
}

const oldestDeath = `select died_us from weir_dead where queue = ?1 order by pos limit 1`

func (k *checkup) letters(q *queueRow) error {
	if q.Dead == 0 {
		return nil
	}
	died, _, err := k.c.number(oldestDeath, q.id)
	if err != nil {
		return err
	}
	k.found(fmt.Sprintf("%d dead letters wait in %s, the oldest since %s", q.Dead, q.Name, at(died).Format(time.RFC3339)),
		"weir dead ls "+q.Name+" shows why; then weir dead retry or weir dead discard")
	return nil
}

const abandonedBatches = `select b.id, b.owner, b.open from weir_batches b indexed by weir_batches_open
	where b.state < 2 and b.id >= ?1 and b.id < ?2
	and b.owner <> ?3 order by b.id limit ?4`

// batchFindings is how many batches of a queue are named one by one.
const batchFindings = 3

// batches finds what an ended process left and the living one has had time to take over.
func (k *checkup) batches(q *queueRow) error {
	if k.live == 0 || k.now.Sub(k.since) < silentAfter || q.stopped() {
		return nil
	}
	after, below := idRange(q.id)
	return k.c.query(abandonedBatches, []any{after, below, k.live, batchFindings}, func(s *sqlite.Stmt) error {
		k.found(fmt.Sprintf("batch %d of %s is open with %d messages, but process %d ended",
			numberOf(s.ColumnInt64(0)), q.Name, s.ColumnInt64(2), s.ColumnInt64(1)),
			"the running process does not work "+q.Name+": start the service that handles it (weir queue show "+q.Name+")")
		return nil
	})
}

const mostOverdue = `select pos, due_us from weir_deferred
	where queue = ?1 and due_us > 0 and due_us < ?2 order by due_us limit 1`

// overdue looks at what waits for a time; what is due at once (due_us 0) carries none.
func (k *checkup) overdue(q *queueRow) error {
	if k.live == 0 || q.stopped() {
		return nil
	}
	return k.c.query(mostOverdue, []any{q.id, us(k.now.Add(-overdueAfter))}, func(s *sqlite.Stmt) error {
		id, err := k.id(s.ColumnInt64(0))
		k.found(fmt.Sprintf("message %s was due in %s at %s and has not been claimed", id, q.Name, moment(s, 1).Format(time.RFC3339)),
			"the running process does not work "+q.Name+", or all its workers are busy: weir queue show "+q.Name)
		return err
	})
}

// id is the ID of the message at a position.
func (k *checkup) id(pos int64) (string, error) { return nameOf(k.c, k.s.lives(), pos) }

// From key to key, without touching the other followers of each.
const nextKey = `select key, pos, kind from weir_deferred indexed by weir_deferred_key
	where queue = ?1 and key > ?2 and kind <> 1 order by key, pos limit 1`

// followers finds keys whose followers wait for nothing: the lowest of what is
// deferred of a key must be something that moves by itself, or a dead or leased
// message must come before it.
func (k *checkup) followers(q *queueRow) error {
	if q.Deferred == 0 {
		return nil
	}
	held, err := k.unsettled(q)
	if err != nil {
		return err
	}
	key := ""
	for range checkedKeys {
		var pos, kind int64
		found := false
		err := k.c.query(nextKey, []any{q.id, key}, func(s *sqlite.Stmt) error {
			key, pos, kind, found = s.ColumnText(0), s.ColumnInt64(1), s.ColumnInt64(2), true
			return nil
		})
		if err != nil || !found {
			return err
		}
		if kind != kindBehind {
			continue
		}
		blocked, err := k.blocked(q, key, pos, held)
		if err != nil {
			return err
		}
		if blocked {
			continue
		}
		id, err := k.id(pos)
		if err != nil {
			return err
		}
		k.found(fmt.Sprintf("message %s waits in %s behind an earlier one of key %q, but there is none", id, q.Name, key),
			"nothing would release it: please report this with the output of weir message show "+id)
	}
	return nil
}

// unsettled gives the positions in open batches, ascending.
func (k *checkup) unsettled(q *queueRow) ([]int64, error) {
	after, below := idRange(q.id)
	var out []int64
	err := k.c.query(openBatches, []any{after, below}, func(s *sqlite.Stmt) error {
		b, err := viewBatch(s)
		out = append(out, b.unsettled()...)
		return err
	})
	slices.Sort(out)
	return out, err
}

const earlierOfKey = `select pos from weir_messages where key = ?1 and pos > ?2 and pos < ?3
	union all select pos from weir_kept where key = ?1 and pos > ?2 and pos < ?3
	order by pos desc limit ?4`

// blocked reports whether an earlier message of the key is dead or leased.
func (k *checkup) blocked(q *queueRow, key string, pos int64, held []int64) (bool, error) {
	_, dead, err := k.c.number(deadBefore, q.id, key, pos)
	if err != nil || dead && q.OnDead != store.Skip {
		return true, err
	}
	after, _ := idRange(q.topic)
	leased := false
	err = k.c.query(earlierOfKey, []any{key, after, pos, heldMax}, func(s *sqlite.Stmt) error {
		if _, ok := slices.BinarySearch(held, s.ColumnInt64(0)); ok {
			leased = true
		}
		return nil
	})
	return leased, err
}
