package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

const (
	locksLooked  = 1_000 // locks that doctor looks at, the first by name
	circlesShown = 3
)

// lockWish is a place in a lock's line.
type lockWish struct {
	name     string
	from, to store.RunNo // who is in line, and who holds it
	fromID   string
}

// lockCircles finds runs that wait for each other's locks, each for longer than a minute. Where they have branches
// one may go on all the same.
func lockCircles(locks []weir.LockRow, now time.Time) []problemView {
	wishes := map[store.RunNo][]lockWish{} // of those in line
	for _, l := range locks {
		for _, w := range l.Waiters {
			if w.Run != l.Holder && now.Sub(w.Since) > handlerPatience {
				wishes[w.Run] = append(wishes[w.Run], lockWish{l.Name, w.Run, l.Holder, w.RunID})
			}
		}
	}
	var out []problemView
	walk := circleWalk{wishes: wishes, done: map[store.RunNo]bool{}}
	for _, l := range locks {
		if circle := walk.from(l.Holder); circle != nil && len(out) < circlesShown {
			out = append(out, circleProblem(circle))
		}
	}
	return out
}

// circleWalk follows runs to those that hold what they are in line for.
type circleWalk struct {
	wishes map[store.RunNo][]lockWish
	done   map[store.RunNo]bool
	path   []lockWish
}

// from gives a circle that can be reached from a run, if it was not met before; else nil. A path goes
// over holders alone, so it is no longer than there are locks.
func (c *circleWalk) from(run store.RunNo) []lockWish {
	if i := slices.IndexFunc(c.path, func(w lockWish) bool { return w.from == run }); i >= 0 {
		return slices.Clone(c.path[i:])
	}
	if c.done[run] {
		return nil
	}
	c.done[run] = true
	for _, w := range c.wishes[run] {
		c.path = append(c.path, w)
		circle := c.from(w.to)
		c.path = c.path[:len(c.path)-1]
		if circle != nil {
			return circle
		}
	}
	return nil
}

// circleProblem says who waits for whom.
func circleProblem(circle []lockWish) problemView {
	var waits []string
	for i, w := range circle {
		if i == 10 {
			waits = append(waits, "and so on")
			break
		}
		waits = append(waits, fmt.Sprintf("%s is in line for %s, which %s holds", w.fromID, w.name, circle[(i+1)%len(circle)].fromID))
	}
	return problemView{
		fmt.Sprintf("%s wait for each other's locks: %s", plural(int64(len(circle)), "run"), strings.Join(waits, "; ")),
		"weir run cancel one of them, and have them take their locks in one order; weir lock ls",
	}
}
