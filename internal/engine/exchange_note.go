package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// What notes are about. They may be lost, so each is repeated until what it asks for has come.
const (
	noteReceipt    = "receipt"    // the receiver's store has lanes up to places
	noteAnswer     = "answer"     // the same, since it was asked
	noteWish       = "wish"       // the same, and what follows is missing
	noteHeld       = "held"       // the same, and what follows finds no room: send less
	noteAsk        = "ask"        // how far do you have these lanes?
	noteSubscribe  = "subscribe"  // a boundary wants events
	noteSubscribed = "subscribed" // they will come
	noteHello      = "hello"      // who owns the boundary
)

// laneNote is one lane of a note.
type laneNote struct {
	Lane string `json:"lane"`
	Have string `json:"have,omitempty"` // its place; empty: nothing is known of the lane

	// Of a question: nothing is sent any more of batches before Next, for they are settled (unless Open: then some
	// may not be, but a receiver that knows nothing of the lane begins at Next or later all the same).
	Next    int64  `json:"next,omitempty"`
	Open    bool   `json:"open,omitempty"`
	Earlier string `json:"earlier,omitempty"` // lives of the sender's store that are over; see store.Info
}

// helloNote says who owns a boundary.
type helloNote struct {
	Instance    string    `json:"instance"`
	Incarnation string    `json:"incarnation"`
	Store       string    `json:"store"`
	Shared      bool      `json:"shared"` // several processes work the store
	Since       time.Time `json:"since"`
	Answer      bool      `json:"answer,omitempty"`
}

const (
	// helloPatience is how long others who own a boundary have to say so before its inlet is opened.
	helloPatience = 250 * time.Millisecond
	helloAgain    = 30 * time.Second
	asksMost      = 64 // questions kept for an inlet that is not open yet
	lanesOfNote   = 60 // so that a note stays below its bound, whatever the lanes are called
)

// notify sends a note with a body in JSON. Notes may be lost, so this one may be too: its error is for who tells people.
func (x *exchange) notify(ctx context.Context, from, to, kind string, body any) error {
	data, err := json.Marshal(body)
	if err == nil {
		err = x.transport().Notify(ctx, to, transport.Note{From: from, Kind: kind, Body: data})
	}
	if err != nil {
		x.l.log.Debug("a note was not sent", "kind", kind, "to", to, keyError, err)
	}
	return err
}

// notifyLanes sends notes about lanes, as many as it takes.
func (x *exchange) notifyLanes(ctx context.Context, from, to, kind string, lanes []laneNote) (err error) {
	for len(lanes) > 0 {
		n := min(len(lanes), lanesOfNote)
		err = errors.Join(err, x.notify(ctx, from, to, kind, lanes[:n]))
		lanes = lanes[n:]
	}
	return err
}

// ask asks a relay's receiver how far it has the lane.
func (x *exchange) ask(ctx context.Context, r *relay) {
	err := x.notifyLanes(ctx, r.lane.From, r.to, noteAsk, []laneNote{r.announcement()})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unasked = err
}

// listen opens an ear for each boundary that has none.
func (x *exchange) listen(ctx context.Context) {
	for _, boundary := range x.l.config.Owns {
		if x.ears[boundary] != nil { // written here only
			continue
		}
		stop, err := x.transport().Listen(ctx, boundary, func(n transport.Note) { x.hear(ctx, boundary, n) })
		if err != nil {
			x.l.log.Debug("notes are not heard yet", "boundary", boundary, keyError, err)
			return
		}
		x.mu.Lock()
		x.ears[boundary] = stop
		x.mu.Unlock()
	}
	if x.greeted.IsZero() || time.Since(x.greeted) >= helloAgain {
		first := x.greeted.IsZero()
		x.mu.Lock()
		x.greeted = time.Now()
		x.mu.Unlock()
		for _, boundary := range x.l.config.Owns {
			x.notify(ctx, boundary, boundary, noteHello, x.hello(false))
		}
		if first {
			time.AfterFunc(helloPatience, func() { signal(x.signal) })
		}
	}
}

func (x *exchange) stopListening() {
	x.mu.Lock()
	ears := x.ears
	x.ears = map[string]func(){}
	x.mu.Unlock()
	for _, stop := range ears {
		stop()
	}
}

func (x *exchange) hello(answer bool) helloNote {
	info := x.l.st.Info()
	return helloNote{
		Instance: x.l.instance, Incarnation: string(info.Incarnation), Store: info.Name,
		Shared: info.Lease > 0, Since: x.started, Answer: answer,
	}
}

// hear takes a note to one of our boundaries. It must be quick: others wait behind it.
func (x *exchange) hear(ctx context.Context, boundary string, n transport.Note) {
	switch n.Kind {
	case noteReceipt, noteAnswer, noteWish, noteHeld:
		x.hearLanes(n)
	case noteAsk:
		x.hearAsk(ctx, boundary, n)
	case noteHello:
		x.hearHello(ctx, boundary, n)
	case noteSubscribe:
		x.hearWish(boundary, n)
	case noteSubscribed:
		x.hearGranted(n)
	default:
		if f := x.l.noteEar(n.Kind); f != nil {
			f(boundary, n.From, n.Body)
		}
	}
}

// hearLanes passes a receiver's word on to the relays.
func (x *exchange) hearLanes(n transport.Note) {
	var lanes []laneNote
	if json.Unmarshal(n.Body, &lanes) != nil {
		return
	}
	why := map[string]news{noteReceipt: told, noteAnswer: asked, noteWish: wishes, noteHeld: holds}[n.Kind]
	for _, l := range lanes {
		var have transport.Position
		var err error
		if l.Have != "" {
			if have, err = transport.ParsePosition(l.Have); err != nil {
				continue
			}
		}
		x.mu.Lock()
		r := x.byLane[l.Lane]
		x.mu.Unlock()
		if r != nil && r.to == n.From {
			r.hear(word{have: store.Place(have), why: why})
		}
	}
}

// hearAsk has an inlet answer, at once or as soon as it is open.
func (x *exchange) hearAsk(ctx context.Context, boundary string, n transport.Note) {
	x.mu.Lock()
	in := x.inlets[boundary]
	ready := in != nil && in.ready
	if !ready && len(x.asks[boundary]) < asksMost {
		x.asks[boundary] = append(x.asks[boundary], n)
	}
	x.mu.Unlock()
	if ready {
		in.answer(ctx, n)
	}
}

// hearHello notices another store that owns the same boundary. The one that came later gives way, if it has just
// come; after that a person must.
func (x *exchange) hearHello(ctx context.Context, boundary string, n transport.Note) {
	var h helloNote
	if n.From != boundary || json.Unmarshal(n.Body, &h) != nil || h.Instance == x.l.instance {
		return
	}
	info := x.l.st.Info()
	same := h.Incarnation == string(info.Incarnation) || h.Store == info.Name
	if shared := info.Lease > 0 && h.Shared; shared && same {
		return
	}
	if !h.Answer {
		x.notify(ctx, boundary, boundary, noteHello, x.hello(true))
	}
	x.mu.Lock()
	later := h.Since.Before(x.started) || h.Since.Equal(x.started) && h.Instance < x.l.instance
	young := x.inlets[boundary] == nil
	told := x.strange[h.Instance]
	x.strange[h.Instance] = true
	x.mu.Unlock()
	if later && young {
		x.l.fail(fmt.Errorf("weir: boundary %s lives in another store already: %s, incarnation %s, worked since %s; "+
			"a boundary has one store: take it out of Config.Owns here, or stop the other", boundary, h.Store, h.Incarnation, h.Since.Format(time.RFC3339)))
		return
	}
	if !told {
		x.l.log.Error("two stores own one boundary, and each gets a part of what is sent to it: stop one of them",
			"boundary", boundary, "other store", h.Store, "incarnation", h.Incarnation)
	}
}

// newInstance names a life, so that it knows its own notes.
func newInstance() string { return rand.Text() }

// Hear has f called with the notes of a kind to our boundaries, from the start of Run on. f must not wait. Before Run.
func (e *Engine) Hear(kind string, f func(to, from string, body []byte)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hearers[kind] = f
}

func (e *Engine) noteEar(kind string) func(to, from string, body []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hearers[kind]
}

// Notify sends a note between boundaries. It may be lost, and is when there is no transport.
func (e *Engine) Notify(ctx context.Context, from, to, kind string, body []byte) error {
	if t := e.config.Exchange.Transport; t != nil {
		return t.Notify(ctx, to, transport.Note{From: from, Kind: kind, Body: body})
	}
	return nil
}
