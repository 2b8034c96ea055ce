package test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// A message that kills its process is found and put aside, by no more restarts
// than it takes to be sure, and no other is blamed.
func TestPoison(t *testing.T) {
	t.Parallel()
	const crowd = 200
	for _, c := range []struct {
		name   string
		jobs   func() (cleans, quotes []job)
		poison []string // tags
		most   int      // processes: one crash by surprise, three alone, one that finishes; two more that tell nothing
	}{
		{"one", func() ([]job, []job) {
			cleans := many("c", crowd)
			cleans[crowd/2].Deed = "exit"
			return cleans, nil
		}, []string{"c100"}, 5},
		{"one in each of two queues", func() ([]job, []job) {
			cleans, quotes := many("c", crowd/2), many("q", crowd/2)
			cleans[30].Deed, quotes[70].Deed = "exit", "kill"
			return cleans, quotes
		}, []string{"c30", "q70"}, 9},
		// The slow one runs for longer than it is waited for. When it is the first of
		// the two, the other starts beside it, and its crash tells nothing.
		{"after a slow one", func() ([]job, []job) {
			cleans := many("c", 2)
			cleans[0].Deed, cleans[1].Deed = "slow", "exit"
			return cleans, nil
		}, []string{"c1"}, 7},
		{"before a slow one", func() ([]job, []job) {
			cleans := many("c", 2)
			cleans[0].Deed, cleans[1].Deed = "exit", "slow"
			return cleans, nil
		}, []string{"c0"}, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "weir.db")
			openTables(t, file)
			cleans, quotes := c.jobs()
			sendJobs(t, file, cleans, quotes)
			lives := supervise(t, file, c.most)
			b := audit(t, file)
			t.Logf("%d processes", lives)
			if len(b.dead) != len(c.poison) {
				t.Errorf("%d are dead, want %d", len(b.dead), len(c.poison))
			}
			for p, l := range b.dead {
				tag := b.journal[p.pos].body.Tag
				if !strings.Contains(" "+strings.Join(c.poison, " ")+" ", " "+tag+" ") {
					t.Errorf("%s is dead: %s, want only %q to be", b.name(p), l.reason, c.poison)
				}
				if !l.quarantined || !strings.Contains(l.reason, "quarantined: the process ended 3 times") {
					t.Errorf("%s died of %q, quarantined %t, want it to be quarantined after 3 crashes", b.name(p), l.reason, l.quarantined)
				}
			}
		})
	}
}

// many are n jobs with tags that begin with a prefix.
func many(prefix string, n int) []job {
	jobs := make([]job, n)
	for i := range jobs {
		jobs[i].Tag = fmt.Sprintf("%s%d", prefix, i)
	}
	return jobs
}

// sendJobs sends them as a process would that does not run.
func sendJobs(t *testing.T, file string, cleans, quotes []job) {
	t.Helper()
	r, err := openReport(file)
	if err != nil {
		t.Fatal(err)
	}
	eng, err := weir.Open(t.Context(), sqlite.File(file), weir.Config{
		Owns: []string{"kitchen"}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{report: r, eng: eng}
	err = s.sent(clean.Name(), tagsOf(cleans), func() error { return weir.SendAll(t.Context(), eng, clean, cleans) })
	if err != nil {
		t.Error(err)
	}
	if len(quotes) > 0 {
		err = s.sent(quote.Name(), tagsOf(quotes), func() error { return weir.SendAll(t.Context(), eng, quote, quotes) })
		if err != nil {
			t.Error(err)
		}
	}
	if err := eng.Close(); err != nil {
		t.Error(err)
	}
	if err := r.file.Close(); err != nil {
		t.Error(err)
	}
}

// supervise starts a process as often as it takes until one finishes, as a
// supervisor does, and tells how many it took.
func supervise(t *testing.T, file string, most int) int {
	t.Helper()
	for n := 1; ; n++ {
		c := start(t, "work", file, life(n))
		code := c.wait()
		if code == 0 {
			return n
		}
		if code == exitFailed {
			t.Fatalf("process %d failed; it said:\n%s", n, c.said())
		}
		if n == most {
			t.Fatalf("after %d processes the poison has not been found; the last one said:\n%s", n, c.said())
		}
	}
}
