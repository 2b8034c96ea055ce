package weirtest

import (
	"context"
	"fmt"

	"github.com/weir-go/weir/store"
)

// busy says what will still happen by itself; empty when nothing will.
func (e *Engine) busy(ctx context.Context) (string, error) {
	r := e.tap.Store.Reader()
	what, err := busyQueue(ctx, r)
	if err != nil || what != "" {
		return what, err
	}
	return busyRun(ctx, r.Runs())
}

func busyQueue(ctx context.Context, r store.Reader) (string, error) {
	queues, err := r.Queues(ctx)
	if err != nil {
		return "", err
	}
	for i := range queues {
		q := &queues[i]
		if q.Depth == 0 || q.Paused != nil || q.Parked {
			continue
		}
		if q.Dead > 0 && q.Depth == q.Deferred {
			if waits, err := behindTheDead(ctx, r, q); waits || err != nil {
				if err != nil {
					return "", err
				}
				continue
			}
		}
		return fmt.Sprintf("%d of %s to be worked (%d in work, %d deferred)", q.Depth, q.Name, q.Leased, q.Deferred), nil
	}
	return "", nil
}

// behindTheDead says whether all that a queue holds waits behind dead messages.
func behindTheDead(ctx context.Context, r store.Reader, q *store.QueueState) (bool, error) {
	behind := int64(0)
	for before := store.Pos(0); ; {
		page, err := r.Messages(ctx, store.MessageQuery{Topic: q.Topic.Name, Before: before, Max: store.MaxList})
		if err != nil {
			return false, err
		}
		for i := range page {
			story, err := r.Message(ctx, page[i].ID)
			if err != nil {
				return false, err
			}
			for _, s := range story.Queues {
				if s.Queue == q.Name && s.State == "behind" {
					behind++
				}
			}
		}
		if len(page) < store.MaxList {
			return behind == q.Depth, nil
		}
		before = page[len(page)-1].Pos
	}
}

func busyRun(ctx context.Context, r store.RunReader) (string, error) {
	counts, err := r.Counts(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range counts {
		switch c.State {
		case store.RunReady, store.RunRunning:
			return fmt.Sprintf("%d of %s %s", c.Count, c.Workflow, c.State), nil
		case store.RunWaiting:
			if what, err := waitsForTime(ctx, r, c.Workflow); what != "" || err != nil {
				return what, err
			}
		}
	}
	return "", nil
}

// waitsForTime finds a run of a workflow that wakes by time.
func waitsForTime(ctx context.Context, r store.RunReader, workflow string) (string, error) {
	for before := store.RunNo(0); ; {
		page, err := r.List(ctx, store.RunQuery{Workflow: workflow, State: store.RunWaiting, Before: before, Max: store.MaxList})
		if err != nil {
			return "", err
		}
		for i := range page {
			if !page[i].Wake.IsZero() {
				return fmt.Sprintf("%s %s until %s (%s)", workflow, page[i].ID, page[i].Wake.UTC().Format("2006-01-02 15:04:05.000"), page[i].Reason), nil
			}
		}
		if len(page) < store.MaxList {
			return "", nil
		}
		before = page[len(page)-1].No
	}
}
