package postgres

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-go/weir/store"
)

// byID orders queues by their numbers.
func byID(queues []*seenQueue) []*seenQueue {
	return slices.SortedFunc(slices.Values(queues), func(a, b *seenQueue) int { return cmp.Compare(a.id, b.id) })
}

type letterAudit struct {
	State    string        `json:"state"`
	Attempts int           `json:"attempts,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Parked   int           `json:"parked,omitempty"` // followers that came along
	Body     *contentAudit `json:"body,omitempty"`
	Headers  *contentAudit `json:"headers,omitempty"`
}

type bulkAudit struct {
	State string `json:"state"`
	Count int    `json:"count"`
	First string `json:"first"`
	Last  string `json:"last"`
	More  bool   `json:"more,omitempty"`
}

// auditDead writes the act's one row.
func (o operation) auditDead(plan settling) error {
	after := "deferred"
	if o.act.Verb == store.DiscardDead {
		after = stateDiscarded
	}
	inc := o.s.info.Incarnation
	first, last := plan.letters[0], plan.letters[len(plan.letters)-1]
	if o.act.ID == "" {
		target := "dead letters"
		if o.act.Queue != "" {
			target += " of " + o.act.Queue
		}
		if o.act.Matching != "" {
			target += fmt.Sprintf(" matching %q", o.act.Matching)
		}
		b := bulkAudit{State: "dead", Count: len(plan.letters), More: plan.more,
			First: inc.ID(store.Pos(first.pos)), Last: inc.ID(store.Pos(last.pos))}
		a := b
		a.State = after
		return o.audit(target, b, a)
	}
	var names []string
	parked := 0
	for _, l := range plan.letters {
		if l.follows {
			parked++
		} else {
			names = append(names, plan.queues[l.queue].Name)
		}
	}
	b := letterAudit{State: "dead", Attempts: first.attempts, Reason: first.reason, Parked: parked}
	a := letterAudit{State: after, Parked: parked}
	if o.edits() {
		var err error
		if b.Body, b.Headers, err = o.contentNow(first.pos); err != nil {
			return err
		}
		a.Body, a.Headers = auditContent(o.act.Body), auditContent(o.act.Headers)
	}
	return o.audit("dead "+o.act.ID+" of "+strings.Join(names, ", "), b, a)
}

// contentNow is the journal's body and headers of a message.
func (o operation) contentNow(pos int64) (body, headers *contentAudit, err error) {
	w, err := newScribe(o.t)
	if err != nil {
		return nil, nil, err
	}
	found, err := w.read([]int64{pos}, true)
	if m := found[pos]; m != nil {
		body, headers = auditContent(m.Body), auditContent(m.Headers)
	}
	return body, headers, err
}
