package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// demoProgress tells how far the work is: on a terminal in a line that changes, else
// in a line every second.
type demoProgress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	last     time.Time
	kills    int
	killed   int
}

func newDemoProgress(w io.Writer, kills int) *demoProgress {
	p := &demoProgress{w: w, terminal: isTerminal(w), every: time.Second, last: time.Now(), kills: kills}
	if p.terminal {
		p.every = 50 * time.Millisecond
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// demoLine tells how far the work is.
type demoLine func() string

// tell tells, if it is time to.
func (p *demoProgress) tell(now demoLine) {
	if time.Since(p.last) >= p.every {
		p.say(now, "")
	}
}

// kill counts a kill of who, if there are several, and tells.
func (p *demoProgress) kill(now demoLine, who string) {
	p.killed++
	p.say(now, strings.TrimSuffix("; killed "+who, " "))
}

func (p *demoProgress) say(now demoLine, and string) {
	p.last = time.Now()
	line := fmt.Sprintf("%s; kills %d of %d%s", now(), p.killed, p.kills, and)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(p.w, line)
}

// end clears the line that changes.
func (p *demoProgress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
