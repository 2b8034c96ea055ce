package sqlite

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

var errBoom = errors.New("boom")

func TestWriteUndoes(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	insert := func(c *conn) error { return c.exec(`insert into weir_topics (name, kind) values ('lost', 1)`) }
	err := s.write(ctx, func(c *conn) error { return errors.Join(insert(c), errBoom) })
	if !errors.Is(err, errBoom) {
		t.Errorf("write = %v, want its function's error", err)
	}
	func() {
		defer func() {
			if got := recover(); got != errBoom {
				t.Errorf("write panicked with %v, want the function's panic", got)
			}
		}()
		_ = s.write(ctx, func(c *conn) error {
			_ = insert(c)
			panic(errBoom)
		})
	}()
	n := int64(-1)
	err = s.write(ctx, func(c *conn) (err error) {
		n, _, err = c.number(`select count(*) from weir_topics`)
		return err
	})
	if err != nil || n != 0 {
		t.Errorf("topics = %d, %v, want none", n, err)
	}
}

func TestValues(t *testing.T) {
	s := newStore(t)
	when := time.Date(2026, 5, 1, 12, 0, 0, 1000, time.UTC)
	err := s.write(context.Background(), func(c *conn) error {
		if err := c.exec(`create table kinds (i any, s any, b any, n any, at any, zero any, ok any, empty any) strict`); err != nil {
			return err
		}
		err := c.exec(`insert into kinds values (?, ?, ?, ?, ?, ?, ?, ?)`, 7, "a\x00b", []byte{1, 0}, nil, when, time.Time{}, true, []byte{})
		if err != nil {
			return err
		}
		return c.query(`select * from kinds`, nil, func(st *sqlite.Stmt) error {
			if st.ColumnInt64(0) != 7 || st.ColumnText(1) != "a\x00b" || !slices.Equal(blob(st, 2), []byte{1, 0}) || blob(st, 3) != nil ||
				!at(st.ColumnInt64(4)).Equal(when) || !st.ColumnIsNull(5) || !st.ColumnBool(6) || blob(st, 7) == nil {
				t.Errorf("row = %v %q", st.ColumnInt64(0), st.ColumnText(1))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.write(context.Background(), func(c *conn) error { return c.exec(`insert into kinds (i) values (?)`, 1.5) })
	if err == nil || !strings.Contains(err.Error(), "float64") {
		t.Errorf("exec with a float = %v, want an error that names the type", err)
	}
}

// The file's write lock may be held by a transaction of the user's own for
// longer than any busy timeout: that is waited for, as long as ctx allows.
func TestBusy(t *testing.T) {
	s := newStore(t)
	declare(t, s, cook)
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	ch := &store.Change{Sends: []*store.Message{message(cook.Topic, "", "1")}}
	err = s.Commit(brief, &store.Group{Changes: []*store.Change{ch}})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(ch.Err, context.DeadlineExceeded) {
		t.Errorf("Commit beside an open transaction = %v, Err %v, want the context's error", err, ch.Err)
	}
	if m := ch.Sends[0]; m.Pos != 0 || m.ID != "" || !m.SentAt.IsZero() {
		t.Errorf("message of a commit that failed = %+v, want no place", m)
	}
	done := make(chan error)
	go func() { done <- s.Commit(ctx, &store.Group{Changes: []*store.Change{ch}}) }()
	if _, err := s.Reader().Queues(ctx); err != nil {
		t.Errorf("Queues while a writer waits = %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || ch.Err != nil {
		t.Errorf("Commit after the other's = %v, Err %v, want nil", err, ch.Err)
	}
}

// Many writers of several processes and of the user's own pool: nobody is refused.
func TestBusyMany(t *testing.T) {
	first := newStore(t)
	declare(t, first, cook)
	second := openFile(t, first.path)
	db, err := OpenDB(first.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	const each = 20
	var crew sync.WaitGroup
	for i := range 12 {
		crew.Go(func() {
			for range each {
				m := []*store.Message{message(cook.Topic, "", "x")}
				switch i % 3 {
				case 0:
					send(t, first, m...)
				case 1:
					send(t, second, m...)
				case 2:
					tx, err := db.BeginTx(ctx, nil)
					if err == nil {
						err = errors.Join(first.AppendIn(ctx, Tx(tx), &store.Change{Sends: m}), tx.Commit())
					}
					if err != nil {
						t.Errorf("AppendIn = %v", err)
					}
				}
			}
		})
	}
	crew.Wait()
	if q := declare(t, first, cook)[0]; q.Depth != 12*each {
		t.Errorf("depth = %d, want %d", q.Depth, 12*each)
	}
}

func TestReadIsInterrupted(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	for range 2 * readersMax { // no connection is lost by it
		err := s.read(ctx, func(c *conn) error {
			return c.exec(`with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n`)
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read that does not end = %v, want its context's error", err)
		}
	}
	if _, err := s.Reader().Queues(context.Background()); err != nil {
		t.Errorf("Queues afterwards = %v", err)
	}
}

func TestChanged(t *testing.T) {
	s := newStore(t)
	other := openFile(t, s.path)
	ctx := context.Background()
	changed := func(why string, want bool) {
		t.Helper()
		got, err := s.Reader().Changed(ctx)
		if err != nil || got != want {
			t.Errorf("Changed %s = %t, %v, want %t", why, got, err, want)
		}
	}
	changed("at first", false)
	declare(t, s, cook)
	send(t, s, message(cook.Topic, "", "1"))
	changed("after its own commits", false)
	send(t, other, message(cook.Topic, "", "2"))
	changed("after another's commit", true)
	changed("again", false)
	send(t, other, message(cook.Topic, "", "3"))
	send(t, s, message(cook.Topic, "", "4"))
	changed("after another's commit and its own", true)
}

// Close does not wait for a closure that runs: the commit under way is finished,
// and only then its connection closed.
func TestCloseDuringCommit(t *testing.T) {
	s := newStore(t)
	declare(t, s, cook)
	running, goOn := make(chan struct{}), make(chan struct{})
	ch := &store.Change{
		Sends: []*store.Message{message(cook.Topic, "", "1")},
		Closures: []store.Closure{func(context.Context, store.Tx) error {
			close(running)
			<-goOn
			return nil
		}},
	}
	done := make(chan error)
	go func() { done <- s.Commit(context.Background(), &store.Group{Changes: []*store.Change{ch}}) }()
	<-running
	waiting := make(chan error)
	go func() { waiting <- s.Heartbeat(context.Background()) }()
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	close(goOn)
	if err := <-done; err != nil || ch.Err != nil {
		t.Errorf("Commit during Close = %v, Err %v, want nil", err, ch.Err)
	}
	if err := <-waiting; err == nil {
		t.Error("Heartbeat during Close = nil, want an error")
	}
	if err := s.Commit(context.Background(), &store.Group{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit after Close = %v, want ErrClosed", err)
	}
	again := openFile(t, s.path)
	if q := declare(t, again, cook)[0]; q.Depth != 1 {
		t.Errorf("depth = %d, want 1", q.Depth)
	}
}

func TestWritePlans(t *testing.T) {
	s := openAtNoon(t, t.TempDir())
	for _, query := range []string{
		sqlSeq, sqlTopic, sqlTopicQueues, sqlQueueByID, sqlSetQueue, sqlNameTaken, sqlQueueNamed, sqlDedup, sqlSentMessage, sqlCountKept,
		sqlBatch, sqlSetBatch, sqlClose, sqlCount, sqlPast, sqlAttempts, sqlStop, sqlHandBack, sqlNewest, sqlBeat,
		sqlDeferredKey, sqlDeadKey, sqlWaiting, sqlDeadOf, sqlRelease1, sqlReblock, sqlPark1, sqlParked, sqlLowest, sqlDeadKeys,
		sqlNewestBatch, sqlAbandoned, sqlClaimRow, sqlDue, sqlNextDue, sqlUndefer, sqlFresh, sqlLoad, sqlEdited, sqlEdit,
		sqlOldStarts, sqlHistory, sqlTakeOver, sqlMinute, sqlAddMinute, sqlSampled, sqlSetHigh, sqlSetArrival, sqlSetEntity,
	} {
		for _, step := range planOf(t, s, query) {
			table, scans := strings.CutPrefix(step, "SCAN ")
			if scans && !mayScan(table) || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("plan of %s\n%s, want a search in an index", query, step)
			}
		}
	}
}
