package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/weir-go/weir/transport"
)

// Doubts looks for what could make the broker lose what it says it has: a server that does not sync each
// write, streams of weir that somebody has changed. Each is a sentence for a person. No message is lost by
// any of them, since its sender still has it; but a power cut then costs the time until it is sent again.
func (t *Transport) Doubts(ctx context.Context) ([]string, error) {
	ctx, cancel := t.asking(ctx)
	defer cancel()
	var doubts []string
	switch synced, err := t.syncs(ctx); {
	case t.config.InProcess != nil && t.config.Monitor == "":
		// A broker of ours, which always syncs.
	case t.config.Monitor == "":
		doubts = append(doubts, "it is not known whether the server syncs its writes: set Config.Monitor to the URL of its monitoring, and in the server's configuration sync_interval: always")
	case err != nil:
		doubts = append(doubts, fmt.Sprintf("it is not known whether the server syncs its writes: its monitoring does not say: %v", err))
	case !synced:
		doubts = append(doubts, "the server does not sync its writes, so a power cut loses what it has taken: set sync_interval: always in the jetstream part of its configuration")
	}
	if err := t.connected(); err != nil {
		return doubts, err
	}
	const most = 1_000 // streams
	list := t.js.ListStreams(ctx)
	n := 0
	for info := range list.Info() {
		if n++; n > most {
			break
		}
		name := info.Config.Name
		if boundary, ours := strings.CutPrefix(name, streamOf("")); ours && transport.CheckBoundary(boundary) == nil {
			if faults := faultsOf(info.Config); len(faults) > 0 {
				doubts = append(doubts, (&StreamError{Stream: name, Faults: faults}).Error())
			}
		}
	}
	if err := list.Err(); err != nil && n <= most {
		return doubts, t.outcome(ctx, err)
	}
	return doubts, nil
}

// syncs asks the server's monitoring.
func (t *Transport) syncs(ctx context.Context) (bool, error) {
	if t.config.Monitor == "" {
		return false, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(t.config.Monitor, "/")+"/jsz", nil)
	if err != nil {
		return false, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	var jsz struct {
		Disabled bool `json:"disabled"`
		Config   struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	}
	if answer.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s answers %s", r.URL, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&jsz); err != nil {
		return false, fmt.Errorf("%s: %w", r.URL, err)
	}
	if jsz.Disabled {
		return false, fmt.Errorf("%s says that JetStream is off", r.URL)
	}
	return jsz.Config.SyncAlways, nil
}

// warn puts doubts into the log, once.
func (t *Transport) warn(ctx context.Context) {
	t.mu.Lock()
	doubted := t.doubted
	t.doubted = true
	t.mu.Unlock()
	if doubted {
		return
	}
	doubts, err := t.Doubts(ctx)
	for _, d := range doubts {
		t.config.Log.WarnContext(ctx, "the broker may lose what it has taken", "doubt", d)
	}
	if err != nil {
		t.config.Log.WarnContext(ctx, "the broker's settings are not known", "error", err)
	}
}
