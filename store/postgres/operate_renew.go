package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

const (
	// Nobody begins meanwhile, and who waits to takes the new life up.
	actNoLimit      = `select set_config('statement_timeout', '0', true)` // as for a migration
	actNobodyBegins = `lock table weir.processes in share row exclusive mode`
	actWorks        = `select id, pid, host, beat_us from weir.processes where ended_us is null and lost_us is null and beat_us >= $1 order by id limit 1`
)

// renew begins a new life because a person says so: a volume was set back, and the server looks the same.
// Those that worked the store are in that copy as they were, so only who has beaten lately counts.
func (o operation) renew() (store.Acted, error) {
	if !o.act.DryRun {
		o.t.do(actNoLimit)
		o.t.do(sqlMigrationLock, o.s.lockNumber("schema")) // nor does anybody open the store
		o.t.do(actNobodyBegins)
		o.t.do(sqlPartitioner, o.s.lockNumber("partition"))
	}
	if err := o.t.flush(); err != nil {
		return store.Acted{}, err
	}
	var refused error
	err := o.t.get(actWorks, func(read scan) error {
		var id, pid, beat int64
		var host string
		err := read(&id, &pid, &host, &beat)
		refused = fmt.Errorf("%w: process %d (pid %d on %s) works the store, it was last heard of at %s: stop it, or wait %s from then, and try again",
			store.ErrConflict, id, pid, host, at(beat).Format(time.RFC3339), o.s.lease)
		return err
	}, o.t.now-o.s.lease.Microseconds())
	if err != nil || refused != nil {
		return store.Acted{}, errors.Join(err, refused)
	}
	if o.act.DryRun {
		return store.Acted{Count: 1}, nil
	}
	next, err := o.t.rebirth()
	if err != nil {
		return store.Acted{}, err
	}
	if err := o.t.makeRoom(); err != nil { // who sends all along needs it at once
		return store.Acted{}, err
	}
	before := o.s.Info()
	after := before
	after.Incarnation, after.Base = next.Incarnation, next.Base
	return store.Acted{Count: 1}, o.audit(acts.Renewed(before, after))
}

// takeUp has this process, which works nothing, name what it sends and reads by the life that was begun.
func (s *Store) takeUp(ctx context.Context) error {
	return s.read(ctx, func(t *tx) error {
		t.askLives()
		return t.flush()
	})
}
