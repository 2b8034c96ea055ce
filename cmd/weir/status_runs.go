package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	weir "github.com/weir-go/weir"
)

// workflowView is how many runs of a workflow are in which state, in JSON.
type workflowView struct {
	Workflow    string `json:"workflow"`
	Ready       int64  `json:"ready"`
	Running     int64  `json:"running"`
	Waiting     int64  `json:"waiting"`
	NeedsPerson int64  `json:"needs_person"`
	Completed   int64  `json:"completed"` // of those that ended, as far as they are kept
	Failed      int64  `json:"failed"`
	Cancelled   int64  `json:"cancelled"`
	OldestAt    stamp  `json:"oldest_at"` // the start of the oldest that has not ended
	readySince  time.Time
}

// viewWorkflows turns counts, which come by workflow, into a row each.
func viewWorkflows(counts []weir.RunCount) []workflowView {
	views := []workflowView{}
	for _, c := range counts {
		if len(views) == 0 || views[len(views)-1].Workflow != c.Workflow {
			views = append(views, workflowView{Workflow: c.Workflow})
		}
		v := &views[len(views)-1]
		switch c.State {
		case weir.RunReady:
			v.Ready += c.Count
			v.readySince = c.Since
		case weir.RunRunning:
			v.Running += c.Count
		case weir.RunWaiting:
			v.Waiting += c.Count
		case weir.RunNeedsPerson:
			v.NeedsPerson += c.Count
		case "completed":
			v.Completed += c.Count
			continue
		case "failed":
			v.Failed += c.Count
			continue
		case "cancelled":
			v.Cancelled += c.Count
			continue
		}
		if oldest := time.Time(v.OldestAt); oldest.IsZero() || c.Oldest.Before(oldest) {
			v.OldestAt = stamp(c.Oldest)
		}
	}
	return views
}

const needShown = 5 // runs that need a person, in status

// readRuns reads what status tells of runs.
func (s *state) readRuns(a *app, e *weir.Engine) error {
	counts, err := e.RunCounts(a.ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(counts, func(a, b weir.RunCount) int { return strings.Compare(a.Workflow, b.Workflow) })
	s.workflows = viewWorkflows(counts)
	s.numbers = numbers(e)
	if s.needing() > 0 {
		s.needPerson, err = e.Runs(a.ctx, weir.RunQuery{State: weir.RunNeedsPerson, Max: needShown})
	}
	return err
}

// needing is how many runs need a person.
func (s *state) needing() int64 {
	var n int64
	for _, v := range s.workflows {
		n += v.NeedsPerson
	}
	return n
}

// writeNeeds tells which runs need a person, before anything else.
func (s *state) writeNeeds(w io.Writer) {
	n := s.needing()
	if n == 0 {
		return
	}
	verb := "need"
	if n == 1 {
		verb = "needs"
	}
	fmt.Fprintf(w, "%s %s a person, the newest:\n", plural(n, "run"), verb)
	for _, r := range s.needPerson {
		text := fmt.Sprintf("%s/%s, started %s ago: %s", r.Workflow, r.ID, age(s.now, r.StartedAt), clip(firstLine(r.Reason), errorWidth))
		writeWrapped(w, "! ", safe(text))
	}
	fmt.Fprintln(w, "  → weir run why ID says what to do; weir run ls --state needs-person lists them all")
	fmt.Fprintln(w)
}

// writeRuns tells how many runs are in which state.
func (s *state) writeRuns(w io.Writer) {
	if len(s.workflows) == 0 {
		return
	}
	g := newGrid("WORKFLOW", ">READY", ">RUNNING", ">WAITING", ">NEED PERSON", ">OLDEST", ">COMPLETED", ">FAILED", ">CANCELLED")
	for _, v := range s.workflows {
		g.row(v.Workflow, thousands(v.Ready), thousands(v.Running), thousands(v.Waiting), thousands(v.NeedsPerson),
			age(s.now, time.Time(v.OldestAt)), thousands(v.Completed), thousands(v.Failed), thousands(v.Cancelled))
	}
	fmt.Fprintln(w)
	g.write(w)
}

// runProblems is what somebody should see to.
func (s *state) runProblems() []problemView {
	var out []problemView
	for _, v := range s.workflows {
		if v.NeedsPerson > 0 {
			verb := "need"
			if v.NeedsPerson == 1 {
				verb = "needs"
			}
			out = append(out, problemView{
				fmt.Sprintf("%s of %s %s a person", plural(v.NeedsPerson, "run"), v.Workflow, verb),
				"weir run ls --workflow " + v.Workflow + " --state needs-person lists them, weir run why ID says what to do",
			})
		}
	}
	return out
}

// unregistered says whether no process seems to register a workflow, which is the running one's by its name.
func (s *state) unregistered(v workflowView) bool {
	return v.Ready > 0 && v.Running == 0 && !v.readySince.IsZero() && s.now.Sub(v.readySince) > handlerPatience && s.now.Sub(s.process.StartedAt) > handlerPatience
}

// unworkedRuns are runs that are ready, and that nobody works.
func (s *state) unworkedRuns() []problemView {
	var out []problemView
	for _, v := range s.workflows {
		if s.running && s.owns(v.Workflow) {
			if s.unregistered(v) {
				out = append(out, problemView{
					fmt.Sprintf("%s of %s could go on for %s, and none is worked", plural(v.Ready, "run"), v.Workflow, s.now.Sub(v.readySince).Round(time.Second)),
					"see that the service which owns it registers the workflow (weir.Register) before it runs; weir run ls --workflow " + v.Workflow + " --state ready",
				})
			}
			continue
		}
		if v.Ready == 0 {
			continue
		}
		problem := problemView{fmt.Sprintf("no process works the store, and %s of %s could go on", plural(v.Ready, "run"), v.Workflow),
			"start the service that registers the workflow"}
		if s.running {
			problem.What = fmt.Sprintf("nobody works workflow %s, and %s of it could go on", v.Workflow, plural(v.Ready, "run"))
			problem.Do = "start the service that owns it; the running one owns " + strings.Join(s.process.Owns, ", ")
		}
		out = append(out, problem)
	}
	return out
}
