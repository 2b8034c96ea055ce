package postgres

import (
	"cmp"
	"slices"

	"github.com/weir-go/weir/store/internal/acts"
)

// byID orders queues by their numbers.
func byID(queues []*seenQueue) []*seenQueue {
	return slices.SortedFunc(slices.Values(queues), func(a, b *seenQueue) int { return cmp.Compare(a.id, b.id) })
}

// auditDead writes the act's one row.
func (o operation) auditDead(plan settling) error {
	if o.act.ID == "" {
		first, err := o.t.nameAt(plan.letters[0].pos)
		if err != nil {
			return err
		}
		last, err := o.t.nameAt(plan.letters[len(plan.letters)-1].pos)
		if err != nil {
			return err
		}
		return o.audit(acts.SettledAll(o.act, first, last, len(plan.letters), plan.more))
	}
	var list []acts.Dead
	for _, l := range plan.letters {
		list = append(list, acts.Dead{Queue: plan.queues[l.queue].Name, Attempts: l.attempts, Reason: l.reason, Follows: l.follows})
	}
	var body, headers []byte
	if acts.Edits(o.act) {
		var err error
		if body, headers, err = o.contentNow(plan.letters[0].pos); err != nil {
			return err
		}
	}
	return o.audit(acts.Settled(o.act, list, body, headers))
}

// contentNow is the journal's body and headers of a message.
func (o operation) contentNow(pos int64) (body, headers []byte, err error) {
	w, err := newScribe(o.t)
	if err != nil {
		return nil, nil, err
	}
	found, err := w.read([]int64{pos}, true)
	if m := found[pos]; m != nil {
		body, headers = m.Body, m.Headers
	}
	return body, headers, err
}
