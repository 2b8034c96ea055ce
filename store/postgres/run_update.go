package postgres

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/runwake"
)

// checkUpdate refuses what no state of the store would make right, texts that PostgreSQL cannot
// keep among it.
func checkUpdate(u *store.RunUpdate) error {
	if err := checks.Update(u); err != nil {
		return err
	}
	for _, r := range u.Records {
		if !storable(r.Name) {
			return fmt.Errorf("record %d: its name %q is no text that PostgreSQL can keep", r.N, r.Name)
		}
	}
	for i := range u.Locks {
		if name := u.Locks[i].Name; !storable(name) {
			return fmt.Errorf("the name of a lock, %q, is no text that PostgreSQL can keep", name)
		}
	}
	return nil
}

// refuseUpdate refuses an update whose run this process does not hold under its epoch,
// and what no state of the store would make right.
func (d *runDesk) refuseUpdate(ch *store.Change) error {
	u := ch.Run
	r := d.rows[int64(u.No)]
	if d.process == 0 || r == nil || r.over || r.freed || r.wake != runwake.LeasedBy(d.process) || r.epoch != u.Epoch {
		return store.ErrFenced
	}
	refused := checkUpdate(u)
	if refused == nil && (len(u.Waits) > 0 || len(u.Unwait) > 0) {
		refused = d.refuseWaits(ch)
	}
	if refused != nil {
		return fmt.Errorf("update run number %d: %w", u.No, refused)
	}
	return nil
}

// tied reports whether an update changes more than its records: then its run's row is locked.
func tied(u *store.RunUpdate) bool {
	return u.Verdict != store.Leased || u.Sober || len(u.Waits)+len(u.Unwait)+len(u.Locks) > 0
}

// wantFor has locked what an update changes, and counts the numbers that it may need. A
// later update in the group, of a run that this one releases, meets the fence.
func (d *runDesk) wantFor(u *store.RunUpdate) {
	r := d.rows[int64(u.No)]
	if tied(u) {
		d.want(r.no)
	}
	d.need += len(u.Waits) + 2*len(u.Locks)
	if u.Verdict == store.Leased {
		return
	}
	r.freed = true
	if u.Verdict != store.Ended {
		d.look = true // for its mail
	} else {
		if r.parent != 0 {
			d.want(r.parent)
			d.need++
		}
		for _, line := range d.locks.lines { // it may be given all it waits for, and pass it on
			for _, p := range line {
				if p.run == r.no {
					d.need += 2
				}
			}
		}
		for _, l := range d.locks.held {
			if l.run == r.no {
				d.need += 2
			}
		}
	}
}

// release carries out the verdict.
func (d *runDesk) release(u *store.RunUpdate, r *runRow) {
	if u.Sober && r.crashes > 0 {
		r.crashes, r.sober = 0, true
	}
	switch u.Verdict {
	case store.Leased:
		return
	case store.Ended:
		d.end(u, r)
		return
	}
	wake := runwake.WaitingUntil(r.crashes, u.Wake)
	if u.Verdict == store.Parked {
		wake, r.reason = runwake.Parked, textOrNull(reasonOf(u.Reason))
	}
	for _, m := range r.mail {
		if runwake.WokenBy(wake, m.kind) {
			wake = runwake.ReadySince(r.crashes, d.now)
		}
	}
	if wake < runwake.UntilSuspect && wake <= d.now || wake >= runwake.Ready && wake < runwake.Leased {
		d.wake(r.workflow)
	}
	r.wake, r.released = wake, true
}

// end ends a run: its parent is told, and all that it waited for or held is gone.
func (d *runDesk) end(u *store.RunUpdate, r *runRow) {
	d.read(r, 1<<63-1)
	r.over, r.ending = true, u
	d.endedBy(r.workflow, u.Outcome)
	d.leaveLocks(r.no)
	if r.parent != 0 {
		d.deliver(parcel{run: r.parent, kind: store.ChildEnded, n: r.parentStep, child: r.no})
	}
}
