package engine

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir/store"
)

// A database that is away is told of at once, again while it lasts, and when it is back.
func TestOutageIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		e := &Engine{log: slog.New(slog.NewTextHandler(&text, nil))}
		back := time.Now().Add(25 * time.Minute)
		err := e.patiently(t.Context(), func(context.Context) error {
			if time.Now().Before(back) {
				return store.ErrUnavailable
			}
			return nil
		})
		log := text.String()
		if err != nil || strings.Count(log, "the database is away") != 1 || strings.Count(log, "the database is still away") != 2 || strings.Count(log, "the database is back") != 1 {
			t.Errorf("25 minutes of an outage, which end with %v, want nil, and one line, two more, and one at the end:\n%s", err, log)
		}
	})
}
