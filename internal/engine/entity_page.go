package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

// What a follower and an owner say to each other about states, as a request and its reply. A reply is
// a line of JSON with the states' bodies behind it as they are: a codec's bytes may be anything.

// statesOf is the request's topic, and pagesOf the reply's.
func statesOf(entity string) store.Topic {
	return store.Topic{Name: entity + ".states", Kind: store.KindCommand}
}

func pagesOf(entity string) store.Topic {
	return store.Topic{Name: entity + ".states.reply", Kind: store.KindReply}
}

const (
	pageStates = 500       // states in a page, and keys in an ask
	pageBytes  = 256 << 10 // of bodies in a page that has more than one state
)

// ask is what a follower asks: a page of a snapshot, or for single states.
type ask struct {
	// Snapshot names the one that the page is of; empty: only what Check says.
	Snapshot string `json:"snapshot,omitempty"`
	After    string `json:"after,omitempty"` // keys above it
	Begun    *begun `json:"begun,omitempty"` // nil: the first page
	// By is the boundary that follows: the first page waits for its subscription.
	By string `json:"by,omitempty"`
	// Check asks for single states, each with the version that the follower has of it.
	Check []checked `json:"check,omitempty"`
}

// begun is what the owner said of its store with a snapshot's first page.
type begun struct {
	// Newest: versions up to it were given before the page was read.
	Newest      int64             `json:"newest"`
	Incarnation store.Incarnation `json:"incarnation"`
}

// checked is a key and the version that the follower has; 0: none.
type checked struct {
	Key     string `json:"key"`
	Version int64  `json:"version,omitempty"`
	// AsOf is when that was made, in microseconds since 1970; 0: not said. A restored store that nobody told of it
	// gives out versions again that it has forgotten.
	AsOf int64 `json:"as-of,omitempty"`
}

// page is the owner's answer.
type page struct {
	Snapshot string `json:"snapshot,omitempty"`
	After    string `json:"after,omitempty"`
	Begun    begun  `json:"begun"`
	// Incarnation is the owner's now, which may have begun a new life since Begun.
	Incarnation store.Incarnation `json:"incarnation"`
	States      []paged           `json:"states,omitempty"`
	// Missing are those asked for of which the owner knows nothing.
	Missing []checked `json:"missing,omitempty"`
	// More: there are keys above the last state's. Else the page tells of all above After.
	More bool `json:"more,omitempty"`
}

// paged is a state without its body.
type paged struct {
	Key      string    `json:"key"`
	Version  int64     `json:"version"`
	Contract int       `json:"contract"`
	AsOf     time.Time `json:"as-of"`
	Deleted  bool      `json:"deleted,omitempty"`
	Bytes    int       `json:"bytes,omitempty"` // of its body
}

// encode gives the reply's body.
func (p *page) encode(states []store.State) ([]byte, error) {
	size := 0
	for i := range states {
		s := &states[i]
		p.States = append(p.States, paged{s.Key, s.Version, s.Contract, s.AsOf.UTC(), s.Deleted, len(s.Body)})
		size += len(s.Body)
	}
	head, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(head)+1+size)
	b = append(append(b, head...), '\n')
	for i := range states {
		b = append(b, states[i].Body...)
	}
	return b, nil
}

// decodePage reads what encode wrote; the states' bodies are parts of data.
func decodePage(entity string, data []byte) (p page, states []store.State, err error) {
	head, bodies, _ := bytes.Cut(data, []byte{'\n'})
	if err := json.Unmarshal(head, &p); err != nil {
		return p, nil, fmt.Errorf("a page of %s: %w", entity, err)
	}
	if len(p.States) > store.MaxStates || len(p.States)+len(p.Missing) > store.MaxStates {
		return p, nil, fmt.Errorf("a page of %s has %d states, want at most %d", entity, len(p.States)+len(p.Missing), store.MaxStates)
	}
	states = make([]store.State, len(p.States))
	for i, s := range p.States {
		if s.Bytes < 0 || s.Bytes > len(bodies) || s.Key == "" || s.Version <= 0 {
			return p, nil, fmt.Errorf("a page of %s: state %d of %d is not well-formed", entity, i+1, len(p.States))
		}
		states[i] = store.State{Entity: entity, Key: s.Key, Version: s.Version, Contract: s.Contract, AsOf: s.AsOf, Deleted: s.Deleted}
		if s.Bytes > 0 {
			states[i].Body = bodies[:s.Bytes:s.Bytes]
		}
		bodies = bodies[s.Bytes:]
	}
	if len(bodies) > 0 {
		return p, nil, fmt.Errorf("a page of %s has %d bytes that belong to no state", entity, len(bodies))
	}
	return p, states, nil
}

// pageful is how many of the states, from the first, go into one page: at least one.
func pageful(states []store.State) int {
	size := 0
	for i := range states {
		size += len(states[i].Body)
		if i > 0 && size > pageBytes || i == pageStates {
			return i
		}
	}
	return len(states)
}
