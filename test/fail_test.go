package test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
)

// A commit that fails stops the engine even if nothing but a send was in it: who
// goes on after a failed sync does not know what the disk holds.
func TestFailedSendStops(t *testing.T) {
	t.Parallel()
	disk := errors.New("the disk fails")
	var sending atomic.Bool
	once := storetest.FailBefore(disk, 1, storetest.Commit)
	file := filepath.Join(t.TempDir(), "weir.db")
	openTables(t, file)
	s, err := open(t.Context(), premises{file: file, log: t.Output(), open: func(ctx context.Context) (store.Store, error) {
		st, err := sqlite.File(file)(ctx)
		return sendFails{st, once.Store(st), &sending}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.serve()
	if err := errors.Join(command(t.Context(), s, clean, job{Tag: "c1"}), s.rest(t.Context())); err != nil {
		t.Fatal(err)
	}
	sending.Store(true)
	if err := command(t.Context(), s, clean, job{Tag: "c2"}); !errors.Is(err, disk) {
		t.Errorf("Send on a failing disk = %v, want %v", err, disk)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.stopped(ctx); !errors.Is(err, disk) {
		t.Errorf("Run = %v, want %v", err, disk)
	}
	if err := s.close(); !errors.Is(err, disk) {
		t.Errorf("close = %v, want Run's %v", err, disk)
	}
}

// sendFails fails one commit of sends, once they are meant to fail.
type sendFails struct {
	store.Store
	failing store.Store
	sending *atomic.Bool
}

func (s sendFails) Commit(ctx context.Context, g *store.Group) error {
	if s.sending.Load() && len(g.Changes) > 0 && len(g.Changes[0].Sends) > 0 {
		return s.failing.Commit(ctx, g)
	}
	return s.Store.Commit(ctx, g)
}
