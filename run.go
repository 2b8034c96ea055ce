package weir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Run is a run in its function's hand. It belongs to one goroutine: parallel work is
// for [All], and a step gets a context. As a [Sender] it sends once, whatever is replayed.
type Run struct {
	strand *engine.Strand
	flow   *flow
}

// ID is the run's ID, as it was given to [Start].
func (r *Run) ID() string { return r.strand.ID() }

// Now is the time when the last step that gave something was done, or the run's
// start: the same in a replay.
func (r *Run) Now() time.Time { return r.strand.Now() }

// Headers are those that the run was started with.
func (r *Run) Headers() map[string]string {
	h, err := decodeHeaders(r.strand.Run().Headers)
	if err != nil {
		r.strand.Park(err.Error())
	}
	return h
}

// Context is for sends through the run: weir.Send(r.Context(), r, …). It is never done. A send through the
// engine with it is refused with [ErrInHandler]: each replay would send again.
func (r *Run) Context() context.Context { return engine.InRun() }

func (r *Run) engine() *Engine { return r.flow.eng }

func (r *Run) send(ctx context.Context, o *outgoing) error {
	if ours, err := r.strand.Leaves(ctx, o.messages, o.states); ours {
		return err
	}
	c := r.call(store.KindSend, "send "+o.messages[0].Topic)
	if len(o.messages) == 1 {
		c.Key = o.messages[0].Key // so that sends of other keys may come between in another program
	}
	return r.strand.Send(c, o.messages, o.states)
}

func (r *Run) start(ctx context.Context, start *store.RunStart) error {
	if ours, err := r.strand.Leaves(ctx, nil, nil, start); ours {
		return err
	}
	c := r.call(store.KindSend, "start "+start.Workflow)
	c.Key = start.ID // which may have what a name may not
	return r.strand.StartRun(c, start)
}

// call begins the engine's form of a call, with the workflow's defaults.
func (r *Run) call(kind store.StepKind, name string) *engine.Call {
	return &engine.Call{Kind: kind, Name: name, Retry: r.flow.retry.core(), Timeout: r.flow.timeout}
}

// recorded decodes what a step is recorded to have given. What does not fit is for a person:
// guessing could do anything.
func recorded[T any](r *Run, c *engine.Call, data []byte) T {
	var v T
	if _, none := any(v).(None); none {
		return v
	}
	if err := decodeStrictly(r.flow.eng.config.Codec, data, &v); err != nil {
		r.strand.Park(fmt.Sprintf("step %s: its recorded result does not fit %T, which its code wants now: give the step another name, mend the type and retry, or settle it with a value that fits\n%v", c.Name, v, err)) // see undecodable
	}
	return v
}

// StrictCodec is a [Codec] that can refuse what a type would not keep. [JSON] is one. With
// another a recorded result that has a field which its type lacks is not noticed.
type StrictCodec interface {
	Codec
	// UnmarshalStrict is Unmarshal that refuses what v has no place for.
	UnmarshalStrict(data []byte, v any) error
}

func decodeStrictly(c Codec, data []byte, v any) error {
	if strict, ok := c.(StrictCodec); ok {
		return strict.UnmarshalStrict(data, v)
	}
	return c.Unmarshal(data, v)
}

// UnmarshalStrict implements StrictCodec: a field that v lacks is refused.
func (JSON) UnmarshalStrict(data []byte, v any) error {
	if jsonv2.Unmarshal(data, v, jsonv1.DefaultOptionsV1(), jsonv2.RejectUnknownMembers(true)) == nil {
		return nil
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
		p.Elem().SetZero() // of what the first try has left
	}
	return strictly(data, v)
}

// strictly lets encoding/json decide, as Unmarshal does.
func strictly(data []byte, v any) error {
	d := json.NewDecoder(newBytes(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}
