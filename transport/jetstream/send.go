package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
)

const (
	batchMessages = 500     // of the 1,000 that a server takes
	batchBytes    = 4 << 20 // it stages them in memory and on disk
	tries         = 5       // of what another sender, or a change of leaders, was in the way of
	triesPause    = 20 * time.Millisecond
)

// Send implements transport.Transport.
func (t *Transport) Send(ctx context.Context, to string, packets []transport.Packet) (int, error) {
	if to == transport.Everybody {
		return t.sendPublic(ctx, packets)
	}
	if err := t.ready(ctx, to); err != nil {
		return 0, err
	}
	if len(packets) > transport.MaxSend {
		return 0, fmt.Errorf("%w: %d packets in one Send, at most %d", transport.ErrTooBig, len(packets), transport.MaxSend)
	}
	for kept := 0; kept < len(packets); {
		if err := t.connected(); err != nil {
			return kept, fmt.Errorf("send to %s: %w", to, err)
		}
		msgs, bad := t.pack(to, packets[kept:])
		n, err := t.commitInTurn(ctx, to, msgs)
		kept += n
		switch {
		case err != nil && ctx.Err() != nil:
			return kept, ctx.Err()
		case err != nil:
			return kept, fmt.Errorf("send to %s: %w", to, err)
		case bad != nil:
			return kept, fmt.Errorf("send %s to %s: %w", packets[kept].ID, to, bad)
		}
	}
	return len(packets), nil
}

// pack encodes what goes into one batch: up to the first packet that does not fit, or with which something is wrong.
func (t *Transport) pack(to string, packets []transport.Packet) ([]*nats.Msg, error) {
	packets = packets[:min(len(packets), batchMessages)]
	msgs := make([]*nats.Msg, 0, len(packets))
	bytes := 0
	for i := range packets {
		p := &packets[i]
		h, err := p.Encode()
		if err != nil {
			return msgs, err
		}
		m := &nats.Msg{Subject: subjectOf(to, p), Header: nats.Header(h), Data: p.Body}
		switch {
		case to == transport.Everybody:
			if err := p.CheckPublic(); err != nil {
				return msgs, err
			}
			h[jetstream.MsgIDHeader] = []string{p.Lane.String() + "/" + p.Position.String()}
		case p.Lane != transport.Lane{}:
			h[jetstream.ExpectedLastSubjSeqHeader] = []string{"0"}
		}
		const more = 200 // headers of the batch
		if size := int64(m.Size() + more); size > t.nc.MaxPayload() {
			return msgs, fmt.Errorf("%w: it is %d bytes with its headers, at most %d for this server", transport.ErrTooBig, size, t.nc.MaxPayload())
		}
		if bytes += m.Size(); bytes > batchBytes && i > 0 {
			break
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// commitInTurn commits once others have made room.
func (t *Transport) commitInTurn(ctx context.Context, to string, msgs []*nats.Msg) (int, error) {
	if len(msgs) == 0 {
		return 0, nil
	}
	select {
	case t.commits <- struct{}{}:
		defer func() { <-t.commits }()
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-t.done:
		return 0, transport.ErrClosed
	}
	if t.tight(to) && len(msgs) > 1 {
		return t.squeeze(ctx, to, msgs)
	}
	return t.commit(ctx, to, msgs)
}

// commit writes messages and says how many, from the first, the stream has.
func (t *Transport) commit(ctx context.Context, to string, msgs []*nats.Msg) (int, error) {
	var err error
	for try := range tries {
		if try > 0 {
			t.pause(ctx, time.Duration(try)*triesPause)
		}
		if err = t.publish(ctx, msgs); err == nil {
			t.setTight(to, false)
			return len(msgs), nil
		}
		api, _ := errors.AsType[*jetstream.APIError](err)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return 0, t.unheard(ctx, to)
		case api == nil:
			return 0, t.outcome(ctx, err)
		case full(api) && len(msgs) > 1:
			t.setTight(to, true)
			return t.squeeze(ctx, to, msgs)
		case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence, api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			missing, lookErr := t.missing(ctx, to, msgs)
			if lookErr != nil {
				return 0, t.outcome(ctx, lookErr)
			}
			if len(missing) < len(msgs) {
				return t.fill(ctx, to, msgs, missing)
			}
			// It was taken between the publish and the look, or is being written by another.
		case api.ErrorCode == codeBatchCut, api.ErrorCode == codeBatchesMany:
			// A change of leaders lost a part of it; others have too many under way.
		default:
			return 0, t.outcome(ctx, err)
		}
	}
	return 0, t.outcome(ctx, err)
}

// squeeze commits as many messages as there is room for. A batch that has none was still carried to the server
// and staged there, so while a stream is full we ask first.
func (t *Transport) squeeze(ctx context.Context, to string, msgs []*nats.Msg) (int, error) {
	look, cancel := t.asking(ctx)
	defer cancel()
	s, err := t.js.Stream(look, streamOf(to))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, transport.ErrUnknown
	}
	if err != nil {
		return 0, t.outcome(ctx, err)
	}
	info := s.CachedInfo()
	room := info.Config.MaxMsgs - int64(info.State.Msgs)
	if info.Config.MaxMsgs <= 0 || room >= int64(len(msgs)) {
		if info.Config.MaxBytes > 0 && info.Config.MaxBytes-int64(info.State.Bytes) < int64(msgs[0].Size()) {
			t.setTight(to, true)
			return 0, transport.ErrFull
		}
		return t.halve(ctx, to, msgs) // its bytes are what is full, or were
	}
	// Some may be there already, and need no room.
	missing, err := t.missing(ctx, to, msgs)
	if err != nil {
		return 0, t.outcome(ctx, err)
	}
	fit := missing[:min(len(missing), int(max(room, 0)))]
	kept, err := t.fill(ctx, to, msgs, fit)
	if err == nil && len(fit) < len(missing) {
		t.setTight(to, true)
		kept, err = missing[len(fit)], transport.ErrFull
	}
	return kept, err
}

// halve finds out how many of a batch there is room for by trying.
func (t *Transport) halve(ctx context.Context, to string, msgs []*nats.Msg) (int, error) {
	half := len(msgs) / 2
	kept, err := t.commit(ctx, to, msgs[:half])
	if err != nil {
		return kept, err
	}
	more, err := t.commit(ctx, to, msgs[half:])
	return kept + more, err
}

// tight says whether the boundary's stream was full when we last wrote to it.
func (t *Transport) tight(to string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full[to]
}

func (t *Transport) setTight(to string, full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if full {
		t.full[to] = true
	} else {
		delete(t.full, to)
	}
}

// fill commits those of a batch, by index, that do not wait in the stream already.
func (t *Transport) fill(ctx context.Context, to string, msgs []*nats.Msg, missing []int) (int, error) {
	if len(missing) == 0 {
		return len(msgs), nil
	}
	rest := make([]*nats.Msg, len(missing))
	for i, at := range missing {
		rest[i] = msgs[at]
	}
	kept, err := t.commit(ctx, to, rest)
	if err != nil {
		return missing[kept], err
	}
	return len(msgs), nil
}

// missing looks which messages, by index, are not in the stream. One that is twice in the batch is
// missing once.
func (t *Transport) missing(ctx context.Context, to string, msgs []*nats.Msg) ([]int, error) {
	ctx, cancel := t.asking(ctx)
	defer cancel()
	s, err := t.js.Stream(ctx, streamOf(to))
	if err != nil {
		return nil, err
	}
	// By the batch of the relay's queue: each is up to 1,000 subjects.
	there, looked := map[string]bool{}, map[string]bool{}
	for _, m := range msgs {
		batch := m.Subject[:strings.LastIndexByte(m.Subject, '.')] + ".*"
		if m.Header[jetstream.ExpectedLastSubjSeqHeader] == nil || looked[batch] {
			continue
		}
		looked[batch] = true
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(batch))
		if err != nil {
			return nil, err
		}
		for subject := range info.State.Subjects {
			there[subject] = true
		}
	}
	var missing []int
	for i, m := range msgs {
		if !there[m.Subject] {
			missing = append(missing, i)
			there[m.Subject] = m.Header[jetstream.ExpectedLastSubjSeqHeader] != nil
		}
	}
	return missing, nil
}

// batchAck is what the server answers to a batch, or a message.
type batchAck struct {
	Stream string              `json:"stream"`
	Count  int                 `json:"count"`
	Error  *jetstream.APIError `json:"error"`
}

// publish writes messages as one atomic batch, and waits until the stream has them.
func (t *Transport) publish(ctx context.Context, msgs []*nats.Msg) error {
	ctx, cancel := t.asking(ctx)
	defer cancel()
	id := rand.Text()
	last := len(msgs) - 1
	for i, m := range msgs {
		delete(m.Header, "Nats-Batch-Commit")
		if last == 0 {
			delete(m.Header, "Nats-Batch-Id")
			delete(m.Header, "Nats-Batch-Sequence")
			break
		}
		m.Header["Nats-Batch-Id"] = []string{id}
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == last {
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			break
		}
		if err := t.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	reply, err := t.nc.RequestMsgWithContext(ctx, msgs[last])
	if err != nil {
		return err
	}
	var ack batchAck
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("the server's answer %q: %w", reply.Data, err)
	}
	if ack.Error != nil {
		return ack.Error
	}
	if ack.Stream == "" || last > 0 && ack.Count != len(msgs) {
		return fmt.Errorf("the server answers %s to a batch of %d: it must be NATS 2.12 or later", reply.Data, len(msgs))
	}
	return nil
}

// unheard finds out why nobody answered: there is no such stream, or it has no leader now.
func (t *Transport) unheard(ctx context.Context, to string) error {
	look, cancel := t.asking(ctx)
	defer cancel()
	_, err := t.js.Stream(look, streamOf(to))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return transport.ErrUnknown
	}
	if err == nil {
		err = nats.ErrNoResponders
	}
	return t.outcome(ctx, err)
}

// pause waits between tries.
func (t *Transport) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-t.done:
	}
}
