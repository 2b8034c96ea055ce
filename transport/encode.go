package transport

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// On the wire a packet is a CloudEvent 1.0 in binary mode: the body is the data as it is,
// and each attribute a header of its name with "ce-" before it, percent-encoded, as the
// NATS binding of CloudEvents has it. These are the attributes:
//
//	specversion      1.0
//	id               the message's ID
//	source           /weir/ and the sender's boundary; a foreign program's own
//	type             the topic
//	time             when it was sent, RFC 3339 in UTC
//	datacontenttype  the body's media type
//	partitionkey     the key
//	traceparent      W3C trace context, and once more as plain headers traceparent and
//	tracestate       tracestate, which tracing tools read; when read, those are preferred
//	weirlane         the lane, boundary/incarnation/queue
//	weirpos          the position, batch/index, and /last on the last of a batch
//	weirbegin        first or jump: what is before need not be waited for
//	weirkind         command, event, reply or signal
//	weirversion      the contract's version
//	weirstamp        a number that grows with the messages of the sender's store
//	weircause        the ID of the message that was handled when this one was sent
//	weircorrelation  the ID of the first message of the conversation
//	weirreplyto      the boundary that waits for the reply
//	weirtombstone    why there is no message
//	weirkey          instead of partitionkey, in base64: a key that is no CloudEvents String
//	weirheaders      in base64, a JSON object: headers that are no CloudEvents attributes
//
// and the user's headers, each an extension attribute of its name where CloudEvents allows it.
//
// The codec is our own, though there is an SDK (github.com/cloudevents/sdk-go). It brings a logger and a JSON
// library along, and its NATS binding writes values into headers as they are, without the encoding that the
// binding's text asks for. What is left when its transports and formats are not used is what is here.
const (
	prefix      = "ce-"
	specVersion = "1.0"
	weirSource  = "/weir/"
	weirPrefix  = "weir"
)

// coreAttributes are never a user's header, even if he names it so.
var coreAttributes = []string{"id", "source", "specversion", "type", "time", "datacontenttype", "dataschema", "partitionkey", "data"}

// Encode gives the packet's headers on the wire; the body is p.Body as it is. It is pure. The
// error is an ErrInvalid or an ErrTooBig and says what is wrong.
func (p *Packet) Encode() (Header, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	w := writer{header: make(Header, 14+len(p.Headers)), values: make([]string, 0, 16+len(p.Headers))}
	w.put("specversion", specVersion)
	w.put("id", p.ID)
	w.put("type", p.Topic)
	if (p.Lane != Lane{}) {
		w.put("source", weirSource+p.Lane.From)
		w.put("weirlane", p.Lane.String())
		w.put("weirpos", p.Position.String())
		w.put("weirbegin", string(p.Begin))
	} else {
		w.put("source", p.Source)
	}
	w.put("weirkind", string(p.Kind))
	if p.Version != 0 {
		w.put("weirversion", strconv.Itoa(p.Version))
	}
	if p.Stamp != 0 {
		w.put("weirstamp", strconv.FormatInt(p.Stamp, 10))
	}
	if !p.SentAt.IsZero() {
		if y := p.SentAt.UTC().Year(); y < 0 || y > 9999 {
			return nil, invalid("sent in the year %d, which RFC 3339 cannot say", y)
		}
		w.put("time", p.SentAt.UTC().Format(time.RFC3339Nano))
	}
	if notText(p.Key) == "" {
		w.put("partitionkey", p.Key)
	} else {
		w.put("weirkey", base64.StdEncoding.EncodeToString([]byte(p.Key)))
	}
	w.put("weircause", p.Cause)
	w.put("weircorrelation", p.Correlation)
	w.put("weirreplyto", p.ReplyTo)
	w.put("datacontenttype", p.ContentType)
	w.put("weirtombstone", reason(p.Tombstone))
	if err := w.putHeaders(p.Headers); err != nil {
		return nil, err
	}
	if w.size > MaxWire {
		return nil, tooBig("a packet's headers, encoded,", w.size, MaxWire)
	}
	return w.header, nil
}

// writer gathers headers. Their values share one array.
type writer struct {
	header Header
	values []string
	size   int
}

// put adds an attribute; an empty one is left out, as CloudEvents wants it.
func (w *writer) put(name, value string) {
	if value != "" {
		w.plain(prefix+name, escape(value))
	}
}

func (w *writer) plain(name, value string) {
	n := len(w.values)
	w.values = append(w.values, value)
	w.header[name] = w.values[n : n+1 : n+1]
	w.size += len(name) + len(value) + 4 // ": " and the line's end
}

// putHeaders adds the user's headers, as attributes where that is allowed, else all together.
func (w *writer) putHeaders(headers map[string]string) error {
	if len(headers) == 0 {
		return nil
	}
	size := 2
	var rest map[string]string
	for name, value := range headers {
		size += len(name) + len(value) + 6 // quotes, colon and comma
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return invalid("header %q is not UTF-8", clip(name))
		}
		if value == "" || !isExtension(name) || notText(value) != "" {
			if rest == nil {
				rest = map[string]string{}
			}
			rest[name] = value
			continue
		}
		w.put(name, value)
		if traceContext(name) && ascii(value) {
			w.plain(name, value) // as it is: that is how tracing tools read it
		}
	}
	if size > MaxHeaders {
		return tooBig("Headers", size, MaxHeaders)
	}
	if rest != nil {
		text, err := json.Marshal(rest)
		if err != nil {
			return invalid("headers: %v", err) // strings: never
		}
		w.put("weirheaders", base64.StdEncoding.EncodeToString(text))
	}
	return nil
}

// isExtension says whether a user's header may travel as an extension attribute.
func isExtension(name string) bool {
	if !attributeName(name) || strings.HasPrefix(name, weirPrefix) {
		return false
	}
	for _, core := range coreAttributes {
		if name == core {
			return false
		}
	}
	return true
}

// ascii says whether all of s is printable ASCII.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// traceContext says whether a header is W3C trace context, which has headers of its own.
func traceContext(name string) bool { return name == "traceparent" || name == "tracestate" }

// reason makes an error's text fit for an attribute: one line, not too long.
func reason(s string) string {
	if len(s) > MaxTombstone {
		s = s[:MaxTombstone]
	}
	return strings.Map(func(r rune) rune {
		if notText(string(r)) != "" {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
