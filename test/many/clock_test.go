package many

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
)

// A machine whose clock is not the database's says so when it begins to work, and one whose clock is says nothing.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	for name, c := range map[string]struct {
		off  time.Duration
		want string // how far this machine is ahead, as far as that is the same on any machine
	}{
		"the same":     {0, ""},
		"hour ahead":   {-time.Hour, "ahead=1h0m"},
		"hour behind":  {time.Hour, "ahead=-59m59"},
		"a bit behind": {300 * time.Millisecond, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, schema := poolOf(t, dsn)
			options := []postgres.Option{postgres.Schema(schema)}
			if c.off != 0 {
				options = append(options, postgres.Clock(func() time.Time { return time.Now().Add(c.off) }))
			}
			log := &spool{}
			eng, err := weir.Open(t.Context(), postgres.DB(dsn, options...), weir.Config{Owns: []string{"house"}, Log: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			over := make(chan error, 1)
			go func() { over <- eng.Run(ctx) }()
			<-eng.Ready()
			stop()
			if err := <-over; err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
			if err := eng.Close(); err != nil {
				t.Error(err)
			}
			const said = "this machine's clock is not the database's"
			if got := strings.Contains(log.String(), said); got != (c.want != "") || !strings.Contains(log.String(), c.want) {
				t.Errorf("the log says so: %t, want %q:\n%s", got, c.want, log)
			}
		})
	}
}

// Many that are due at one instant, which passed while nobody worked them, come once each when somebody does; those that
// were due before them come first, and none comes before its time.
func TestManyTimersAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "weir.db")
		timersAtOnce(t, func(now func() time.Time) store.Opener { return sqlite.File(file, sqlite.Clock(now)) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := dsnOf(t)
		_, schema := poolOf(t, dsn)
		timersAtOnce(t, func(now func() time.Time) store.Opener {
			return postgres.DB(dsn, postgres.Schema(schema), postgres.Clock(now))
		})
	})
}

func timersAtOnce(t *testing.T, open func(now func() time.Time) store.Opener) {
	const many, early = 2_200, 100
	var off atomic.Int64
	at := open(func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
	var mu sync.Mutex
	var came []string
	seen := make(chan string, many+early+10)
	works := func(eng *weir.Engine) {
		weir.Handle(eng, forward, func(_ context.Context, m *weir.Message[task]) error {
			mu.Lock()
			came = append(came, m.Body.Name)
			mu.Unlock()
			seen <- m.Body.Name
			return nil
		}, weir.Queue{Concurrency: 1})
	}
	first := runProgram(t, at, works)
	all := make([]task, many)
	for i := range all {
		all[i].Name = fmt.Sprint("at once ", i)
	}
	instant := time.Now().Add(time.Hour)
	for part := range 3 {
		if err := weir.SendAll(t.Context(), first.eng, forward, all[part*many/3:(part+1)*many/3], weir.At(instant)); err != nil {
			t.Fatal(err)
		}
	}
	if err := weir.SendAll(t.Context(), first.eng, forward, make([]task, early), weir.At(instant.Add(-time.Minute))); err != nil {
		t.Fatal(err)
	}
	if err := weir.Send(t.Context(), first.eng, forward, task{Name: "now"}); err != nil {
		t.Fatal(err)
	}
	if name := <-seen; name != "now" {
		t.Errorf("%q came before its time", name)
	}
	first.end(false)

	off.Store(int64(3 * time.Hour)) // that nobody was there
	second := runProgram(t, at, works)
	for i := range many + early {
		select {
		case <-seen:
		case <-time.After(patience):
			t.Fatalf("%d of %d have come", i, many+early)
		}
	}
	quiet(t, second.eng, second.over)
	second.end(false)
	counts, last := map[string]int{}, 0
	for i, name := range came[1:] {
		if counts[name]++; name == "" {
			last = i
		}
	}
	if len(came) != 1+many+early || len(counts) != many+1 || counts[""] != early {
		t.Errorf("%d came, of %d names, want %d once each", len(came)-1, len(counts), many+early)
	}
	if last >= store.MaxBatch+early {
		t.Errorf("the last of those that were due before the others came as the %d., want them in the first batches", last+1)
	}
}
