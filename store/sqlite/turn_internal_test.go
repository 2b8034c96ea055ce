package sqlite

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// An engine gets its turn beside a user who commits one transaction after another:
// of so many of theirs, some are ours. With SQLite's own wait, which is asleep most of the time, it was one in hundreds.
func TestTurnBesideABusyUser(t *testing.T) {
	const commits, most = 300, 100
	s := newStore(t)
	declare(t, s, cook)
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`create table mine (n integer)`); err != nil {
		t.Fatal(err)
	}
	ctx, over := context.WithCancel(t.Context())
	var theirs atomic.Int64
	user, going := make(chan error), make(chan struct{})
	go func() {
		for ctx.Err() == nil {
			tx, err := db.Begin()
			if err == nil {
				_, err = tx.Exec(`insert into mine values (1)`)
				err = errors.Join(err, tx.Commit())
			}
			if err != nil {
				user <- err
				return
			}
			if theirs.Add(1) == 10 {
				close(going)
			}
		}
		user <- nil
	}()
	<-going
	for range commits {
		m := message(cook.Topic, "", "1")
		if err := s.Commit(t.Context(), &store.Group{Changes: []*store.Change{{Sends: []*store.Message{m}}}}); err != nil {
			t.Fatal(err)
		}
	}
	n := theirs.Load()
	over()
	if err := <-user; err != nil {
		t.Error(err)
	}
	t.Logf("%d commits beside %d", commits, n)
	if n > commits*most {
		t.Errorf("%d commits of ours beside %d of a user's, want at most %d: it hardly gets a turn", commits, n, commits*most)
	}
}

// A user gets a turn beside an engine whose transactions take long, as on a slow disk: between two of them there is a gap,
// or of the few that there are in the 5 s that the user waits none might be met.
func TestTurnBesideASlowEngine(t *testing.T) {
	const turns, most = 10, 5
	s := newStore(t)
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, over := context.WithCancel(t.Context())
	var ours atomic.Int64
	engine, holds := make(chan error), make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			err := s.write(t.Context(), func(*conn) error {
				select {
				case holds <- struct{}{}:
				default:
				}
				timer := time.NewTimer(longHold)
				defer timer.Stop()
				<-timer.C
				return nil
			})
			if err != nil {
				engine <- err
				return
			}
			ours.Add(1)
		}
		engine <- nil
	}()
	for range turns {
		select {
		case <-holds: // one that may be over
		default:
		}
		<-holds
		tx, err := db.Begin()
		if err == nil {
			err = tx.Rollback()
		}
		if err != nil {
			t.Error(err)
		}
	}
	n := ours.Load()
	over()
	if err := <-engine; err != nil {
		t.Error(err)
	}
	t.Logf("%d transactions of the engine beside %d", n, turns)
	if n > turns*most {
		t.Errorf("%d transactions of the engine beside %d of a user's, want at most %d: the user hardly gets a turn", n, turns, turns*most)
	}
}
