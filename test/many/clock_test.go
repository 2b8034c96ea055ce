package many

import (
	"context"
	"errors"
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

// A machine whose clock is not the database's says so when it begins to work, and one whose clock is says nothing. What is
// delayed, retried or asleep takes its time on each.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	for name, c := range map[string]struct {
		off  time.Duration
		want string // how far this machine is ahead, as far as that is the same on any machine
	}{
		"the same":     {0, ""},
		"hour ahead":   {-time.Hour, "ahead=1h0m"},
		"hour behind":  {time.Hour, "ahead=-1h0m"},
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
			takeTime := timesOn(t, eng)
			go func() { over <- eng.Run(ctx) }()
			<-eng.Ready()
			if c.want == "" {
				takeTime(c.off) // clocks that differ by so little are taken for the same
			} else {
				takeTime(0)
			}
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

var (
	dawdle = weir.NewWorkflow[string, string]("house.dawdle")
	rung   = weir.NewEvent[string]("house.rung")
)

// timesOn registers what is late on an engine; the function that it returns has it done, and wants that each takes its time, but for what it may be early.
func timesOn(t *testing.T, eng *weir.Engine) (takeTime func(early time.Duration)) {
	const short, long = 400 * time.Millisecond, 700 * time.Millisecond
	var came, failed, slept atomic.Int32
	began := make(chan time.Time, 10)
	weir.Handle(eng, forward, func(_ context.Context, m *weir.Message[task]) error {
		began <- time.Now()
		if m.Body.Name == "one" && came.Add(1) == 1 {
			return weir.NotYet("too early", short)
		}
		return nil
	})
	weir.Register(eng, dawdle, func(r *weir.Run, _ string) (string, error) {
		weir.Sleep(r, "short", short)
		err := weir.Do(r, "retried", func(context.Context) error {
			if failed.Add(1) < 3 {
				return errors.New("not so fast")
			}
			return nil
		}, weir.Retry{Base: time.Millisecond, Cap: 10 * time.Millisecond}, weir.Timeout(time.Minute), weir.Within(10*time.Minute))
		if err != nil {
			return "", err
		}
		if _, err := weir.WaitFor(r, "nothing", rung.For("never"), weir.Within(long)); err == nil { // it is released meanwhile
			return "", errors.New("something came")
		}
		slept.Add(1)
		return "awake", nil
	})
	return func(early time.Duration) {
		asked := time.Now()
		run, err := weir.Start(t.Context(), eng, dawdle, "one", "", weir.Deadline(10*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := weir.Send(t.Context(), eng, forward, task{Name: "one"}, weir.Delay(short)); err != nil {
			t.Fatal(err)
		}
		last := asked
		for n := range 2 {
			select {
			case at := <-began:
				if took := at.Sub(last); took < short-early {
					t.Errorf("attempt %d after %v, want no less than %v", n+1, took, short)
				}
				last = at
			case <-time.After(patience):
				t.Fatalf("attempt %d has not come", n+1)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		got, err := run.Result(ctx)
		if took := time.Since(asked); err != nil || got != "awake" || took < short+long-2*early || failed.Load() != 3 || slept.Load() != 1 {
			t.Errorf("Result() = %q, %v after %v, %d attempts and %d awakenings, want awake after %v or more, 3 and 1", got, err, took, failed.Load(), slept.Load(), short+long)
		}
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
