package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/weir-go/weir/examples/restaurant"
)

// demoProgress tells how far the work is: on a terminal in a line that changes, else
// in a line every second.
type demoProgress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	last     time.Time
	orders   int
	kills    int
	killed   int
}

func newDemoProgress(w io.Writer, b restaurant.Book, kills int) *demoProgress {
	p := &demoProgress{w: w, terminal: isTerminal(w), every: time.Second, last: time.Now(), orders: len(b.Orders), kills: kills}
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

// tell tells, if it is time to.
func (p *demoProgress) tell(now restaurant.Progress) {
	if time.Since(p.last) >= p.every {
		p.say(now, "")
	}
}

// kill counts a kill, and tells.
func (p *demoProgress) kill(now restaurant.Progress) {
	p.killed++
	p.say(now, "; killed")
}

func (p *demoProgress) say(now restaurant.Progress, and string) {
	p.last = time.Now()
	line := fmt.Sprintf("orders %d of %d, %d open; lines cooked %d, served %d; kills %d of %d%s",
		now.Orders, p.orders, now.Open, now.Cooked, now.Servings, p.killed, p.kills, and)
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
