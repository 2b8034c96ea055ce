package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// deadGroup is the dead letters of a queue that died of the same.
type deadGroup struct {
	Queue   string `json:"queue"`
	Reason  string `json:"reason"` // what they have in common: … stands for what differs
	Count   int64  `json:"count"`
	FirstAt stamp  `json:"first_at"` // deaths
	LastAt  stamp  `json:"last_at"`
	Example string `json:"example"` // ID of the oldest
}

const (
	groupScanMax = 200_000 // dead letters read
	groupMax     = 1_000   // groups told apart; the rest counts as one
	groupRest    = "(other reasons)"
)

// varying is what differs between reasons of one kind: what is quoted, IDs and numbers.
var varying = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`" +
	`|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\b0x[0-9a-fA-F]+\b|\b[0-9a-z]{6}-[0-9a-z]+\b|[0-9]+(\.[0-9]+)?`)

// groups counts dead letters by reason.
func (c *deadLsCmd) groups(a *app, e *weir.Engine) error {
	tally := deadTally{byKey: map[groupKey]*tallied{}}
	q := weir.DeadQuery{Queue: c.Queue, Matching: c.Matching, Max: store.MaxList}
	for tally.scanned < groupScanMax {
		letters, err := e.Dead(a.ctx, q)
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			break
		}
		for _, d := range letters {
			tally.add(d)
		}
		q.After = letters[len(letters)-1].Message.Pos
	}
	view := struct {
		Groups []deadGroup `json:"groups"`
		Count  int64       `json:"count"`
		Cut    bool        `json:"cut"` // only the oldest were read
	}{tally.groups(), tally.scanned, tally.scanned >= groupScanMax}
	view.Groups = view.Groups[:min(len(view.Groups), c.Max)]
	return a.print(view, func(w *tabwriter.Writer) {
		if len(view.Groups) == 0 {
			fmt.Fprintln(w, "No dead letters.")
			return
		}
		groupGrid(view.Groups).write(w)
		if view.Cut {
			fmt.Fprintf(w, "Only the oldest %s were counted.\n", thousands(tally.scanned))
		}
	})
}

func groupGrid(groups []deadGroup) *grid {
	g := newGrid(">COUNT", "QUEUE", "FIRST DIED", "LAST DIED", "EXAMPLE", "REASON")
	for _, d := range groups {
		g.row(thousands(d.Count), d.Queue, clockTime(time.Time(d.FirstAt)), clockTime(time.Time(d.LastAt)), d.Example, clip(d.Reason, reasonWidth))
	}
	return g
}

type groupKey struct{ queue, pattern string }

// tallied is a group with its first reason, which is told as it is while all are the same.
type tallied struct {
	deadGroup
	reason string
	same   bool
}

type deadTally struct {
	byKey   map[groupKey]*tallied
	scanned int64
}

func (t *deadTally) add(d weir.DeadLetter) {
	t.scanned++
	reason, _, _ := strings.Cut(d.Reason, "\n")
	reason = strings.TrimSpace(reason)
	key := groupKey{d.Queue, varying.ReplaceAllString(reason, "…")}
	g := t.byKey[key]
	if g == nil && len(t.byKey) >= groupMax {
		key.pattern, reason = groupRest, groupRest
		g = t.byKey[key]
	}
	if g == nil {
		g = &tallied{reason: reason, same: true}
		g.deadGroup = deadGroup{Queue: d.Queue, Reason: key.pattern, FirstAt: stamp(d.DiedAt), LastAt: stamp(d.DiedAt), Example: d.Message.ID}
		t.byKey[key] = g
	}
	g.Count++
	g.same = g.same && g.reason == reason
	if d.DiedAt.Before(time.Time(g.FirstAt)) {
		g.FirstAt = stamp(d.DiedAt)
	}
	g.LastAt = stamp(later(time.Time(g.LastAt), d.DiedAt))
}

// groups gives the groups, the largest first.
func (t *deadTally) groups() []deadGroup {
	out := make([]deadGroup, 0, len(t.byKey))
	for _, g := range t.byKey {
		if g.same {
			g.Reason = g.reason
		}
		out = append(out, g.deadGroup)
	}
	slices.SortFunc(out, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}
