package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// What one relay sends to a boundary is a lane, on which each message has a place: its batch, as it was
// claimed, and the index in it. Batches of a queue are numbered densely by the store, so places are dense too.

// after is the place that follows p; that before all is the zero Place, and what follows it is of batch 1.
func after(p store.Place) store.Place {
	if p.Last || p == (store.Place{}) {
		return store.Place{Batch: p.Batch + 1}
	}
	return store.Place{Batch: p.Batch, Index: p.Index + 1}
}

// order compares places of one lane.
func order(p, q store.Place) int {
	return cmp.Or(cmp.Compare(p.Batch, q.Batch), cmp.Compare(p.Index, q.Index))
}

// ownerOf is the boundary that a contract's name belongs to.
func ownerOf(name string) string {
	owner, _, _ := strings.Cut(name, ".")
	return owner
}

// relayName is the queue of the relay that tells a boundary of a topic to which others subscribe too.
func relayName(topic, to string) string { return topic + "@" + to }

// relayed splits the name of such a queue, and of a reply's topic.
func relayed(name string) (topic, to string, ok bool) { return strings.Cut(name, "@") }

// stampHeader has a message's stamp, of an event that came from another store.
const stampHeader = "weir-stamp"

// kinds are those of the wire.
var kinds = [...]transport.Kind{
	store.KindCommand: transport.KindCommand, store.KindEvent: transport.KindEvent,
	store.KindReply: transport.KindReply, store.KindSignal: transport.KindSignal,
}

// kindOf is a kind of the wire in the store's terms; 0 where none was said.
func kindOf(k transport.Kind) store.Kind {
	for kind, name := range kinds {
		if name == k && k != "" {
			return store.Kind(kind)
		}
	}
	return 0
}

// renamed is the ID of a message here whose own is another's already; original is what its sender knows it by.
func renamed(id string, sentAt time.Time) string {
	return id + "~" + strconv.FormatInt(sentAt.UnixMicro(), 36)
}

func original(id string) string {
	id, _, _ = strings.Cut(id, "~")
	return id
}

// packetOf is a message on its way.
func packetOf(l transport.Lane, at store.Place, m *store.Message) (transport.Packet, error) {
	topic, _, _ := relayed(m.Topic)
	p := transport.Packet{
		Lane: l, Position: transport.Position(at), ID: m.ID, Topic: topic, Kind: kinds[m.Kind], Version: m.Version,
		Key: m.Key, Cause: original(m.Cause), Correlation: original(m.Correlation), SentAt: m.SentAt, Stamp: m.Stamp, Body: m.Body,
	}
	if len(m.Headers) > 0 {
		if err := json.Unmarshal(m.Headers, &p.Headers); err != nil {
			return p, fmt.Errorf("its headers are no JSON object of texts: %w", err)
		}
	}
	return p, nil
}

// messageOf fills a message with what came, and its origin.
func messageOf(p *transport.Packet, m *store.Message, o *store.Origin) error {
	*o = store.Origin{ID: p.ID, From: p.Lane.From, SentAt: p.SentAt}
	if p.Source != "" {
		o.ID, o.From = p.Source+"#"+p.ID, p.Source
	}
	if p.ReplyTo != "" {
		o.From = p.ReplyTo
	}
	*m = store.Message{
		Topic: p.Topic, Kind: kindOf(p.Kind), Version: max(p.Version, 1), Key: p.Key,
		Cause: p.Cause, Correlation: p.Correlation, Body: p.Body, Origin: o,
	}
	stamped := m.Kind == store.KindEvent && p.Stamp > 0
	if len(p.Headers) == 0 {
		if stamped {
			m.Headers = append(strconv.AppendInt([]byte(`{"`+stampHeader+`":"`), p.Stamp, 10), `"}`...)
		}
		return nil
	}
	headers := p.Headers
	if _, has := headers[stampHeader]; has || stamped {
		headers = make(map[string]string, len(p.Headers)+1)
		for name, value := range p.Headers {
			headers[name] = value
		}
		delete(headers, stampHeader) // whoever it is, he has not got this from us
		if stamped {
			headers[stampHeader] = strconv.FormatInt(p.Stamp, 10)
		}
	}
	var err error
	m.Headers, err = json.Marshal(headers)
	return err
}
