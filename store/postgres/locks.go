package postgres

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weir-go/weir/store"
)

// locks are what a transaction does to named locks. Who acts on one holds an advisory lock
// of its name until his transaction ends; and the row of one that is held, for operators.
type locks struct {
	held  map[string]*heldLock
	lines map[string][]place // by number

	changed map[string]bool // held
	left    map[string][]int64
	joined  map[string][]place
	moved   map[string][]place // the record that wants it is another
}

type heldLock struct{ run, n, fence, since int64 }

// place is a run's place in the line for a lock.
type place struct{ no, run, n int64 }

const (
	lockNames = `array(select unnest($1::text[]) union select name from weir.locks where run = any($2::bigint[])
		union select name from weir.lock_line where run = any($2::bigint[]))`
	sqlLockNames = `select pg_advisory_xact_lock(u.h) from (
		select distinct hashtextextended(n.name, $3) as h from unnest(` + lockNames + `) as n(name) order by h offset 0) u`
	sqlLocks = `select name, run, n, fence, since_us from weir.locks where name = any(` + lockNames + `) order by name for update`
	// As many of a line as may be given the lock, and those who act.
	sqlLines = `select n.name, l.no, l.run, l.n from unnest(` + lockNames + `) as n(name)
		cross join lateral (select no, run, n from weir.lock_line where name = n.name order by no limit $3) l
		union select name, no, run, n from weir.lock_line where run = any($2::bigint[]) or run = any($4::bigint[])
		order by 1, 2`

	sqlTakeLocks = `insert into weir.locks (name, run, n, fence, since_us)
		select * from unnest($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[])
		on conflict (name) do update set run = excluded.run, n = excluded.n, fence = excluded.fence, since_us = excluded.since_us`
	sqlDropLocks  = `delete from weir.locks where name = any($1::text[])`
	sqlLeaveLines = `delete from weir.lock_line l using unnest($1::text[], $2::bigint[]) as u(name, no) where l.name = u.name and l.no = u.no`
	sqlJoinLines  = `insert into weir.lock_line (name, no, run, n, since_us)
		select u.name, u.no, u.run, u.n, $5 from unnest($1::text[], $2::bigint[], $3::bigint[], $4::int[]) as u(name, no, run, n)`
	sqlSetPlaces = `update weir.lock_line l set n = u.n from unnest($1::text[], $2::bigint[], $3::int[]) as u(name, no, n) where l.name = u.name and l.no = u.no`
)

// askLocks queues a look at locks by their names, and at those of runs that end.
func (d *runDesk) askLocks(names []string, ending, acting []int64, acts int) {
	d.locks.held, d.locks.lines = map[string]*heldLock{}, map[string][]place{}
	d.do(sqlLockNames, names, ending, d.s.lockNumber("lock"))
	d.ask(sqlLocks, func(read scan) error {
		var name string
		var l heldLock
		err := read(&name, &l.run, &l.n, &l.fence, &l.since)
		d.locks.held[name] = &l
		return err
	}, names, ending)
	d.ask(sqlLines, func(read scan) error {
		var name string
		var p place
		err := read(&name, &p.no, &p.run, &p.n)
		d.locks.lines[name] = append(d.locks.lines[name], p)
		return err
	}, names, ending, acts+1, acting)
}

// wantLocked has those in line locked: they may be told that it is their turn.
func (d *runDesk) wantLocked() {
	for _, line := range d.locks.lines {
		for _, p := range line {
			d.want(p.run)
		}
	}
}

// act acquires or releases a lock for a run.
func (d *runDesk) act(r *runRow, a *store.LockAct) {
	a.Fence = 0
	l := d.locks.held[a.Name]
	switch {
	case a.Release:
		d.unlock(r.no, a.Name)
		return
	case l == nil:
		a.Fence = d.next()
		d.hold(a.Name, heldLock{r.no, int64(a.N), a.Fence, d.now})
		return
	case l.run == r.no:
		a.Fence = l.fence
		return
	}
	line := d.locks.lines[a.Name]
	if i := slices.IndexFunc(line, func(p place) bool { return p.run == r.no }); i >= 0 { // it keeps its place
		line[i].n = int64(a.N)
		if d.locks.moved == nil {
			d.locks.moved = map[string][]place{}
		}
		d.locks.moved[a.Name] = append(d.locks.moved[a.Name], line[i])
		return
	}
	p := place{d.next(), r.no, int64(a.N)}
	d.locks.lines[a.Name] = append(line, p)
	if d.locks.joined == nil {
		d.locks.joined = map[string][]place{}
	}
	d.locks.joined[a.Name] = append(d.locks.joined[a.Name], p)
}

func (d *runDesk) hold(name string, l heldLock) {
	d.locks.held[name] = &l
	d.change(name)
}

func (d *runDesk) change(name string) {
	if d.locks.changed == nil {
		d.locks.changed = map[string]bool{}
	}
	d.locks.changed[name] = true
}

// unlock gives up a lock, or the place in its line.
func (d *runDesk) unlock(run int64, name string) {
	if l := d.locks.held[name]; l != nil && l.run == run {
		d.passOn(name)
		return
	}
	d.leaveLine(name, run)
}

// leaveLine takes a run out of a line.
func (d *runDesk) leaveLine(name string, run int64) {
	line := d.locks.lines[name]
	i := slices.IndexFunc(line, func(p place) bool { return p.run == run })
	if i < 0 {
		return
	}
	no := line[i].no
	d.locks.lines[name] = slices.Delete(slices.Clone(line), i, i+1)
	joined := d.locks.joined[name]
	if j := slices.IndexFunc(joined, func(p place) bool { return p.no == no }); j >= 0 {
		d.locks.joined[name] = slices.Delete(joined, j, j+1)
		return
	}
	if d.locks.left == nil {
		d.locks.left = map[string][]int64{}
	}
	d.locks.left[name] = append(d.locks.left[name], no)
}

// passOn gives a lock to the next in its line, who is told by mail; with nobody in line
// it is free.
func (d *runDesk) passOn(name string) {
	line := d.locks.lines[name]
	if len(line) == 0 {
		delete(d.locks.held, name)
		d.change(name)
		return
	}
	next := line[0]
	d.leaveLine(name, next.run)
	fence := d.next()
	d.hold(name, heldLock{next.run, next.n, fence, d.now})
	d.deliver(parcel{run: next.run, kind: store.Locked, n: next.n, fence: fence})
}

// leaveLocks gives up all locks of a run, and its places in lines: those first, or it
// might be given a lock that it gives up.
func (d *runDesk) leaveLocks(run int64) {
	for name := range d.locks.lines {
		d.leaveLine(name, run)
	}
	for _, name := range slices.Sorted(maps.Keys(d.locks.held)) {
		if d.locks.held[name].run == run {
			d.passOn(name)
		}
	}
}

// writeLocks queues what becomes of locks.
func (d *runDesk) writeLocks() {
	var left, joined, moved, taken, free []string
	var leftNos, joinedNos, joinedRuns, movedNos, runs, fences, sinces []int64
	var joinedNs, movedNs, ns []int32
	for _, name := range slices.Sorted(maps.Keys(d.locks.left)) {
		for _, no := range d.locks.left[name] {
			left, leftNos = append(left, name), append(leftNos, no)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.locks.joined)) {
		for _, p := range d.locks.joined[name] {
			joined, joinedNos = append(joined, name), append(joinedNos, p.no)
			joinedRuns, joinedNs = append(joinedRuns, p.run), append(joinedNs, int32(p.n))
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(d.locks.moved), cmp.Compare) {
		last := map[int64]place{}
		for _, p := range d.locks.moved[name] {
			last[p.no] = p
		}
		for no, p := range last {
			moved, movedNos, movedNs = append(moved, name), append(movedNos, no), append(movedNs, int32(p.n))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.locks.changed)) {
		l := d.locks.held[name]
		if l == nil {
			free = append(free, name)
			continue
		}
		taken, runs, ns = append(taken, name), append(runs, l.run), append(ns, int32(l.n))
		fences, sinces = append(fences, l.fence), append(sinces, l.since)
	}
	if len(left) > 0 {
		d.do(sqlLeaveLines, left, leftNos)
	}
	if len(joined) > 0 {
		d.do(sqlJoinLines, joined, joinedNos, joinedRuns, joinedNs, d.now)
	}
	if len(moved) > 0 {
		d.do(sqlSetPlaces, moved, movedNos, movedNs)
	}
	if len(free) > 0 {
		d.do(sqlDropLocks, free)
	}
	if len(taken) > 0 {
		d.do(sqlTakeLocks, taken, runs, ns, fences, sinces)
	}
}
