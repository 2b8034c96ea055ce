package weir_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// While somebody reads a snapshot of the file for long its write-ahead log grows, which Check tells; sends go on.
// Once the reader is gone the log is as short again as it may be.
func TestLongReaderAndTheLog(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	e := openEngine(t, file, weir.Config{MaxBody: 1 << 20})
	text := weir.NewCommand[string]("kitchen.text")
	db, err := sqlite.OpenDB(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reader, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, sql := range []string{"begin", "select count(*) from weir_messages"} {
		rows, err := reader.QueryContext(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	part := make([]string, 11)
	for i := range part {
		part[i] = strings.Repeat("x", 1<<20-2)
	}
	for range 6 {
		if err := weir.SendAll(t.Context(), e, text, part); err != nil {
			t.Fatal(err)
		}
	}
	logged := func() bool {
		found, err := e.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if strings.Contains(f.What, "write-ahead log") {
				return true
			}
		}
		return false
	}
	if !logged() {
		t.Error("Check says nothing of the log that cannot be shortened")
	}
	if _, err := reader.ExecContext(context.Background(), "rollback"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first commit brings all to the file, the next begins the log anew
		if err := weir.Send(t.Context(), e, text, "short"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(file + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(64 << 20); info.Size() > most {
		t.Errorf("the log has %d bytes once nobody reads, want at most %d", info.Size(), most)
	}
	if logged() {
		t.Error("Check still finds a long log")
	}
}

// A file that has two names is refused by both: each would have a lock and a log of its own.
func TestFileOfTwoNames(t *testing.T) {
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	other := file + ".other"
	if err := os.Link(file, other); err != nil {
		t.Skipf("no hard links here: %v", err)
	}
	for _, name := range []string{file, other} {
		again, err := weir.Open(t.Context(), sqlite.File(name), weir.Config{})
		if err == nil {
			_ = again.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "2 names") {
			t.Errorf("Open(%s) of a file with two names = %v, want it refused", name, err)
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	send(t, e, clean, ticket{N: 1})
	openEngine(t, file, weir.Config{})
}

// A run that waits takes no place: with room for one run at a time the next one is worked meanwhile.
func TestWaitingRunFreesItsPlace(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	goOn := weir.NewSignal[string]("kitchen.go-on")
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		if in.Table == "waits" {
			if _, err := weir.WaitFor(r, "word", goOn); err != nil {
				return plate{}, err
			}
		}
		return plate(in), weir.Do(r, "serve", func(context.Context) error { return nil })
	}, weir.Runs{Concurrency: 1})
	run(t, e)
	start := func(id string) weir.RunRef[plate] {
		ref, err := weir.Start(t.Context(), e, dine, id, ticket{Table: id})
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	first := start("waits")
	if _, err := start("goes").Result(t.Context()); err != nil {
		t.Errorf("the run that need not wait = %v, want nil", err)
	}
	if err := weir.Tell(t.Context(), e, goOn, "waits", "now"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Result(t.Context()); err != nil {
		t.Errorf("the run that waited = %v, want nil", err)
	}
}
