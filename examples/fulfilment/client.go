package fulfilment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// client talks to one outside system.
type client struct {
	system string // for errors
	base   string // http://127.0.0.1:port
	http   *http.Client
}

const (
	answerBytesMax = 64 << 10
	idleConnsMax   = 128 // a system: as many as the engine works runs at a time
	// giveUp is the header that tells a system until when we wait. What it has not done by then it never does, so that one
	// that was asked later whether it has, and has not, may be asked again to do it.
	giveUp = "Give-Up"
)

// newTransport makes what all clients share. Two things of net/http are worth knowing here:
//
//   - it sends a request again by itself, when a connection that was used before breaks, if
//     the request is a GET or has a header Idempotency-Key. To a payment provider that
//     refuses no duplicate this would be a second charge that nobody has asked for. So the
//     keys of our requests are in their bodies;
//   - it keeps few idle connections for each host, and opens new ones for each burst.
func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: idleConnsMax}
}

// Systems are the outside systems, seen from here.
type Systems struct {
	Warehouse *Warehouse
	Payments  *Payments
	Billing   *Billing
	Mail      *Mail
	shared    *http.Transport
}

// Connect makes clients of the systems; nothing is sent yet. Close them when done.
func Connect(a Addresses) *Systems {
	shared := newTransport()
	over := &http.Client{Transport: shared}
	return &Systems{
		Warehouse: &Warehouse{client{"warehouse", a.Warehouse, over}},
		Payments:  &Payments{client{"payments", a.Payments, over}},
		Billing:   &Billing{client{"billing", a.Billing, over}},
		Mail:      &Mail{client{"mail", a.Mail, over}},
		shared:    shared,
	}
}

// Close closes the connections that are not in use.
func (s *Systems) Close() { s.shared.CloseIdleConnections() }

// refusal is what the systems say beside a status that is no success.
type refusal struct {
	What   string `json:"error"`
	Reason string `json:"reason"`
}

// failure is an answer that the caller did not expect.
type failure struct {
	system, request string
	status          int
	refusal
}

func (f *failure) Error() string {
	text := fmt.Sprintf("%s: %s: %d %s", f.system, f.request, f.status, http.StatusText(f.status))
	if f.What != "" {
		text += ": " + f.What
	}
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text
}

// request is what is asked of a system.
type request struct {
	method, path string
	in           any   // sent as JSON; nil: nothing is
	out          any   // the answer's JSON goes there; nil: nobody looks at it
	known        []int // statuses that are answers like a success
}

// ask gives the status, and the answer if it is a success or known. Any other is a *failure.
func (c *client) ask(ctx context.Context, r request) (status int, err error) {
	var body io.Reader
	if r.in != nil {
		text, err := json.Marshal(r.in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if until, bounded := ctx.Deadline(); bounded {
		req.Header.Set(giveUp, strconv.FormatInt(until.UnixMilli(), 10))
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.system, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err != nil {
		return res.StatusCode, fmt.Errorf("%s: %s %s: read the answer: %w", c.system, r.method, r.path, err)
	}
	if res.StatusCode >= http.StatusMultipleChoices && !slices.Contains(r.known, res.StatusCode) {
		f := &failure{system: c.system, request: r.method + " " + r.path, status: res.StatusCode}
		_ = json.Unmarshal(text, &f.refusal) // what is no JSON says nothing more
		return res.StatusCode, f
	}
	if r.out != nil {
		if err := json.Unmarshal(text, r.out); err != nil {
			return res.StatusCode, fmt.Errorf("%s: %s %s: %w", c.system, r.method, r.path, err)
		}
	}
	return res.StatusCode, nil
}

// segment is text as one segment of a path.
func segment(text string) string { return "/" + url.PathEscape(text) }
