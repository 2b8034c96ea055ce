package main

import (
	"fmt"
	"strings"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// storyView is a message with everything that happened to it, in JSON.
type storyView struct {
	messageView
	*bodyView                  // nil where bodies are not read
	Queues    []queueStoryView `json:"queues"`
}

// queueStoryView is what one queue did with a message. Times that are not known are null.
type queueStoryView struct {
	Queue     string `json:"queue"`
	State     string `json:"state"`
	Batch     int64  `json:"batch"`   // 0: not claimed
	Process   int64  `json:"process"` // 0: not claimed
	ClaimedAt stamp  `json:"claimed_at"`
	// StartedAt and Work are the last attempt's.
	StartedAt stamp         `json:"started_at"`
	Wait      *millis       `json:"wait_ms"` // from the send, or its due time, to the first start
	Work      *millis       `json:"work_ms"`
	Lead      *millis       `json:"lead_ms"` // from the send to done
	DueAt     stamp         `json:"due_at"`
	Reason    string        `json:"reason"`
	Attempts  []attemptView `json:"attempts"` // empty after a first success
}

type attemptView struct {
	No        int    `json:"no"`
	StartedAt stamp  `json:"started_at"`
	Work      millis `json:"work_ms"`
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
	Stack     string `json:"stack"`
	Process   int64  `json:"process"`
	DueAt     stamp  `json:"due_at"`
}

func viewStory(s weir.MessageStory, withBody bool) storyView {
	v := storyView{messageView: viewMessage(s.Message), Queues: make([]queueStoryView, len(s.Queues))}
	if withBody {
		body := viewBody(s.Body)
		v.bodyView = &body
	}
	for i, q := range s.Queues {
		wait, waited := waitOf(s.Message, q)
		lead, done := leadOf(s.Message, q)
		v.Queues[i] = queueStoryView{
			Queue: q.Queue, State: q.State, Batch: q.Batch, Process: q.Process, ClaimedAt: stamp(q.ClaimedAt),
			StartedAt: stamp(q.Started), Wait: millisIf(waited, wait), Work: millisIf(!q.Started.IsZero(), q.Took),
			Lead: millisIf(done, lead), DueAt: stamp(q.Due), Reason: q.Reason, Attempts: viewAttempts(q.Attempts),
		}
	}
	return v
}

func viewAttempts(attempts []store.Attempt) []attemptView {
	views := make([]attemptView, len(attempts))
	for i, t := range attempts {
		views[i] = attemptView{
			No: t.No, StartedAt: stamp(t.Started), Work: millis(t.Took), Verdict: t.Verdict, Reason: t.Reason,
			Stack: t.Stack, Process: t.Process, DueAt: stamp(t.Due),
		}
	}
	return views
}

// waitOf is the time in queue: from the send, or from its due time, to the start
// of the first attempt. A clock that was set back counts as no time.
func waitOf(m weir.MessageRow, q weir.QueueStory) (time.Duration, bool) {
	started := q.Started
	for _, t := range q.Attempts {
		if !t.Started.IsZero() {
			started = t.Started
			break
		}
	}
	if started.IsZero() {
		return 0, false
	}
	since := m.SentAt
	if m.Due.After(since) {
		since = m.Due
	}
	return max(started.Sub(since), 0), true
}

// leadOf is the time from the send to done.
func leadOf(m weir.MessageRow, q weir.QueueStory) (time.Duration, bool) {
	if q.State != "done" || q.Started.IsZero() {
		return 0, false
	}
	return max(q.Started.Add(q.Took).Sub(m.SentAt), 0), true
}

// stateNames are a story's states as a person reads them.
var stateNames = map[string]string{
	"waiting":   "waiting to be claimed",
	"leased":    "in work",
	"deferred":  "deferred",
	"behind":    "behind an earlier message of its key",
	"before":    "sent before the subscription began",
	"discarded": "discarded",
}

// teller tells a queue's story in lines. Times of attempts are told since origin, or
// as they are if it is zero.
type teller struct{ origin time.Time }

func (t teller) at(when time.Time) string {
	if t.origin.IsZero() {
		return clockTime(when)
	}
	return "+" + span(max(when.Sub(t.origin), 0))
}

// queueStory is the state, and the attempts if there is more to tell than one success.
func (t teller) queueStory(m weir.MessageRow, q weir.QueueStory) []string {
	parts := []string{q.State}
	if name := stateNames[q.State]; name != "" {
		parts[0] = name
	}
	if !q.Due.IsZero() {
		parts[0] += " until " + clockTime(q.Due)
	}
	if wait, ok := waitOf(m, q); ok {
		parts = append(parts, "waited "+span(wait), "worked "+span(q.Took))
	}
	if lead, ok := leadOf(m, q); ok && len(q.Attempts) > 0 {
		parts = append(parts, fmt.Sprintf("%s and %s in all", plural(int64(len(q.Attempts)), "attempt"), span(lead)))
	}
	if q.Process > 0 {
		parts = append(parts, fmt.Sprintf("process %d", q.Process))
	}
	lines := []string{safe(q.Queue) + ": " + safe(strings.Join(parts, ", "))}
	told := ""
	for _, a := range q.Attempts {
		lines = append(lines, "  "+t.attempt(a))
		told = a.Reason
	}
	if q.Reason != told { // such as who retried it
		lines = append(lines, "  "+safe(q.Reason))
	}
	return lines
}

// verdictNames are an attempt's ends as a person reads them.
var verdictNames = map[string]string{
	"done":    "done",
	"retry":   "failed",
	"not-yet": "not yet",
	"dead":    "failed for good",
	"crashed": "its process ended meanwhile",
}

// attempt is an attempt in one line.
func (t teller) attempt(a store.Attempt) string {
	if a.Verdict == "discarded" { // nothing was attempted; the reason says who and why
		return safe(a.Reason)
	}
	verdict := a.Verdict
	if name := verdictNames[verdict]; name != "" {
		verdict = name
	}
	text := fmt.Sprintf("attempt %d", a.No)
	if !a.Started.IsZero() {
		text += " at " + t.at(a.Started)
		verdict += " after " + span(a.Took)
	}
	text += ": " + verdict
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	if !a.Due.IsZero() && !a.Started.IsZero() {
		text += "; again in " + span(max(a.Due.Sub(a.Started.Add(a.Took)), 0))
	}
	return safe(text)
}
