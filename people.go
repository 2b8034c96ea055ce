package weir

import (
	"context"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// What people ask for, in the store's words.
type (
	// MessageQuery narrows [Engine.Messages]: by topic, key, time, and the page before an ID.
	MessageQuery = store.MessageQuery
	// MessageStory is a message with what each of its queues did with it.
	MessageStory = store.MessageStory
	// MessageRow is a message as it was sent.
	MessageRow = store.Message
	// QueueStory is what one queue did with one message: its state, times, attempts.
	QueueStory = store.QueueStory
	// DeadQuery narrows [Engine.Dead]: by queue, a text in the reason, an ID, and the page after one.
	DeadQuery = store.DeadQuery
	// DeadLetter is a message that is not tried again by itself, with why.
	DeadLetter = store.DeadLetter
	// Process is a process that works the store, or did.
	Process = store.Process
	// AuditRow is an operator's act: who, when, on what, why, and what it changed.
	AuditRow = store.AuditRow
	// Finding is what [Engine.Check] found wrong, and what to do about it.
	Finding = store.Finding
	// Acted is how many an operator's act was about, and whether there are more.
	Acted = store.Acted
	// QueueFigures is a queue's state with its rates and times over a window.
	QueueFigures = engine.QueueFigures
	// Times are the quantiles of one duration.
	Times = engine.Times
)

// Queues lists all queues of the store by name, with their state and their figures
// over the last window (1 minute to 24 hours; 0: 5 minutes).
func (e *Engine) Queues(ctx context.Context, window time.Duration) ([]QueueFigures, error) {
	window = orDefault(window, 5*time.Minute)
	if err := within("Queues: window", window, time.Minute, 24*time.Hour); err != nil {
		return nil, err
	}
	return engine.ReadFigures(ctx, e.st.Reader(), window)
}

// Messages lists messages, newest first, without bodies, at most 1,000 a call.
func (e *Engine) Messages(ctx context.Context, q MessageQuery) ([]MessageRow, error) {
	return e.st.Reader().Messages(ctx, q)
}

// Message is one message with everything that happened to it, or [ErrNotFound].
func (e *Engine) Message(ctx context.Context, id string) (MessageStory, error) {
	return e.st.Reader().Message(ctx, id)
}

// Trace tells everything that happened to a business key, in order: its messages
// and all others of their conversations, max (at most 1,000) of them.
func (e *Engine) Trace(ctx context.Context, key string, max int) ([]MessageStory, error) {
	return e.st.Reader().Trace(ctx, key, max)
}

// Dead lists dead letters, oldest first; with an ID asked for, with body and attempts.
func (e *Engine) Dead(ctx context.Context, q DeadQuery) ([]DeadLetter, error) {
	return e.st.Reader().Dead(ctx, q)
}

// Processes lists the processes that worked the store, newest first.
func (e *Engine) Processes(ctx context.Context, max int) ([]Process, error) {
	return e.st.Reader().Processes(ctx, max)
}

// Audit lists operators' acts, newest first.
func (e *Engine) Audit(ctx context.Context, max int) ([]AuditRow, error) {
	return e.st.Reader().Audit(ctx, max)
}

// Check looks for what should not be, and says what to do about each finding.
func (e *Engine) Check(ctx context.Context) ([]Finding, error) { return e.st.Reader().Check(ctx) }

// StoreInfo describes the store.
func (e *Engine) StoreInfo() store.Info { return e.st.Info() }

// Because is who acts and why. Both are required and kept in the audit: at most 512 bytes, and 8 KiB; longer ones are refused.
type Because struct{ By, Why string }

// PauseQueue stops handing out a queue's messages, in all processes, until it is resumed.
func (e *Engine) PauseQueue(ctx context.Context, queue string, b Because) error {
	_, err := e.core.Operate(ctx, store.Act{Verb: store.PauseQueue, Queue: queue, By: b.By, Why: b.Why})
	return err
}

// ResumeQueue lets a paused or parked queue go on.
func (e *Engine) ResumeQueue(ctx context.Context, queue string, b Because) error {
	_, err := e.core.Operate(ctx, store.Act{Verb: store.ResumeQueue, Queue: queue, By: b.By, Why: b.Why})
	return err
}

// DeadSelection selects dead letters to act on: one by ID (and Queue, if several
// hold it), or all of Queue whose reason contains Matching, oldest first, at most
// 10,000 a call.
type DeadSelection struct {
	Queue, ID, Matching string
	DryRun              bool // only count
}

func (s DeadSelection) act(v store.Verb, b Because) store.Act {
	return store.Act{Verb: v, Queue: s.Queue, ID: s.ID, Matching: s.Matching, DryRun: s.DryRun, By: b.By, Why: b.Why}
}

// RetryDead delivers dead letters again, with all their attempts before them.
func (e *Engine) RetryDead(ctx context.Context, s DeadSelection, b Because) (Acted, error) {
	return e.core.Operate(ctx, s.act(store.RetryDead, b))
}

// EditDead delivers the dead letter with s.ID again with another body, for that
// queue only; the journal keeps what was sent. The body is the codec's bytes: JSON by default.
func (e *Engine) EditDead(ctx context.Context, s DeadSelection, body []byte, b Because) (Acted, error) {
	if err := within("EditDead: bytes of the body", len(body), 1, e.config.MaxBody); err != nil {
		return Acted{}, err
	}
	a := s.act(store.RetryDead, b)
	a.Body = body
	return e.core.Operate(ctx, a)
}

// DiscardDead drops dead letters for good; the journal and the audit remember them.
func (e *Engine) DiscardDead(ctx context.Context, s DeadSelection, b Because) (Acted, error) {
	return e.core.Operate(ctx, s.act(store.DiscardDead, b))
}
