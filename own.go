package weir

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Owned is the owner's side of an entity: through it, and only so, its entities change. It may be used
// concurrently.
type Owned[T any] struct {
	contract contract[T]
	eng      *Engine
	idsOnly  bool
}

// OwnOption is an option of [Own]: [IDsOnly].
type OwnOption interface{ applyOwn(*owning) }

type owning struct{ idsOnly bool }

// IDsOnly makes events carry the id and the version only: followers fetch the value from the owner. For
// large values that change often, of which a follower wants the newest only: while it fetches, further
// events of that id are met by the same answer. What values cost on the wire is then paid by who follows, and
// each change costs a question and an answer.
const IDsOnly ownOption = 1

type ownOption int

func (o ownOption) applyOwn(to *owning) { to.idsOnly = true }

// Own makes this engine the owner of an entity, which must belong to one of its boundaries
// ([Config].Owns). Call it before [Engine.Run], which reports what is wrong with it; once for each entity.
//
// Each change makes a new version and publishes the whole of it, in the transaction of whoever makes the
// change. A store that owns a boundary which another one owns too is noticed when both are connected.
func Own[T any](e *Engine, c Entity[T], o ...OwnOption) *Owned[T] {
	var opts owning
	for _, opt := range o {
		opt.applyOwn(&opts)
	}
	name := c.topic.Name
	err := c.err
	if !e.owns[ownerOf(name)] && !e.core.Detached() {
		err = errors.Join(err, fmt.Errorf("weir: %s is owned here, but Config.Owns has no %q", name, ownerOf(name)))
	}
	c.err = err
	e.core.Own(name, e.config.Transport != nil, err)
	return &Owned[T]{c.contract, e, opts.idsOnly}
}

// Put makes v the newest version of the entity with an id, whether there was one or not. It is durable when
// Put returns nil, or commits with s's transaction, together with the event that tells of it. s is
// this engine, a handler's [Message], a [Run], or a caller's transaction on this engine ([Engine.In]). In a [Run] it is done
// once, whatever is replayed.
//
// An id is 1 to 512 bytes of UTF-8. If the entity is [KeyedBy] it is in the value: id may then be empty, and must not
// be another one. An encoded value has at most 512 KiB, or Config.MaxBody if that is less.
//
// Where somebody has written a higher version into the store than it has ever given, an error says that v was not taken;
// in a handler or a run the log does.
func (o *Owned[T]) Put(ctx context.Context, s Sender, id string, v T) error {
	return o.PutAll(ctx, s, map[string]T{id: v})
}

// PutAll puts many, at most 1,000, in one commit: all or none. Among them there is no order.
func (o *Owned[T]) PutAll(ctx context.Context, s Sender, values map[string]T) error {
	ch, err := o.changes(s, len(values))
	if err != nil {
		return err
	}
	for id, v := range values {
		if id, err = o.idOf(id, v); err != nil {
			return err
		}
		body, err := s.engine().config.Codec.Marshal(v)
		if err != nil {
			return fmt.Errorf("weir: put %s %q: encode: %w", o.contract.topic.Name, id, err)
		}
		if most := min(o.eng.config.MaxBody, maxState); len(body) > most {
			return fmt.Errorf("weir: put %s %q: %d bytes encoded, want at most %d: keep large things elsewhere and put their address", o.contract.topic.Name, id, len(body), most)
		}
		ch.add(id, body, false, o.idsOnly)
	}
	return s.send(ctx, &ch.outgoing)
}

// maxState leaves a page that tells of one state below what any wire takes.
const maxState = 512 << 10

// Delete makes a tombstone the newest version of the entity with an id, whether there was one or not. Followers
// learn that it was deleted, and when. A later [Owned.Put] makes it anew, with a higher version.
func (o *Owned[T]) Delete(ctx context.Context, s Sender, id string) error {
	ch, err := o.changes(s, 1)
	if err != nil {
		return err
	}
	if err := checkID(o.contract.topic.Name, id); err != nil {
		return err
	}
	ch.add(id, nil, true, false)
	return s.send(ctx, &ch.outgoing)
}

// Get is the newest committed version, read from the store. A [*NoEntryError] if there is none.
func (o *Owned[T]) Get(ctx context.Context, id string) (Entry[T], error) {
	name := o.contract.topic.Name
	s, err := o.eng.st.Reader().Exchange().State(ctx, name, id)
	if errors.Is(err, store.ErrNotFound) {
		return Entry[T]{}, &NoEntryError{Entity: name, ID: id}
	}
	if err != nil {
		return Entry[T]{}, err
	}
	if s.Deleted {
		return Entry[T]{}, &NoEntryError{Entity: name, ID: id, Deleted: true, Version: s.Version, AsOf: s.AsOf}
	}
	e := Entry[T]{Version: s.Version, AsOf: s.AsOf}
	if err := o.contract.decode(o.eng.config.Codec, s.Contract, s.Body, &e.Value); err != nil {
		return e, fmt.Errorf("weir: %s %q: %w", name, id, err)
	}
	return e, nil
}

// stateChanges are events of an entity and the states that they tell of: states[i] of messages[i].
type stateChanges struct {
	outgoing
	topic    store.Topic
	contract int
}

// changes begins n changes that s is to send.
func (o *Owned[T]) changes(s Sender, n int) (*stateChanges, error) {
	name := o.contract.topic.Name
	switch {
	case o.contract.err != nil:
		return nil, o.contract.err
	case s == nil || s.engine() != o.eng && !s.engine().core.Detached():
		return nil, fmt.Errorf("weir: put %s: the sender is of another engine than its owner", name)
	case n > store.MaxStates:
		return nil, fmt.Errorf("weir: put %s: %d in one call, want at most %d", name, n, store.MaxStates)
	}
	return &stateChanges{topic: o.contract.topic, contract: o.contract.version}, nil
}

// add adds a change.
func (c *stateChanges) add(id string, body []byte, deleted, idOnly bool) {
	m := &store.Message{
		Topic: c.topic.Name, Kind: c.topic.Kind, Version: c.contract, Key: id,
		Headers: engine.EntityHeaders(deleted, idOnly), Body: body,
	}
	if idOnly {
		m.Body = nil
	}
	c.messages = append(c.messages, m)
	c.states = append(c.states, store.State{
		Entity: c.topic.Name, Key: id, Of: m, Contract: c.contract, Deleted: deleted, Body: body,
	})
}

// idOf is the id of a value, as it is given or as it is in it.
func (o *Owned[T]) idOf(id string, v T) (string, error) {
	if o.contract.keyOf != nil {
		in := o.contract.keyOf(v)
		if id != "" && id != in {
			return "", fmt.Errorf("weir: put %s %q: its value has the id %q", o.contract.topic.Name, id, in)
		}
		id = in
	}
	return id, checkID(o.contract.topic.Name, id)
}

func checkID(entity, id string) error {
	if id == "" || len(id) > maxKey || !utf8.ValidString(id) {
		return fmt.Errorf("weir: %s %q: an id is 1 to %d bytes of UTF-8", entity, id, maxKey)
	}
	return nil
}
