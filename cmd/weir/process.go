package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	weir "github.com/weir-go/weir"
)

// What a process is, as far as can be told from outside.
const (
	processRunning = "running"
	processSilent  = "silent" // it has neither ended nor been heard of
	processEnded   = "ended"
)

// silentAfter is how long a process may be unheard of: it beats every 5 seconds,
// and a minute is what weir doctor allows too.
const silentAfter = time.Minute

func processState(p weir.Process, now time.Time) string {
	switch {
	case !p.EndedAt.IsZero():
		return processEnded
	case now.Sub(p.BeatAt) > silentAfter || gone(p):
		return processSilent
	}
	return processRunning
}

// gone says whether a process of this host is certainly no more.
func gone(p weir.Process) bool {
	if host, err := os.Hostname(); err != nil || host != p.Host {
		return false
	}
	process, err := os.FindProcess(p.PID)
	if err != nil {
		return errors.Is(err, os.ErrProcessDone)
	}
	defer process.Release()
	return errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// processView is a process in JSON.
type processView struct {
	ID        int64    `json:"id"`
	State     string   `json:"state"` // running, silent, ended
	PID       int      `json:"pid"`
	Host      string   `json:"host"`
	Version   string   `json:"version"`
	Owns      []string `json:"owns"`
	StartedAt stamp    `json:"started_at"`
	BeatAt    stamp    `json:"beat_at"`
	EndedAt   stamp    `json:"ended_at"`
}

func viewProcess(p weir.Process, now time.Time) *processView {
	return &processView{
		ID: p.ID, State: processState(p, now), PID: p.PID, Host: p.Host, Version: p.Version,
		Owns: append([]string{}, p.Owns...), StartedAt: stamp(p.StartedAt), BeatAt: stamp(p.BeatAt), EndedAt: stamp(p.EndedAt),
	}
}

func processText(p weir.Process, now time.Time) string {
	who := fmt.Sprintf("%d, pid %d on %s, weir %s, owns %s", p.ID, p.PID, p.Host, p.Version, strings.Join(p.Owns, ", "))
	switch processState(p, now) {
	case processEnded:
		return fmt.Sprintf("none; the last ended %s ago (%s)", age(now, p.EndedAt), who)
	case processSilent:
		return fmt.Sprintf("none; the last ended without saying so, heard of %s ago (%s)", age(now, p.BeatAt), who)
	}
	return fmt.Sprintf("running for %s (%s)", age(now, p.StartedAt), who)
}
