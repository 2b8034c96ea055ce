package weir

import (
	"context"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Tx is a transaction of the user's database. An adapter makes and unwraps it: sqlite.Tx and
// sqlite.SQL; postgres.Tx, postgres.SQLTx, postgres.Pgx and postgres.SQL.
type Tx = store.Tx

// Message is a message in a handler's hand. As a [Sender] it sends together with
// the handler's acknowledgement, at most 10,000 messages. It belongs to the handler's goroutine; once
// the handler has returned, or was written off, sends through it are refused.
type Message[T any] struct {
	ID          string // unique over all stores
	Name        string // the contract's
	Key         string
	Cause       string // the ID of the message whose handler sent this one; empty for a root
	Correlation string // the ID of the conversation's root; the message's own for a root
	Attempt     int    // 1 for the first
	SentAt      time.Time
	Headers     map[string]string
	Body        T

	attempt *engine.Attempt
	eng     *Engine
}

// OnCommit adds f to the transaction of the acknowledgement: the rows it writes
// commit with it, and with the messages sent, or not at all. f runs after the
// handler has returned nil, may run again, has 5 seconds, and acts only through
// tx. An error fails the attempt like the handler's own. Several run in their order. By then what is
// sent, and a reply, are made: f sends nothing (an error says so), and what it reads cannot be in them.
func (m *Message[T]) OnCommit(f func(ctx context.Context, tx Tx) error) {
	m.attempt.OnCommit(f)
}

func (m *Message[T]) send(_ context.Context, o *outgoing) error {
	return m.attempt.Send(o.messages, o.states)
}

func (m *Message[T]) engine() *Engine { return m.eng }
