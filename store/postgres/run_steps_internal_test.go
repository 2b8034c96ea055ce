package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// Records are written by COPY where they are known to be new; where that is wrong they are
// written all the same, in place of those that there are.
func TestRecordsThatAreNotNewAfterAll(t *testing.T) {
	t.Parallel()
	d := &deeds{t: t, h: openHarness(t, time.Now).(*harness)}
	d.open(dsn(t) + " pool_max_conns=4")
	ref := d.run()
	write := func(from int, value string) {
		t.Helper()
		u := &store.RunUpdate{RunRef: ref}
		for n := from; n < from+2*copyStepsMin; n++ {
			u.Records = append(u.Records, &store.Record{N: n, Kind: store.KindStep, State: store.StepDone, Attempt: 1, Name: fmt.Sprint("s", n),
				StartedAt: time.UnixMicro(int64(n)), Took: time.Microsecond, Value: []byte(value)})
		}
		d.must(&store.Change{Run: u})
	}
	write(1, "first")
	if high := d.s.runs.written[int64(ref.No)]; high != 2*copyStepsMin {
		t.Fatalf("the highest record known is %d, want %d", high, 2*copyStepsMin)
	}
	write(copyStepsMin, "second") // half of them are known not to be new
	d.s.runs.written.know(int64(ref.No), nil)
	write(1, "third")
	story, err := d.s.Reader().Runs().Story(t.Context(), crowdFlow, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(story.Records); n != 3*copyStepsMin-1 {
		t.Errorf("%d records, want %d", n, 3*copyStepsMin-1)
	}
	for i, r := range story.Records {
		want := "third"
		if r.N > 2*copyStepsMin {
			want = "second"
		}
		if r.N != i+1 || string(r.Value) != want || r.Name != fmt.Sprint("s", r.N) || r.StartedAt.UnixMicro() != int64(r.N) || r.Took != time.Microsecond ||
			r.Kind != store.KindStep || r.State != store.StepDone || r.Attempt != 1 || r.Reason != "" || r.Headers != nil || r.Pos != 0 || !r.Due.IsZero() {
			t.Fatalf("record %d is %+v with %q, want what was written last, %q", i+1, r, r.Value, want)
		}
	}
	if high := d.s.runs.written[int64(ref.No)]; high != 2*copyStepsMin {
		t.Errorf("the highest record known is %d, want %d: that of the last update", high, 2*copyStepsMin)
	}
	d.must(&store.Change{Run: &store.RunUpdate{RunRef: ref, Verdict: store.Ended, Outcome: store.Completed}})
	if n := len(d.s.runs.written); n != 0 {
		t.Errorf("%d runs are remembered after the only one has ended, want none", n)
	}
}
