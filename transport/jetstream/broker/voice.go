package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// voice puts what the server says into the log.
type voice struct {
	log *slog.Logger
	// fatal has the first reason why the server does not work. A server on its own would exit.
	fatal chan string
	// broken: a stream takes nothing any more. The server says so here and nowhere else.
	broken atomic.Bool
}

// writeError is in what the server says when a write has failed: whatever the write was for stands still until the next start.
const writeError = "critical write error"

func (v *voice) say(level slog.Level, format string, args []any) {
	if v.log.Enabled(context.Background(), level) {
		v.log.Log(context.Background(), level, "broker says", "what", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Noticef says what is only of interest when something is looked for.
func (v *voice) Noticef(format string, args ...any) { v.say(slog.LevelDebug, format, args) }

// Warnf says what may become a trouble.
func (v *voice) Warnf(format string, args ...any) { v.say(slog.LevelWarn, format, args) }

// Errorf says what went wrong; the server goes on.
func (v *voice) Errorf(format string, args ...any) {
	if strings.Contains(format, writeError) {
		v.broken.Store(true)
	}
	v.say(slog.LevelWarn, format, args)
}

// Fatalf says why the server does not work.
func (v *voice) Fatalf(format string, args ...any) {
	v.say(slog.LevelError, format, args)
	select {
	case v.fatal <- strings.TrimSpace(fmt.Sprintf(format, args...)):
	default:
	}
}

// Debugf says nothing: it is not asked for.
func (v *voice) Debugf(string, ...any) {}

// Tracef says nothing: it is not asked for.
func (v *voice) Tracef(string, ...any) {}
