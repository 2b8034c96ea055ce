package main

import (
	"fmt"
	"io"
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

// writeQueueStory tells what a queue did with a message, each line after margin.
func writeQueueStory(w io.Writer, m weir.MessageRow, q weir.QueueStory, margin string) {
	for _, line := range queueStory(m, q) {
		fmt.Fprintln(w, margin+line)
	}
}

// queueStory is a queue's story in lines: the state, and the attempts if there is more to tell than one success.
func queueStory(m weir.MessageRow, q weir.QueueStory) []string {
	state := q.State
	if name := stateNames[state]; name != "" {
		state = name
	}
	parts := []string{state}
	if !q.Due.IsZero() {
		parts[0] += " until " + clockTime(q.Due)
	}
	if wait, ok := waitOf(m, q); ok {
		parts = append(parts, "waited "+span(wait), "worked "+span(q.Took))
	}
	if lead, ok := leadOf(m, q); ok && len(q.Attempts) > 0 {
		parts = append(parts, fmt.Sprintf("done after %s and %s", span(lead), plural(int64(len(q.Attempts)), "attempt")))
	}
	if q.Process > 0 {
		parts = append(parts, fmt.Sprintf("process %d, batch %d", q.Process, q.Batch))
	}
	lines := []string{safe(q.Queue) + ": " + safe(strings.Join(parts, ", "))}
	if len(q.Attempts) == 0 && q.Reason != "" {
		lines = append(lines, "  "+safe(q.Reason))
	}
	for _, t := range q.Attempts {
		lines = append(lines, "  "+attemptText(t))
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

// attemptText is an attempt in one line.
func attemptText(t store.Attempt) string {
	verdict := t.Verdict
	if name := verdictNames[verdict]; name != "" {
		verdict = name
	}
	text := fmt.Sprintf("attempt %d: %s", t.No, verdict)
	if !t.Started.IsZero() {
		text += fmt.Sprintf(" after %s (%s)", span(t.Took), clockTime(t.Started))
	}
	if t.Reason != "" {
		text += ": " + t.Reason
	}
	if !t.Due.IsZero() && !t.Started.IsZero() {
		text += fmt.Sprintf("; again in %s", span(max(t.Due.Sub(t.Started.Add(t.Took)), 0)))
	}
	return safe(text)
}
