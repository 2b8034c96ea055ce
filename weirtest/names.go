package weirtest

import (
	"fmt"
	"strings"

	"github.com/weir-go/weir/store"
)

// names knows what numbers in changes stand for, so that a point can be told to people.
type names struct {
	queues map[store.QueueID]string
	runs   map[store.RunNo]string // "workflow id"
}

func newNames() *names {
	return &names{queues: map[store.QueueID]string{}, runs: map[store.RunNo]string{}}
}

func (n *names) declared(states []store.QueueState) {
	for i := range states {
		n.queues[states[i].ID] = states[i].Name
	}
}

func (n *names) queue(id store.QueueID) string {
	if name := n.queues[id]; name != "" {
		return name
	}
	return fmt.Sprint("queue ", id)
}

func (n *names) run(no store.RunNo) string {
	if name := n.runs[no]; name != "" {
		return name
	}
	return fmt.Sprint("run ", no)
}

// partsMax is how much of a point is told.
const partsMax = 4

func tell(parts []string) string {
	if len(parts) > partsMax {
		parts = append(parts[:partsMax:partsMax], fmt.Sprintf("and %d more", len(parts)-partsMax))
	}
	return strings.Join(parts, ", ")
}

// change tells what a change writes.
func (n *names) change(c *store.Change) string { return tell(n.parts(c)) }

func (n *names) parts(c *store.Change) []string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	for i := range c.Settle {
		s := &c.Settle[i]
		if s.Key != "" {
			add("%s of %s %s", n.queue(s.Batch.Queue), s.Key, verdict(s.Verdict))
		} else {
			add("%s %s", n.queue(s.Batch.Queue), verdict(s.Verdict))
		}
	}
	if c.Run != nil {
		parts = append(parts, n.update(c.Run)...)
	}
	if sends := topics(c.Sends); sends != "" {
		add("%s sent", sends)
	}
	for _, r := range c.Runs {
		name := r.Workflow + " " + r.ID
		if r.No != 0 {
			n.runs[r.No] = name
		}
		add("%s started", name)
	}
	for range c.Starts {
		add("start of a suspect noted")
	}
	return parts
}

func verdict(v store.Verdict) string {
	switch v {
	case store.Done:
		return "acknowledged"
	case store.Retry:
		return "failed, to be retried"
	case store.NotYet:
		return "put off"
	case store.Behind:
		return "put behind another of its key"
	case store.Dead:
		return "dead"
	}
	return "discarded"
}

// topics are the topics of messages, each once.
func topics(messages []*store.Message) string {
	var all []string
	last := ""
	for _, m := range messages {
		if m.Topic != last {
			all = append(all, m.Topic)
		}
		last = m.Topic
	}
	return tell(all)
}

// update tells what a run writes.
func (n *names) update(u *store.RunUpdate) []string {
	var parts []string
	for _, r := range u.Records {
		parts = append(parts, fmt.Sprintf("%s %s %s", r.Kind, r.Name, stateName(r)))
	}
	switch u.Verdict {
	case store.Waiting:
		parts = append(parts, "waiting")
	case store.Parked:
		parts = append(parts, "needs a person: "+u.Reason)
	case store.Ended:
		parts = append(parts, u.Outcome.String())
	}
	if len(parts) == 0 {
		parts = []string{"mail read"}
	}
	parts[0] = n.run(u.No) + ": " + parts[0]
	return parts
}

func stateName(r *store.Record) string {
	if r.State == store.StepDone {
		return "recorded"
	}
	return r.State.String()
}

// claimed tells what a claim has found.
func (n *names) claimed(c *store.Claimed) string {
	var parts []string
	if b := c.Batch; b != nil {
		parts = append(parts, fmt.Sprintf("%d of %s claimed", len(b.Deliveries), n.queue(b.Queue)))
	}
	for _, r := range c.Runs {
		n.runs[r.No] = r.Workflow + " " + r.ID
		parts = append(parts, n.runs[r.No]+" claimed")
	}
	return tell(parts)
}
