package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// statusCmd is weir status.
type statusCmd struct {
	windowFlag
}

// statusView is the state of a store, in JSON.
type statusView struct {
	OK      bool         `json:"ok"`
	Store   storeView    `json:"store"`
	Process *processView `json:"process"` // the last to work the store; null: none ever did
	Queues  []queueView  `json:"queues"`
	Totals  totalsView   `json:"totals"`
	// Workflows counts runs; NeedsPerson are the newest runs that need one.
	Workflows   []workflowView `json:"workflows"`
	NeedsPerson []runView      `json:"needs_person"`
	Problems    []problemView  `json:"problems"`
}

type storeView struct {
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	Schema      int    `json:"schema"`
}

type totalsView struct {
	Queues        int     `json:"queues"`
	Depth         int64   `json:"depth"`
	Leased        int64   `json:"leased"`
	Deferred      int64   `json:"deferred"`
	Dead          int64   `json:"dead"`
	SentPerSecond float64 `json:"sent_per_s"`
	DonePerSecond float64 `json:"done_per_s"`
}

// problemView is something wrong and what to do about it.
type problemView struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// state is what status and doctor look at.
type state struct {
	now     time.Time
	store   storeView
	process *weir.Process // the last to work the store
	running bool
	queues  []weir.QueueFigures

	numbers    runNumbers
	workflows  []workflowView
	needPerson []weir.RunRow // the newest
}

func readState(a *app, e *weir.Engine, window time.Duration) (state, error) {
	info := e.StoreInfo()
	s := state{store: storeView{info.Kind, info.Name, string(info.Incarnation), info.Schema}}
	processes, err := e.Processes(a.ctx, 1)
	if err != nil {
		return s, err
	}
	s.now = time.Now()
	if len(processes) > 0 {
		s.process = &processes[0]
		s.running = processState(processes[0], s.now) == processRunning
	}
	if s.queues, err = e.Queues(a.ctx, window); err != nil {
		return s, err
	}
	return s, s.readRuns(a, e)
}

// Run shows the status.
func (c *statusCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	s, err := readState(a, e, c.Window)
	if err != nil {
		return err
	}
	problems := s.problems()
	view := statusView{
		OK: len(problems) == 0, Store: s.store, Queues: viewQueues(s.queues, s.now), Totals: s.totals(),
		Workflows: s.workflows, NeedsPerson: s.numbers.views(s.needPerson), Problems: problems,
	}
	if s.process != nil {
		view.Process = viewProcess(*s.process, s.now)
	}
	err = a.print(view, func(w *tabwriter.Writer) {
		s.write(w)
		writeProblems(w, problems)
	})
	if err == nil && len(problems) > 0 {
		err = errWrong
	}
	return err
}

func (s *state) totals() totalsView {
	t := totalsView{Queues: len(s.queues)}
	for _, q := range s.queues {
		t.Depth += q.Depth
		t.Leased += q.Leased
		t.Deferred += q.Deferred
		t.Dead += q.Dead
		t.SentPerSecond += q.SentPerSecond
		t.DonePerSecond += q.DonePerSecond
	}
	t.SentPerSecond, t.DonePerSecond = rounded(t.SentPerSecond), rounded(t.DonePerSecond)
	return t
}

func (s *state) write(w *tabwriter.Writer) {
	fmt.Fprintf(w, "store\t%s (%s, schema %d, incarnation %s)\n", safe(s.store.Name), s.store.Kind, s.store.Schema, s.store.Incarnation)
	if s.process == nil {
		fmt.Fprintln(w, "process\tnone has worked it yet")
	} else {
		fmt.Fprintf(w, "process\t%s\n", safe(processText(*s.process, s.now)))
	}
	fmt.Fprintln(w)
	s.writeNeeds(w)
	s.writeQueues(w)
	s.writeRuns(w)
}

func (s *state) writeQueues(w io.Writer) {
	if len(s.queues) == 0 {
		fmt.Fprintln(w, "No queues yet: the service makes them when it runs.")
		return
	}
	g := newGrid("QUEUE", ">DEPTH", ">OF", ">OLDEST", ">SENT/S", ">DONE/S", ">WAIT p50/p99", ">WORK", ">LEAD", ">REJECTED", ">DEAD", "STATE")
	for _, q := range s.queues {
		g.row(q.Name, thousands(q.Depth), capacity(q), age(s.now, q.Oldest), rate(q.SentPerSecond), rate(q.DonePerSecond),
			both(q.Wait), both(q.Work), both(q.Lead), thousands(q.Rejected), thousands(q.Dead), s.stateOf(q))
	}
	t := s.totals()
	g.row("total", thousands(t.Depth), "", "", rate(t.SentPerSecond), rate(t.DonePerSecond), "", "", "", "", thousands(t.Dead), "")
	g.write(w)
}

// both is the median and the 99th percentile in one cell.
func both(t weir.Times) string {
	p := times(t)
	if p[0] == p[1] {
		return p[0]
	}
	return p[0] + "/" + p[1]
}

func (s *state) stateOf(q weir.QueueFigures) string {
	switch {
	case q.Paused != nil:
		return "paused"
	case q.Parked:
		return "parked"
	case !s.running:
		return "stopped" // with the process
	case !s.owns(q.Name):
		return "unowned" // by the process
	case full(q):
		return "full"
	}
	return "running"
}

// problems is what somebody should see to.
func (s *state) problems() []problemView {
	out := s.unworked()
	for _, q := range s.queues {
		out = append(out, queueProblems(q, s.now)...)
	}
	return append(out, s.runProblems()...)
}

// unworked is work that nobody does.
func (s *state) unworked() []problemView {
	return append(s.unworkedQueues(), s.unworkedRuns()...)
}

func (s *state) unworkedQueues() []problemView {
	out := []problemView{} // an empty list in JSON, not null
	if !s.running {
		if waiting := s.totals().Depth; waiting > 0 {
			out = append(out, problemView{"no process works the store, and " + waitText(waiting), "start the service that handles them"})
		}
		return out
	}
	for _, q := range s.queues {
		if q.Depth > 0 && !s.owns(q.Name) {
			out = append(out, problemView{
				fmt.Sprintf("nobody works queue %s, and %s", q.Name, waitText(q.Depth)),
				"start the service that owns it; the running one owns " + strings.Join(s.process.Owns, ", "),
			})
		} else if s.untouched(q) {
			out = append(out, problemView{
				fmt.Sprintf("%s in queue %s for %s, and none was begun", waitText(q.Depth-q.Deferred), q.Name, s.now.Sub(q.Oldest).Round(time.Second)),
				"see that the service which owns it registers a handler (weir.Handle, Answer or Subscribe) before it runs; weir queue show " + q.Name,
			})
		}
	}
	return out
}

// handlerPatience is how long a message of a queue may wait before somebody is asked whether there is a handler.
const handlerPatience = time.Minute

// untouched says whether nobody seems to handle what waits in a queue, which is the running process's by its name: a
// command without a handler. What waits for another store, in a relay's queue, has its reason in weir boundary ls.
func (s *state) untouched(q weir.QueueFigures) bool {
	return q.Depth > q.Deferred && q.Leased == 0 && q.Dead == 0 && q.Done+q.Died+q.Failed == 0 && q.Paused == nil && !q.Parked &&
		!strings.Contains(q.Name, "@") && !q.Oldest.IsZero() && s.now.Sub(q.Oldest) > handlerPatience && s.now.Sub(s.process.StartedAt) > handlerPatience
}

// queueProblems is what is wrong with a queue by itself.
func queueProblems(q weir.QueueFigures, now time.Time) []problemView {
	var out []problemView
	add := func(do, format string, args ...any) {
		out = append(out, problemView{fmt.Sprintf(format, args...), do})
	}
	if q.Paused != nil {
		add("weir queue resume "+q.Name+" when the reason is gone", "queue %s is %s", q.Name, pauseText(q, now))
	}
	if q.Parked {
		add("weir queue resume "+q.Name+" once its handler keeps up", "queue %s is parked: more than %s waited for it", q.Name, plural(int64(q.MaxLag), "message"))
	}
	if full(q) {
		add("weir queue show "+q.Name+" tells whether it drains; raise its concurrency or its capacity",
			"queue %s is full and refuses sends: %s of %s", q.Name, thousands(q.Depth), capacity(q))
	}
	if q.Dead > 0 {
		add("weir dead ls "+q.Name+" --group shows why; then weir dead retry or weir dead discard",
			"queue %s has %s", q.Name, plural(q.Dead, "dead letter"))
	}
	return out
}

func waitText(n int64) string {
	if n == 1 {
		return "1 message waits"
	}
	return thousands(n) + " messages wait"
}

// owns says whether the running process owns the boundary of a queue or a workflow.
func (s *state) owns(what string) bool {
	boundary, _, _ := strings.Cut(what, ".")
	for _, name := range s.process.Owns {
		if name == boundary {
			return true
		}
	}
	return false
}

func writeProblems(w *tabwriter.Writer, problems []problemView) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", plural(int64(len(problems)), "problem"))
	for _, p := range problems {
		fmt.Fprintf(w, "- %s\n  → %s\n", safe(p.What), safe(p.Do))
	}
}
