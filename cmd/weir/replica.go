package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// replicaCmd is weir replica.
type replicaCmd struct {
	Ls     replicaLsCmd     `cmd:"" help:"Entities that this store owns or follows, with how many and how new."`
	Show   replicaShowCmd   `cmd:"" help:"One of them, or one entry."`
	Resync replicaResyncCmd `cmd:"" help:"Compare a replica with its owner, as if something had been missed."`
}

// replicaView is an entity in JSON.
type replicaView struct {
	Entity   string        `json:"entity"`
	Role     string        `json:"role"`     // "owner" or "follower"
	Live     int64         `json:"live"`     // entries
	Deleted  int64         `json:"deleted"`  // tombstones
	Newest   int64         `json:"newest"`   // the highest version; 0: none
	AsOf     *stamp        `json:"as_of"`    // when the owner made that one; null: none
	Snapshot *snapshotView `json:"snapshot"` // null for an owner
}

// snapshotView is a follower's newest snapshot in JSON.
type snapshotView struct {
	Began  stamp     `json:"began"`
	PageAt stamp     `json:"page_at"` // when its last page came
	Why    string    `json:"why"`
	Done   bool      `json:"done"`
	Loaded bool      `json:"loaded"` // one was completed: what is not here does not exist
	Times  int64     `json:"times"`  // how many were begun, the first included
	Wish   *wishView `json:"wish"`   // the last resync that a person wanted; null: none
	// FreshAt is when the store was last known to have all that the owner had, to half a minute; null: never.
	FreshAt *stamp `json:"fresh_at"`
}

type wishView struct {
	At  stamp  `json:"at"`
	By  string `json:"by"`
	Why string `json:"why"`
	Met bool   `json:"met"` // it was begun
}

func viewReplica(r weir.EntityRow) replicaView {
	v := replicaView{Entity: r.Entity, Role: "owner", Live: r.Live, Deleted: r.Deleted, Newest: r.Newest}
	if r.Newest > 0 {
		at := stamp(r.AsOf)
		v.AsOf = &at
	}
	if s := r.Snapshot; s != nil {
		v.Role = "follower"
		v.Snapshot = &snapshotView{Began: stamp(s.Began), PageAt: stamp(s.PageAt), Why: s.Why, Done: s.Done, Loaded: s.Loaded, Times: s.Times}
		if !s.FreshAt.IsZero() {
			at := stamp(s.FreshAt)
			v.Snapshot.FreshAt = &at
		}
		if s.Wish != nil {
			v.Snapshot.Wish = &wishView{stamp(s.Wish.At), s.Wish.By, s.Wish.Why, s.Wish.Met}
		}
	}
	return v
}

// snapshotState is a follower's state in a few words.
func snapshotState(s *weir.Snapshot, now time.Time) string {
	switch {
	case s == nil:
		return "owner"
	case s.Done:
		return "follows"
	case s.Loaded:
		return "resync since " + age(now, s.Began)
	}
	return "loads since " + age(now, s.Began)
}

// freshness is for how long a store may have missed something of an entity.
func freshness(s *weir.Snapshot, now time.Time) string {
	switch {
	case s == nil:
		return "-"
	case s.FreshAt.IsZero():
		return "never"
	}
	return age(now, s.FreshAt) + " ago"
}

// replicaLsCmd is weir replica ls.
type replicaLsCmd struct{}

// Run lists entities.
func (c *replicaLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	rows, err := e.Entities(a.ctx)
	if err != nil {
		return err
	}
	view := struct {
		Replicas []replicaView `json:"replicas"`
	}{make([]replicaView, len(rows))}
	for i, r := range rows {
		view.Replicas[i] = viewReplica(r)
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(rows) == 0 {
			fmt.Fprintln(w, "No entities: nothing is owned or followed in this store.")
			return
		}
		replicaGrid(rows, time.Now()).write(w)
	})
}

func replicaGrid(rows []weir.EntityRow, now time.Time) *grid {
	g := newGrid("ENTITY", "STATE", ">LIVE", ">DELETED", ">NEWEST", ">AGE", ">EQUAL")
	for _, r := range rows {
		newest := "none"
		if r.Newest > 0 {
			newest = age(now, r.AsOf)
		}
		g.row(clip(r.Entity, keyWidth), snapshotState(r.Snapshot, now), thousands(r.Live), thousands(r.Deleted), fmt.Sprint(r.Newest), newest, freshness(r.Snapshot, now))
		if r.Snapshot != nil && !r.Snapshot.Done {
			g.note("  └ " + clip(r.Snapshot.Why, reasonWidth))
		}
	}
	return g
}

// replicaShowCmd is weir replica show.
type replicaShowCmd struct {
	Entity string `arg:"" help:"The entity's name."`
	ID     string `arg:"" optional:"" help:"The id of one entry."`
}

// Run shows an entity, or one entry of it.
func (c *replicaShowCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if c.ID != "" {
		return c.showEntry(a, e)
	}
	rows, err := e.Entities(a.ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Entity == c.Entity {
			return a.print(viewReplica(r), func(w *tabwriter.Writer) { writeReplica(w, r, time.Now()) })
		}
	}
	return fmt.Errorf("%w: this store has no entity %q: see weir replica ls", weir.ErrNotFound, c.Entity)
}

func writeReplica(w io.Writer, r weir.EntityRow, now time.Time) {
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, safe(value)) }
	line("entity", r.Entity)
	line("state", snapshotState(r.Snapshot, now))
	line("entries", thousands(r.Live))
	line("tombstones", thousands(r.Deleted))
	if r.Newest > 0 {
		line("newest", fmt.Sprintf("version %d of %s, %s ago", r.Newest, clockTime(r.AsOf), age(now, r.AsOf)))
	}
	s := r.Snapshot
	if s == nil {
		return
	}
	line("snapshot", fmt.Sprintf("%s, begun at %s, last page at %s", plural(s.Times, "time"), clockTime(s.Began), clockTime(s.PageAt)))
	line("why", s.Why)
	line("equal", freshness(s, now)+": when the store was last known to have all that the owner had")
	if s.Wish != nil {
		met := "not begun yet"
		if s.Wish.Met {
			met = "begun"
		}
		line("wanted", fmt.Sprintf("at %s by %s: %s (%s)", clockTime(s.Wish.At), s.Wish.By, s.Wish.Why, met))
	}
}

// entryView is an entry in JSON. Its value is as it is stored: JSON, or a text of what is none.
type entryView struct {
	Entity   string `json:"entity"`
	ID       string `json:"id"`
	Version  int64  `json:"version"`
	Contract int    `json:"contract"` // the contract's version in which the value is
	AsOf     stamp  `json:"as_of"`
	Deleted  bool   `json:"deleted"`
	Value    any    `json:"value"` // null of a tombstone
}

func (c *replicaShowCmd) showEntry(a *app, e *weir.Engine) error {
	s, err := e.State(a.ctx, c.Entity, c.ID)
	if err != nil {
		return err
	}
	view := entryView{Entity: s.Entity, ID: s.Key, Version: s.Version, Contract: s.Contract, AsOf: stamp(s.AsOf), Deleted: s.Deleted}
	if !s.Deleted {
		if view.Value = string(s.Body); json.Valid(s.Body) {
			view.Value = json.RawMessage(s.Body)
		}
	}
	return a.print(view, func(w *tabwriter.Writer) {
		line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, safe(value)) }
		line("entity", s.Entity)
		line("id", s.Key)
		line("version", fmt.Sprint(s.Version))
		if s.Deleted {
			line("deleted", clockTime(s.AsOf))
			return
		}
		line("as of", clockTime(s.AsOf))
		fmt.Fprintf(w, "\nvalue (contract version %d)\n  %s\n", s.Contract, strings.ReplaceAll(bodyText(s.Body), "\n", "\n  "))
	})
}

// replicaResyncCmd is weir replica resync.
type replicaResyncCmd struct {
	Entity string `arg:"" help:"The entity that this store follows."`
	becauseFlags
}

// resyncView is a wish for a resync in JSON.
type resyncView struct {
	Entity string `json:"entity"`
	By     string `json:"by"`
	Why    string `json:"why"`
}

// Run wishes for a resync.
func (c *replicaResyncCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.ResyncReplica(a.ctx, c.Entity, c.because()); err != nil {
		return err
	}
	return a.print(resyncView{c.Entity, c.By, c.Why}, func(w *tabwriter.Writer) {
		writeWrapped(w, "", "Wished for a resync of "+safe(c.Entity)+". The process that works this store begins it within seconds: weir replica show "+safe(c.Entity)+".")
	})
}
