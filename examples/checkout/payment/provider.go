package payment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Provider is the payment provider, an outside system over HTTP. It refuses no duplicate: each
// request for a charge that reaches it is a charge. It looks for a charge by the key that it was
// asked with.
type Provider struct {
	base string // http://127.0.0.1:port
	http *http.Client
}

const (
	answerBytesMax = 64 << 10
	idleConnsMax   = 64
	// giveUp is the header that tells the provider until when we wait: what it has not charged by then it never does.
	giveUp = "Give-Up"
)

var (
	errDeclined = errors.New("the card is declined")
	errNoCharge = errors.New("there is no charge with this key")
)

// NewProvider makes a client; nothing is sent yet. The key of a charge is in the request's body:
// with a header Idempotency-Key net/http would send a request again by itself, which this
// provider takes for another charge.
func NewProvider(address string) *Provider {
	return &Provider{base: address, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: idleConnsMax}}}
}

// Close closes the connections that are not in use.
func (p *Provider) Close() { p.http.CloseIdleConnections() }

// charge is money that was taken.
type charge struct {
	ID    string `json:"id"`
	Cents int64  `json:"cents"`
}

// Charge takes money; or errDeclined.
func (p *Provider) Charge(ctx context.Context, key string, b billed, c Card) (charge, error) {
	in, err := json.Marshal(map[string]any{"key": key, "order": b.Cart, "card": c.reveal(), "cents": b.Cents})
	if err != nil {
		return charge{}, err
	}
	made, status, err := p.ask(ctx, http.MethodPost, "/charges", in)
	if status == http.StatusPaymentRequired {
		return made, errDeclined
	}
	return made, err
}

// Find is the charge that was made with a key; or errNoCharge.
func (p *Provider) Find(ctx context.Context, key string) (charge, error) {
	made, status, err := p.ask(ctx, http.MethodGet, "/charges?key="+url.QueryEscape(key), nil)
	if status == http.StatusNotFound {
		return made, errNoCharge
	}
	return made, err
}

// ask asks. Its errors are kept in the run's records and logged, so they repeat the status, and
// nothing that the provider says: it might say the card's number.
func (p *Provider) ask(ctx context.Context, method, path string, in []byte) (made charge, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, bytes.NewReader(in))
	if err != nil {
		return made, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if until, bounded := ctx.Deadline(); bounded {
		req.Header.Set(giveUp, strconv.FormatInt(until.UnixMilli(), 10))
	}
	res, err := p.http.Do(req)
	if err != nil {
		return made, 0, fmt.Errorf("payment provider: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err != nil {
		return made, 0, fmt.Errorf("payment provider: read the answer: %w", err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return made, res.StatusCode, fmt.Errorf("payment provider: %s: %s", method, res.Status)
	}
	if json.Unmarshal(text, &made) != nil {
		return made, res.StatusCode, fmt.Errorf("payment provider: %s: its answer is no JSON", method)
	}
	return made, res.StatusCode, nil
}
