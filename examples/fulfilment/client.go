package fulfilment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

// ask sends in as JSON, if it is not nil, and reads the answer into out, if that is not nil
// and the answer a success or one of the statuses that the caller knows the meaning of. Any
// other answer is a *failure.
func (c *client) ask(ctx context.Context, method, path string, in, out any, known ...int) (status int, err error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.system, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err != nil {
		return res.StatusCode, fmt.Errorf("%s: %s %s: read the answer: %w", c.system, method, path, err)
	}
	expected := res.StatusCode < http.StatusMultipleChoices
	for _, s := range known {
		expected = expected || res.StatusCode == s
	}
	if !expected {
		f := &failure{system: c.system, request: method + " " + path, status: res.StatusCode}
		_ = json.Unmarshal(text, &f.refusal) // what is no JSON says nothing more
		return res.StatusCode, f
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return res.StatusCode, fmt.Errorf("%s: %s %s: %w", c.system, method, path, err)
		}
	}
	return res.StatusCode, nil
}

// segment is text as one segment of a path.
func segment(text string) string { return "/" + url.PathEscape(text) }
