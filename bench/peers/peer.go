package main

import (
	"context"
	"encoding/json"
	"strings"
)

// body is 200 bytes of JSON, as a small order line is. Every handler gets it decoded.
type body struct {
	ID    int64  `json:"id"`
	Table string `json:"table"`
	Item  string `json:"item"`
	Price int64  `json:"price_cents"`
	Note  string `json:"note"`
}

// firstID makes all IDs of a run take seven digits, so that bodies have one size.
const firstID = 1_000_000

func newBody(id int64) body {
	return body{ID: id, Table: "terrace-12", Item: "Korean Beef Bowl", Price: 1795, Note: strings.Repeat("no onions, please; ", 6)[:110]}
}

func bodyBytes() int {
	b, err := json.Marshal(newBody(firstID))
	if err != nil {
		panic(err) // strings and numbers
	}
	return len(b)
}

// peer is a library that is measured, weir among them.
type peer struct {
	name    string
	against string // the weir that it is compared with; empty for weir itself
	// variants are the settings of which the best is taken, for each figure of its own.
	variants []string
	// only are the phases that mean something for it; nil: all.
	only []string
	// batch is the most messages that one call sends; 1: it has no batches.
	batch int
	// queue opens an empty queue; nil: it has none.
	queue func(ctx context.Context, variant int) (queue, error)
	// flow opens an empty store of workflows; nil: it has none.
	flow func(ctx context.Context) (flow, error)
}

// queue is a queue on an empty store of its own.
type queue interface {
	// send sends n messages whose IDs begin with first, at most a batch, and returns when they are durable.
	send(ctx context.Context, first int64, n int) error
	// work begins to hand messages to handled, which may be called by many. stop ends it, when what was
	// handled is durable.
	work(ctx context.Context, handled func(id int64)) (stop func() error, err error)
	// close removes the store.
	close() error
}

// flow is a store of workflows that are worked.
type flow interface {
	// run starts a run of three steps that do nothing, given a body, and waits for its result.
	run(ctx context.Context, id int64) error
	close() error
}
