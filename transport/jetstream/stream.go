package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
)

const (
	consumerName  = "inbox"
	maxAckPending = 10_000 // packets in receivers' hands
)

// streamConfig is the stream of a boundary's inlet as we want it.
func (t *Transport) streamConfig(boundary string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamOf(boundary), Description: "what waits for boundary " + boundary,
		Subjects:  []string{"weir." + boundary + ".in.>"},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: t.config.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: t.config.Capacity, MaxBytes: t.config.CapacityBytes,
		AllowAtomicPublish: true,
	}
}

func (t *Transport) consumerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: t.config.Redeliver, MaxDeliver: -1, MaxAckPending: maxAckPending,
	}
}

// establish makes the boundary's stream and consumer, or finds them as they should be. What is merely
// of another size is changed; what would lose packets is an error that a person must mend. leader is the
// consumer's, in a cluster.
func (t *Transport) establish(ctx context.Context, boundary string) (leader string, err error) {
	if err := t.connected(); err != nil {
		return "", err
	}
	if v := t.nc.ConnectedServerVersion(); !atLeast(v, 2, 12) {
		return "", fmt.Errorf("transport/jetstream: the server is NATS %s, want 2.12 or later: it writes several messages as one", v)
	}
	ctx, cancel := t.asking(ctx)
	defer cancel()
	want := t.streamConfig(boundary)
	s, err := t.js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if _, err := t.js.CreateStream(ctx, want); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return "", fmt.Errorf("make stream %s: %w", want.Name, t.mendable(want.Name, err))
		}
		t.config.Log.InfoContext(ctx, "boundary's stream made", "stream", want.Name, "capacity", want.MaxMsgs, "capacity_bytes", want.MaxBytes, "replicas", want.Replicas)
	case err != nil:
		return "", fmt.Errorf("look at stream %s: %w", want.Name, err)
	default:
		have := s.CachedInfo().Config
		if faults := faultsOf(have); len(faults) > 0 {
			return "", &StreamError{Stream: want.Name, Faults: faults}
		}
		if have.MaxMsgs != want.MaxMsgs || have.MaxBytes != want.MaxBytes || have.Replicas != want.Replicas || !have.AllowAtomicPublish {
			have.MaxMsgs, have.MaxBytes, have.Replicas, have.AllowAtomicPublish = want.MaxMsgs, want.MaxBytes, want.Replicas, true
			if _, err := t.js.UpdateStream(ctx, have); err != nil {
				return "", fmt.Errorf("change stream %s: %w", want.Name, t.mendable(want.Name, err))
			}
		}
	}
	c, err := t.js.CreateOrUpdateConsumer(ctx, want.Name, t.consumerConfig())
	if err != nil {
		return "", fmt.Errorf("make consumer of stream %s: %w", want.Name, t.otherConsumer(ctx, want.Name, err))
	}
	return leaderOf(c.CachedInfo()), nil
}

// otherConsumer says what to do where there is a consumer of our name that cannot be made as it should be.
func (t *Transport) otherConsumer(ctx context.Context, stream string, err error) error {
	if _, ok := errors.AsType[*jetstream.APIError](err); !ok {
		return err
	}
	if _, look := t.js.Consumer(ctx, stream, consumerName); look == nil || errors.Is(look, jetstream.ErrNotPullConsumer) {
		return mendError{fmt.Errorf("%w: its consumer %s was made otherwise by somebody: delete it, it is made again, and what waits is read from the first on", err, consumerName)}
	}
	return err
}

// leaderOf is the broker that leads a consumer; empty where there is none, or it is alone.
func leaderOf(info *jetstream.ConsumerInfo) string {
	if info == nil || info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// StreamError refuses a stream that would lose packets. It was not made by weir, or somebody changed it.
type StreamError struct {
	Stream string
	Faults []string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("transport/jetstream: stream %s would lose messages: %s; change it, or, when it is empty, delete it: it is made again",
		e.Stream, strings.Join(e.Faults, "; "))
}

// Is makes it a transport.ErrNeedsPerson.
func (e *StreamError) Is(target error) bool { return target == transport.ErrNeedsPerson }

// biggest is what a message may need: a packet with its headers.
const biggest = 2 << 20

// faultsOf says what of a stream's settings loses packets.
func faultsOf(c jetstream.StreamConfig) []string {
	var faults []string
	fault := func(is bool, what string) {
		if is {
			faults = append(faults, what)
		}
	}
	fault(c.PersistMode == jetstream.AsyncPersistMode, "persist_mode is async, which says it has what it has not written, want default")
	fault(c.Storage != jetstream.FileStorage, "storage is memory, want file")
	fault(c.Discard != jetstream.DiscardNew, "discard is old, which drops what waits, want new")
	fault(c.Retention != jetstream.LimitsPolicy, "retention is "+c.Retention.String()+", want Limits")
	fault(c.DenyPurge, "deny_purge is set, so that nothing makes room")
	fault(c.MaxAge > 0, "max_age is "+c.MaxAge.String()+", want none")
	fault(c.MaxMsgsPerSubject > 0, "max_msgs_per_subject is "+strconv.FormatInt(c.MaxMsgsPerSubject, 10)+", want none")
	fault(c.NoAck, "no_ack is set")
	fault(c.MaxMsgSize > 0 && c.MaxMsgSize < biggest, "max_msg_size is "+strconv.Itoa(int(c.MaxMsgSize))+", which makes bigger messages dead letters at their senders, want none")
	subject := "weir." + strings.TrimPrefix(c.Name, streamOf("")) + ".in.>"
	fault(!slices.Contains(c.Subjects, subject), "its subjects are "+strings.Join(c.Subjects, " ")+", want "+subject)
	return faults
}

// atLeast says whether a version is as new; what is no version is taken to be.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return true
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 != nil || err2 != nil || slices.Compare([]int{a, b}, []int{major, minor}) >= 0
}

// established puts what went wrong in establish into the port's words; a StreamError stays as it is.
func (t *Transport) established(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, transport.ErrUnavailable) {
		return err
	}
	if e, ok := errors.AsType[*StreamError](err); ok {
		return e
	}
	return t.outcome(ctx, err)
}
