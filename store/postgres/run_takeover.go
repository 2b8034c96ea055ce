package postgres

import "github.com/weir-go/weir/store/internal/runwake"

const (
	// The owners of leased runs are found by leaps through the index, from one to the next.
	sqlGoneOwners = `select distinct o.process from weir.workflows w cross join lateral (
			with recursive owners(wake) as (
				(select r.wake from weir.runs r where r.workflow = w.id and r.wake >= $1 and r.wake < $2 order by r.wake limit 1)
				union all
				select (select r.wake from weir.runs r where r.workflow = w.id and r.wake > o.wake and r.wake < $2 order by r.wake limit 1)
				from owners o where o.wake is not null)
			select wake - $1::bigint as process from owners where wake is not null) o
		where ($3::int = 0 or w.id = $3::int)
		and not exists (select 1 from weir.processes p where p.id = o.process and p.ended_us is null and p.lost_us is null)`
	sqlTryProcess  = `select pg_try_advisory_xact_lock($1)`
	sqlHoldProcess = `select pg_advisory_xact_lock($1)`
	// One that ends hands its runs back: what is leased then was left uncleanly.
	// Found and locked once, whatever is joined with what.
	leasedRuns  = `with o as materialized (select no from weir.runs where workflow in (select id from weir.workflows) and wake = $1 order by no for no key update) `
	sqlTakeRuns = leasedRuns + `update weir.runs r set crashes = r.crashes + 1, wake = $2::bigint - (least(r.crashes + 1, $3::int)::bigint << $4::int)
		from o where r.no = o.no`
	sqlHandBackRuns = leasedRuns + `update weir.runs r set wake = case when r.crashes = 0 then $2::bigint | $3::bigint
			else $3::bigint - (least(r.crashes, $4::int)::bigint << $5::int) end
		from o where r.no = o.no`
)

// beginRuns makes ready what lost processes had leased, with one crash more. The
// transaction is Begin's.
func (s *Store) beginRuns(t *tx) error {
	s.runs.mu.Lock()
	s.runs.given, s.runs.written = nil, written{}
	s.runs.mu.Unlock()
	s.runs.credits.forget()
	gone, err := t.numbers(sqlGoneOwners, runwake.Leased, runwake.Mail, 0)
	if err != nil {
		return err
	}
	return s.takeRuns(t, gone)
}

// takeRuns takes runs over from processes that are gone. One that is about to commit
// something is left for later: it is refused, or is not, before its runs are looked at.
func (s *Store) takeRuns(t *tx, gone []int64) error {
	for _, process := range gone {
		free := false
		if err := t.get(sqlTryProcess, func(read scan) error { return read(&free) }, s.processLock(process)); err != nil {
			return err
		}
		if free {
			t.do(sqlTakeRuns, runwake.LeasedBy(process), t.now, runwake.CrashesMax, runwake.CrashBits)
		}
	}
	return t.flush()
}

// endRuns hands back the runs that a process leases, when nothing of its own is under way.
func (s *Store) endRuns(t *tx, process int64) error {
	t.do(sqlHoldProcess, s.processLock(process))
	t.do(sqlHandBackRuns, runwake.LeasedBy(process), runwake.Ready, t.now, runwake.CrashesMax, runwake.CrashBits)
	return nil
}
