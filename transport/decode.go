package transport

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// attributes are a CloudEvent's attributes by name, and those headers beside them that mean
// something.
type attributes map[string]string

// Decode reads a packet from the wire: binary mode, or the JSON of structured mode, which foreign
// programs may send. It is pure, and takes whatever comes: an error is a *MalformedError, and then the
// packet has what could be read of it, without a body that is too large. The packet's body is a part of body.
func Decode(h Header, body []byte) (Packet, error) {
	p := Packet{Body: body}
	large := len(body) > MaxBody+MaxWire
	if large {
		p.Body = nil
	}
	a, contentType, err := fromHeaders(h)
	switch structured := strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents"); {
	case err != nil || !structured:
	case large:
		err = tooMuch(body)
	default:
		a, p.Body, err = fromJSON(a, contentType, body)
		contentType = ""
	}
	if err != nil {
		// Who it was from and what it was about helps a person, if that much can be read.
		p.ID, p.Topic, p.Source = clip(a["id"]), clip(a["type"]), clip(a["source"])
		return p, err
	}
	if a["datacontenttype"] == "" {
		a["datacontenttype"] = contentType
	}
	err = p.read(a)
	if !large {
		body = p.Body
	}
	if len(body) > MaxBody {
		p.Body, err = nil, cmp.Or(err, error(tooMuch(body)))
	}
	return p, err
}

func tooMuch(body []byte) *MalformedError {
	return malformed("", "it has %d bytes of data, at most %d: they are not kept", len(body), MaxBody)
}

// fromHeaders reads the headers of a CloudEvent, and the content type beside them.
func fromHeaders(h Header) (a attributes, contentType string, err error) {
	a = make(attributes, len(h))
	size := 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	if size > MaxWire {
		return a, "", malformed("", "its headers are %d bytes, at most %d", size, MaxWire)
	}
	beside := map[string]string{}
	var first *MalformedError // by name, so that the same packet has the same error
	for name, values := range h {
		name = strings.ToLower(name)
		attribute, is := strings.CutPrefix(name, prefix)
		if !is {
			if (name == "content-type" || traceContext(name)) && len(values) == 1 && notText(values[0]) == "" {
				beside[name] = strings.Trim(values[0], " ")
			}
			continue
		}
		if bad := a.add(attribute, values); bad != nil && (first == nil || bad.Attribute < first.Attribute) {
			first = bad
		}
	}
	// The hop's own trace context is nearer than that of the event's beginning. A state
	// without its parent, or of another one, means nothing.
	if parent := beside["traceparent"]; parent != "" {
		a["traceparent"], a["tracestate"] = parent, beside["tracestate"]
	}
	if first != nil { // not in an interface: it would not be nil
		return a, "", first
	}
	return a, beside["content-type"], nil
}

// add adds an attribute as its header has it.
func (a attributes) add(name string, values []string) *MalformedError {
	if !attributeName(name) {
		return malformed(strconv.Quote(clip(name)), "is no name for one: want lower-case letters and digits")
	}
	if _, twice := a[name]; len(values) != 1 || twice {
		return malformed(name, "is there more than once")
	}
	value, err := unescape(values[0])
	if err != nil {
		return malformed(name, "%v", err)
	}
	a[name] = value
	return nil
}

// fromJSON reads a CloudEvent that is all in the body.
func fromJSON(a attributes, contentType string, body []byte) (attributes, []byte, error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/cloudevents+json" {
		return a, body, malformed("", "its content type is %q: want binary mode, or application/cloudevents+json", clip(contentType))
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return a, body, malformed("", "its structured mode is no JSON object: %v", err)
	}
	read := make(attributes, len(fields))
	for _, name := range []string{"traceparent", "tracestate"} {
		if a[name] != "" {
			read[name] = a[name]
		}
	}
	data := []byte(nil)
	for name, raw := range fields {
		switch {
		case name == "data" || name == "data_base64":
			if data != nil {
				return read, body, malformed("", "it has both data and data_base64")
			}
			if data, err = jsonData(fields, name); err != nil {
				return read, body, err
			}
		case !attributeName(name):
			return read, body, malformed(strconv.Quote(clip(name)), "is no name for one: want lower-case letters and digits")
		default:
			value, err := jsonValue(name, raw)
			if err != nil {
				return read, body, err
			}
			if value != "" && (read[name] == "" || !traceContext(name)) {
				read[name] = value
			}
		}
	}
	if read["datacontenttype"] == "" {
		read["datacontenttype"] = "application/json"
	}
	return read, data, nil
}

// jsonData is the event's data. JSON stays as it is; a string of another content type is text.
func jsonData(fields map[string]json.RawMessage, name string) ([]byte, error) {
	raw := fields[name]
	if name == "data_base64" {
		var data []byte
		if err := json.Unmarshal(raw, &data); err != nil {
			return nil, malformed("", "its data_base64 is no base64: %v", err)
		}
		return append([]byte{}, data...), nil
	}
	var kind, text string
	if json.Unmarshal(fields["datacontenttype"], &kind) == nil && kind != "" && !strings.Contains(kind, "json") {
		if json.Unmarshal(raw, &text) == nil {
			return []byte(text), nil
		}
	}
	return raw, nil
}

// jsonValue is an attribute's value in its canonical text.
func jsonValue(name string, raw json.RawMessage) (string, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", malformed(name, "is no JSON: %v", err) // it was parsed before: never
	}
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		if bad := notText(v); bad != "" {
			return "", malformed(name, "is %q: it has %s", clip(v), bad)
		}
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		if n := int32(v); float64(n) == v {
			return strconv.Itoa(int(n)), nil
		}
	}
	return "", malformed(name, "is %s: want a text, a boolean or a 32-bit integer", clip(string(raw)))
}

// read fills the packet from attributes.
func (p *Packet) read(a attributes) error {
	r := reader{attributes: a}
	version := r.need("specversion")
	p.ID, p.Source, p.Topic = r.need("id"), r.need("source"), r.need("type")
	if version != "" && version != specVersion {
		r.fail("specversion", "is %q: want %s", clip(version), specVersion)
	}
	if _, err := url.Parse(p.Source); err != nil {
		r.fail("source", "is %q: want a URI reference", clip(p.Source))
	}
	p.SentAt = r.time("time")
	p.ContentType = r.text("datacontenttype")
	if p.Kind = Kind(r.text("weirkind")); !p.Kind.known() {
		r.fail("weirkind", "is %q: want command, event, reply or signal", clip(string(p.Kind)))
		p.Kind = ""
	}
	p.Version = r.count("weirversion")
	p.Stamp = r.stamp("weirstamp")
	p.Cause, p.Correlation = r.text("weircause"), r.text("weircorrelation")
	if p.ReplyTo = r.text("weirreplyto"); p.ReplyTo != "" && CheckBoundary(p.ReplyTo) != nil {
		r.fail("weirreplyto", "is %q: want a boundary's name", clip(p.ReplyTo))
		p.ReplyTo = ""
	}
	p.Tombstone = r.upTo("weirtombstone", MaxTombstone)
	p.Key = r.key()
	p.readLane(&r)
	p.readHeaders(&r)
	if r.err != nil { // not in an interface: it would not be nil
		return r.err
	}
	return nil
}

// readLane reads what weir's own packets have.
func (p *Packet) readLane(r *reader) {
	lane, pos := r.text("weirlane"), r.text("weirpos")
	if lane == "" && pos == "" {
		return
	}
	var err error
	if p.Lane, err = ParseLane(lane); err != nil {
		r.fail("weirlane", "is %q: want boundary/incarnation/queue", clip(lane))
		p.Lane = Lane{}
		return
	}
	if p.Position, err = ParsePosition(pos); err != nil {
		r.fail("weirpos", "is %q: want batch/index, such as 12/3 or 12/4/last", clip(pos))
	}
	if p.Begin = Begin(r.text("weirbegin")); !p.Begin.known() {
		r.fail("weirbegin", "is %q: want first or jump", clip(string(p.Begin)))
		p.Begin = ""
	}
	// Whoever writes to a lane must be of its boundary; only the source is looked at by people.
	if p.Source != weirSource+p.Lane.From {
		r.fail("source", "is %q, but the lane is of boundary %s", clip(p.Source), p.Lane.From)
	}
	p.Source = ""
}

// readHeaders makes what is left the user's headers.
func (p *Packet) readHeaders(r *reader) {
	text, err := base64.StdEncoding.DecodeString(r.upTo("weirheaders", MaxWire))
	var rest map[string]string
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &rest)
	}
	if err != nil {
		r.fail("weirheaders", "is no JSON object of texts in base64: %v", err)
	}
	size := 2
	for name, value := range r.attributes {
		// Attributes of a later weir are not the user's. Those empty are not there.
		if !strings.HasPrefix(name, weirPrefix) && value != "" && (isExtension(name) || name == "dataschema") {
			if rest == nil {
				rest = make(map[string]string, len(r.attributes))
			}
			rest[name] = value
		}
	}
	for name, value := range rest {
		size += len(name) + len(value) + 6
	}
	if size > MaxHeaders {
		r.fail("", "it has headers of %d bytes, at most %d", size, MaxHeaders)
		rest = nil
	}
	if len(rest) > 0 {
		p.Headers = rest
	}
}

// reader reads attributes; the first that is wrong is kept as the error.
type reader struct {
	attributes attributes
	err        *MalformedError
}

func (r *reader) fail(attribute, format string, args ...any) {
	if r.err == nil {
		r.err = malformed(attribute, format, args...)
	}
}

func (r *reader) upTo(name string, most int) string {
	v := r.attributes[name]
	if len(v) > most {
		r.fail(name, "is %d bytes, at most %d", len(v), most)
		return v[:0]
	}
	return v
}

func (r *reader) text(name string) string { return r.upTo(name, MaxText) }

func (r *reader) need(name string) string {
	if r.attributes[name] == "" {
		r.fail(name, "is missing or empty")
	}
	return r.text(name)
}

func (r *reader) time(name string) time.Time {
	v := r.text(name)
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 {
		r.fail(name, "is %q: want a time as in RFC 3339, such as 2026-11-22T08:30:00Z", clip(v))
		return time.Time{}
	}
	return t.UTC()
}

func (r *reader) count(name string) int {
	v := r.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 1 {
		r.fail(name, "is %q: want a whole number from 1 to 2147483647", clip(v))
		return 0
	}
	return int(n)
}

func (r *reader) stamp(name string) int64 {
	v := r.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 {
		r.fail(name, "is %q: want a whole number of 1 or more", clip(v))
		return 0
	}
	return n
}

// key is the message's key in either of its forms.
func (r *reader) key() string {
	plain, coded := r.upTo("partitionkey", MaxKey), r.upTo("weirkey", 2*MaxKey)
	if coded == "" {
		return plain
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(key) > MaxKey {
		r.fail("weirkey", "is %q: want up to %d bytes in base64", clip(coded), MaxKey)
		return plain
	}
	return string(key)
}
