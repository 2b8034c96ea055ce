package postgres

import (
	"errors"
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

func checkUpdate(u *store.RunUpdate) error {
	for _, r := range u.Records {
		switch {
		case r == nil:
			return errors.New("a record is nil")
		case r.N < 1 || r.N > store.MaxRecords:
			return fmt.Errorf("record %d: want a number from 1 to %d", r.N, store.MaxRecords)
		case !storable(r.Name):
			return fmt.Errorf("record %d: its name %q is no text that PostgreSQL can keep", r.N, r.Name)
		}
		if err := tooLong("value", r.Value); err != nil {
			return fmt.Errorf("record %d: %w", r.N, err)
		}
	}
	for i := range u.Attempts {
		if n := u.Attempts[i].N; n < 1 || n > store.MaxRecords {
			return fmt.Errorf("attempt of record %d: want a number from 1 to %d", n, store.MaxRecords)
		}
	}
	if len(u.Locks) > store.MaxLocks {
		return fmt.Errorf("%d acts on locks in one update, at most %d", len(u.Locks), store.MaxLocks)
	}
	for i := range u.Locks {
		if a := &u.Locks[i]; a.Name == "" || len(a.Name) > store.MaxRunID || !storable(a.Name) {
			return fmt.Errorf("the name of a lock, %q, has %d bytes, want 1 to %d, in UTF-8 and without NUL", a.Name, len(a.Name), store.MaxRunID)
		}
	}
	if err := tooLong("result", u.Result); err != nil {
		return err
	}
	if u.Verdict > store.Ended {
		return fmt.Errorf("verdict %d: unknown", u.Verdict)
	}
	if u.Verdict == store.Ended && (u.Outcome < store.Completed || u.Outcome > store.Cancelled) {
		return fmt.Errorf("ended with outcome %d: want completed, failed or cancelled", u.Outcome)
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
