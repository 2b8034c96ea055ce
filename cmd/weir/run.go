package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// runCmd is weir run.
type runCmd struct {
	Ls      runLsCmd      `cmd:"" help:"Runs of workflows, newest first."`
	Show    runShowCmd    `cmd:"" help:"One run: a timeline of its steps with their attempts, waits, values and errors."`
	Why     runWhyCmd     `cmd:"" help:"Why a run does not go on: what it waits for, or what it needs."`
	Cancel  runCancelCmd  `cmd:"" help:"Ask a run to end: a call under way ends first, then what it did is compensated."`
	Retry   runRetryCmd   `cmd:"" help:"Let a run that needs a person try again, with all attempts before it."`
	Settle  runSettleCmd  `cmd:"" help:"Tell a run that needs a person what came of its step."`
	Skip    runSkipCmd    `cmd:"" help:"Let a run that needs a person go on without the step."`
	Abandon runAbandonCmd `cmd:"" help:"Give a run that needs a person up: it compensates and fails."`
}

// runFlags name one run.
type runFlags struct {
	ID       string `arg:"" help:"The run's ID, or WORKFLOW/ID."`
	Workflow string `placeholder:"NAME" help:"Its workflow, if several have a run with the ID."`
}

// find reads the run that is meant. ID may be all of a run's ID, which may have
// slashes, or have the workflow in front; what could be both is refused, because
// whoever starts runs chooses their IDs, and acts go by them.
func (f runFlags) find(a *app, e *weir.Engine) (weir.RunStory, error) {
	story, err := e.RunStory(a.ctx, f.Workflow, f.ID)
	workflow, id, prefixed := strings.Cut(f.ID, "/")
	if prefixed && f.Workflow == "" && strings.Contains(workflow, ".") {
		other, otherErr := e.RunStory(a.ctx, workflow, id)
		switch {
		case otherErr == nil && !errors.Is(err, weir.ErrNotFound):
			return other, usageError(fmt.Errorf("%q is a run's ID, and names run %q of %s: say which with --workflow", f.ID, id, workflow))
		case otherErr == nil:
			return other, nil
		case !errors.Is(otherErr, weir.ErrNotFound):
			return other, otherErr
		}
	}
	if _, ok := errors.AsType[*weir.AmbiguousError](err); ok {
		return story, usageError(fmt.Errorf("%w (--workflow NAME, or NAME/ID)", err))
	}
	if errors.Is(err, weir.ErrNotFound) {
		where := ""
		if f.Workflow != "" {
			where = " of " + f.Workflow
		}
		return story, fmt.Errorf("%w: no run%s has the ID %q: weir run ls lists them", weir.ErrNotFound, where, f.ID)
	}
	return story, err
}

// runView is a run in JSON, without what happened to it.
type runView struct {
	Number     string `json:"number"` // the cause of the messages that it sent
	Workflow   string `json:"workflow"`
	ID         string `json:"id"`
	State      string `json:"state"` // ready, running, waiting, needs-person, completed, failed, cancelled
	StartedAt  stamp  `json:"started_at"`
	EndedAt    stamp  `json:"ended_at"`
	WakeAt     stamp  `json:"wake_at"` // waiting: until then or for mail; null: for mail
	Process    int64  `json:"process"` // that works it; 0: none
	DeadlineAt stamp  `json:"deadline_at"`
	Crashes    int    `json:"crashes"` // of its process, since it last got on
	Parent     string `json:"parent"`  // the number of the run that it is a child of; empty: none
	Reason     string `json:"reason"`
}

// runNumbers gives runs their numbers in text.
type runNumbers store.Incarnation

func numbers(e *weir.Engine) runNumbers { return runNumbers(e.StoreInfo().Incarnation) }

func (n runNumbers) text(no store.RunNo) string {
	if no == 0 {
		return ""
	}
	return store.Incarnation(n).RunID(no)
}

func (n runNumbers) view(r weir.RunRow) runView {
	return runView{
		Number: n.text(r.No), Workflow: r.Workflow, ID: r.ID, State: string(r.State),
		StartedAt: stamp(r.StartedAt), EndedAt: stamp(r.EndedAt), WakeAt: stamp(r.Wake), Process: r.Process,
		DeadlineAt: stamp(r.Deadline), Crashes: r.Crashes, Parent: n.text(r.Parent), Reason: r.Reason,
	}
}

func (n runNumbers) views(rows []weir.RunRow) []runView {
	views := make([]runView, len(rows))
	for i, r := range rows {
		views[i] = n.view(r)
	}
	return views
}

// surroundings is what a run is judged by: the time, and who works the store.
func surroundings(a *app, e *weir.Engine) (weir.Surroundings, error) {
	processes, err := e.Processes(a.ctx, liveScan)
	s := weir.Surroundings{Now: time.Now()}
	for _, p := range processes {
		if processState(p, s.Now) == processRunning {
			s.Live = append(s.Live, p)
		}
	}
	return s, err
}

const liveScan = 20 // processes looked at, the newest

// runNext is, in a word or two, what comes next of a run, or when it ended.
func runNext(r weir.RunRow, now time.Time) string {
	switch {
	case !r.EndedAt.IsZero():
		return "took " + span(max(r.EndedAt.Sub(r.StartedAt), 0))
	case r.State == weir.RunWaiting && r.Wake.IsZero():
		return "for mail"
	case r.State == weir.RunWaiting && r.Wake.After(now):
		return "in " + span(r.Wake.Sub(now))
	case r.State == weir.RunWaiting:
		return "now"
	case r.State == weir.RunRunning:
		return fmt.Sprintf("process %d", r.Process)
	}
	return "-"
}

// firstLine is what an error says before its stack.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}
