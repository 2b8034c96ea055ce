package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// A user's transactions get their turn beside an engine that commits one group
// after another, and the engine gets its own.
func TestTransactionsBesideABusyEngine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := openFile(t, path)
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`create table mine (n integer)`); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var engine sync.WaitGroup
	engine.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			m := &store.Message{Topic: "kitchen.cook", Kind: store.KindCommand, Version: 1, Body: []byte("{}")}
			if err := s.Commit(context.Background(), &store.Group{Changes: []*store.Change{{Sends: []*store.Message{m}}}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 50 {
		tx, err := db.Begin()
		if err != nil {
			t.Fatalf("Begin() no. %d = %v, want nil", n, err)
		}
		if _, err := tx.Exec(`insert into mine values (?)`, n); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	engine.Wait()

	held, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := db.BeginTx(ctx, nil); err == nil {
		t.Error("BeginTx beside an open transaction = nil, want an error when its context ends")
	}
	if err := held.Rollback(); err != nil {
		t.Error(err)
	}
	var timeout int
	if err := db.QueryRow(`pragma busy_timeout`).Scan(&timeout); err != nil || timeout != 5000 {
		t.Errorf("busy_timeout after transactions = %d, %v, want 5000", timeout, err)
	}
}
