package sqlite

import (
	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

const (
	sqlLock      = `select run, n, fence from weir_locks where name = ?1`
	sqlTakeLock  = `insert or replace into weir_locks (name, run, n, fence, since_us) values (?1, ?2, ?3, ?4, ?5)`
	sqlDropLock  = `delete from weir_locks where name = ?1`
	sqlInLine    = `select no from weir_lock_line indexed by weir_lock_line_run where run = ?1 and name = ?2`
	sqlJoinLine  = `insert into weir_lock_line (name, no, run, n, since_us) values (?1, ?2, ?3, ?4, ?5)`
	sqlSetPlace  = `update weir_lock_line set n = ?3 where name = ?1 and no = ?2`
	sqlNextLine  = `select no, run, n from weir_lock_line where name = ?1 order by no limit 1`
	sqlLeaveLine = `delete from weir_lock_line where name = ?1 and no = ?2`
	sqlLocksOf   = `select name from weir_locks indexed by weir_locks_run where run = ?1 order by name`
	sqlLinesOf   = `delete from weir_lock_line indexed by weir_lock_line_run where run = ?1`
)

// act acquires or releases a lock for a leased run.
func (t *commit) act(l *lease, a *store.LockAct) error {
	a.Fence = 0
	if a.Release {
		return t.unlock(l.no, a.Name)
	}
	t.save(l)
	l.ties = true
	t.tables.locks = true
	var holder, n, fence int64
	err := t.j.rows(sqlLock, []any{a.Name}, []any{&holder, &n, &fence}, func() error { return nil })
	if err != nil {
		return err
	}
	switch holder {
	case 0:
		if a.Fence, err = t.fenceNumber(); err != nil {
			return err
		}
		return t.c.exec(sqlTakeLock, a.Name, l.no, a.N, a.Fence, t.now)
	case l.no:
		a.Fence = fence
		return nil
	}
	place, found, err := t.c.number(sqlInLine, l.no, a.Name)
	if err != nil {
		return err
	}
	if found { // it keeps its place
		return t.c.exec(sqlSetPlace, a.Name, place, a.N)
	}
	if place, err = t.fenceNumber(); err != nil {
		return err
	}
	return t.c.exec(sqlJoinLine, a.Name, place, l.no, a.N, t.now)
}

// fenceNumber is the next number for a fence, or a place in a line. They share the
// counter of mail, so that the store's fences ascend whatever becomes of a lock's row.
func (b *runbook) fenceNumber() (int64, error) {
	if b.ours != nil {
		if err := b.collect(); err != nil {
			return 0, err
		}
	}
	return b.next(&b.mails)
}

// unlock gives up a lock, or the place in its line.
func (b *runbook) unlock(run int64, name string) error {
	var holder, n, fence int64
	if err := b.j.rows(sqlLock, []any{name}, []any{&holder, &n, &fence}, func() error { return nil }); err != nil {
		return err
	}
	if holder == run {
		return b.passOn(name)
	}
	var place int64
	if err := b.j.rows(sqlInLine, []any{run, name}, []any{&place}, func() error { return nil }); err != nil || place == 0 {
		return err
	}
	return b.j.exec(sqlLeaveLine, name, place)
}

// passOn gives a lock to the next in its line, who is told by mail; with nobody in
// line it is free.
func (b *runbook) passOn(name string) error {
	var place, run, n int64
	if err := b.j.rows(sqlNextLine, []any{name}, []any{&place, &run, &n}, func() error { return nil }); err != nil {
		return err
	}
	if place == 0 {
		return b.j.exec(sqlDropLock, name)
	}
	fence, err := b.fenceNumber()
	if err != nil {
		return err
	}
	if err := b.j.exec(sqlLeaveLine, name, place); err != nil {
		return err
	}
	if err := b.j.exec(sqlTakeLock, name, run, n, fence, b.now); err != nil {
		return err
	}
	return b.deliver(parcel{run: run, kind: store.Locked, n: n, fence: fence})
}

// leaveLocks gives up all locks of a run, and its places in lines: those first, or
// it might be given a lock that it gives up.
func (t *commit) leaveLocks(run int64) error {
	if err := t.c.exec(sqlLinesOf, run); err != nil {
		return err
	}
	var names []string
	err := t.c.query(sqlLocksOf, []any{run}, func(st *sqlite.Stmt) error {
		names = append(names, st.ColumnText(0))
		return nil
	})
	for _, name := range names {
		if err == nil {
			err = t.passOn(name)
		}
	}
	return err
}
