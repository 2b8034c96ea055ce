package weirtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// How a run stands, for [RequireRun].
const (
	Completed   weir.RunState = "completed"
	Failed      weir.RunState = "failed"
	Cancelled   weir.RunState = "cancelled"
	Waiting                   = weir.RunWaiting
	NeedsPerson               = weir.RunNeedsPerson
)

// RequireStarted gives the input of a run that was started, and fails t if it was
// not, telling which were. s is an [Engine], or a message made by [Message].
func RequireStarted[In, Out any](t testing.TB, s weir.Sender, w weir.Workflow[In, Out], id string) In {
	t.Helper()
	var in In
	input, found := startedBy(t, s, w.Name(), id)
	if !found {
		others := runsOf(t, s)
		if len(others) == 0 {
			t.Fatalf("want run %s of %s started, there is none", id, w.Name())
		}
		t.Fatalf("want run %s of %s started, there are only%s", id, w.Name(), list(others))
	}
	if err := codecOf(s).Unmarshal(input, &in); err != nil {
		t.Fatalf("decode the input of run %s of %s: %v", id, w.Name(), err)
	}
	return in
}

// RequireRun wants a run to stand in a way: [Completed], and gives its result then,
// [Failed], [Cancelled], [Waiting] or [NeedsPerson]. Else it fails t, telling how it
// stands, and why.
func RequireRun[In, Out any](t testing.TB, e *Engine, w weir.Workflow[In, Out], id string, want weir.RunState) Out {
	t.Helper()
	var out Out
	synctest.Wait() // for what is under way without waiting for time
	RequireStarted(t, e, w, id)
	story, err := e.RunStory(context.Background(), w.Name(), id)
	if err != nil {
		t.Fatalf("run %s of %s: %v", id, w.Name(), err)
	}
	if story.State != want {
		text := fmt.Sprintf("want run %s of %s %s, it is %s", id, w.Name(), want, story.State)
		if story.Reason != "" {
			text += ": " + story.Reason
		}
		t.Fatalf("%s%s", text, list(steps(story.Records)))
	}
	if want != Completed || len(story.Result) == 0 {
		return out
	}
	if err := e.codec.Unmarshal(story.Result, &out); err != nil {
		t.Fatalf("decode the result of run %s of %s: %v", id, w.Name(), err)
	}
	return out
}

// step is a record, as a failure tells it.
type step struct{ weir.RunRecord }

func (s step) String() string {
	text := fmt.Sprintf("%s %s: %s", s.Kind, s.Name, s.State)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

func steps(records []weir.RunRecord) []step {
	all := make([]step, len(records))
	for i := range records {
		all[i] = step{records[i]}
	}
	return all
}

// aRun is a run, as a failure tells it.
type aRun struct {
	workflow, id string
	state        weir.RunState // empty: not started yet
}

func (r aRun) String() string {
	if r.state == "" {
		return fmt.Sprintf("%s of %s", r.id, r.workflow)
	}
	return fmt.Sprintf("%s of %s, %s", r.id, r.workflow, r.state)
}

// startedBy is the input of a run, if it was started.
func startedBy(t testing.TB, s weir.Sender, workflow, id string) (input []byte, found bool) {
	t.Helper()
	e, ok := s.(*Engine)
	if !ok {
		for _, r := range recorderOf(t, s).attempt.Caused().Runs {
			if r.Workflow == workflow && r.ID == id {
				return r.Input, true
			}
		}
		return nil, false
	}
	synctest.Wait()
	story, err := e.RunStory(context.Background(), workflow, id)
	if errors.Is(err, weir.ErrNotFound) {
		return nil, false
	}
	if err != nil {
		t.Fatalf("run %s of %s: %v", id, workflow, err)
	}
	return story.Input, true
}

// runsOf is all runs that were started, the newest first.
func runsOf(t testing.TB, s weir.Sender) []aRun {
	t.Helper()
	var all []aRun
	e, ok := s.(*Engine)
	if !ok {
		for _, r := range recorderOf(t, s).attempt.Caused().Runs {
			all = append(all, aRun{workflow: r.Workflow, id: r.ID})
		}
		return all
	}
	page, err := e.Runs(context.Background(), weir.RunQuery{Max: store.MaxList})
	if err != nil {
		t.Fatalf("runs: %v", err)
	}
	for i := range page {
		all = append(all, aRun{page[i].Workflow, page[i].ID, page[i].State})
	}
	return all
}
