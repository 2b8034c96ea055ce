package postgres

import (
	"context"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// What only one process does is a row with whose it is. Who finds one free takes a lock, so that
// his next statement sees what others have taken, and takes it.

const (
	dutyFree  = ` not exists (select 1 from weir.processes p where p.id = d.process and p.ended_us is null and p.lost_us is null) `
	sqlDuties = `select u.name, coalesce(d.process, 0), coalesce(` + dutyFree + `, true)
		from unnest($1::text[]) as u(name) left join weir.duties d on d.name = u.name`
	sqlTakeDuties = `insert into weir.duties as d (name, process) select u.name, $2 from unnest($1::text[]) as u(name)
		on conflict (name) do update set process = excluded.process where` + dutyFree + `returning d.name`
	sqlLeaveDuties = `delete from weir.duties where process = $1`
	pruneDuties    = `delete from weir.duties d where not exists (select 1 from weir.processes p where p.id = d.process)`
)

// claimDuties takes those that are free, and says which are this process's.
func (s *Store) claimDuties(ctx context.Context, r store.ClaimRequest, process int64) (store.Claimed, error) {
	if refused := checks.Duties(r); refused != nil {
		return store.Claimed{}, refused
	}
	ours := map[string]bool{}
	err := s.claimTx(ctx, func(t *tx) error {
		clear(ours)
		t.again = true // what is ours stays so
		var free []string
		err := t.get(sqlDuties, func(read scan) error {
			var name string
			var owner int64
			var gone bool
			err := read(&name, &owner, &gone)
			if owner == process {
				ours[name] = true
			} else if gone {
				free = append(free, name)
			}
			return err
		}, r.Duties)
		if t.quit = len(free) == 0; err != nil || t.quit {
			return err
		}
		t.do(sqlQueueLock, s.lockNumber("duties"))
		return t.get(sqlTakeDuties, func(read scan) error {
			var name string
			err := read(&name)
			ours[name] = true
			return err
		}, free, process)
	})
	if err != nil {
		return store.Claimed{}, err
	}
	var claimed store.Claimed
	for _, name := range r.Duties {
		if ours[name] {
			claimed.Duties = append(claimed.Duties, name)
		}
	}
	return claimed, nil
}
