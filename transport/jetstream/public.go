package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
)

// duplicatesFor is for how long the stream of events knows what it has had: twice the longest time until a
// relay, not having heard of it, sends the same again.
const duplicatesFor = 2 * time.Minute

// sendPublic publishes packets for programs that know nothing of weir. Here a Nats-Msg-Id is right: nobody takes a
// message out of this stream, and the relay sends one again only when it has not heard of it.
func (t *Transport) sendPublic(ctx context.Context, packets []transport.Packet) (int, error) {
	if len(packets) == 0 {
		return 0, t.ready(ctx, "x") // some boundary
	}
	if len(packets) > transport.MaxSend {
		return 0, fmt.Errorf("%w: %d packets in one Send, at most %d", transport.ErrTooBig, len(packets), transport.MaxSend)
	}
	for kept := 0; kept < len(packets); {
		from := packets[kept].Lane.From
		if err := t.ready(ctx, from); err != nil {
			return kept, err
		}
		if err := t.announce(ctx, from); err != nil {
			return kept, fmt.Errorf("publish events of %s: %w", from, err)
		}
		same := kept
		for same < len(packets) && packets[same].Lane.From == from {
			same++
		}
		msgs, bad := t.pack(transport.Everybody, packets[kept:same])
		n, err := t.publishPublic(ctx, msgs)
		kept += n
		if err == nil {
			err = bad
		}
		if err != nil {
			return kept, fmt.Errorf("publish events of %s: %w", from, err)
		}
	}
	return len(packets), nil
}

// publishPublic writes messages and says how many, from the first, the stream has.
func (t *Transport) publishPublic(ctx context.Context, msgs []*nats.Msg) (int, error) {
	if len(msgs) == 0 {
		return 0, nil
	}
	err := t.publish(ctx, msgs)
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == codeBatchTwice && len(msgs) > 1 {
		// Some are there already: one by one the server says so and is content.
		for i := range msgs {
			if err := t.publish(ctx, msgs[i:i+1]); err != nil {
				return i, t.outcome(ctx, err)
			}
		}
		return len(msgs), nil
	}
	if err != nil {
		return 0, t.outcome(ctx, err)
	}
	return len(msgs), nil
}

// announce makes the stream of a boundary's events, once on each connection.
func (t *Transport) announce(ctx context.Context, boundary string) error {
	if err := t.connected(); err != nil {
		return err
	}
	t.mu.Lock()
	known := t.public[boundary]
	t.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := t.asking(ctx)
	defer cancel()
	_, err := t.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: eventsOf(boundary), Description: "events of boundary " + boundary + " for everybody",
		Subjects:  []string{"weir." + boundary + ".events.>"},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: t.config.Replicas,
		Discard: jetstream.DiscardOld, MaxAge: t.config.EventsAge, MaxBytes: t.config.EventsBytes,
		Duplicates: duplicatesFor, AllowAtomicPublish: true,
	})
	if err != nil {
		return t.outcome(ctx, t.mendable(eventsOf(boundary), err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.public[boundary] = true
	return nil
}
