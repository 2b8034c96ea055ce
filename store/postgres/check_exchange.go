package postgres

import (
	"fmt"
	"time"

	"github.com/weir-go/weir/store/internal/checks"
)

const (
	// jumpedWithin is for how long a lane on which something is missing for good is told of: nothing mends it.
	jumpedWithin = 24 * time.Hour
	laneFindings = 3 // such lanes named one by one

	// checkedStates is how many states of an entity are counted: with more, it is not counted at all.
	checkedStates = 10_000

	askCountedStates = `select count(*) filter (where not deleted), count(*) filter (where deleted)
		from (select deleted from weir.states where entity = $1 order by key limit $2) s`
	// askManyLanes is a scan of at most MaxLanes rows: it is for a doctor.
	askManyLanes = `select sender, n from (select split_part(lane, '/', 1) as sender, count(*) as n from weir.arrivals group by 1) s
		where n >= $1 union all select '', count(*) from weir.arrivals having count(*) >= $2 order by 2 desc limit $3`
	askJumped = `select lane, jumps, jumped_us from weir.arrivals where jumped_us > $1 order by jumped_us desc limit $2`
)

// lanes looks for what senders could not give any more.
func (k *checkup) lanes() error {
	err := k.t.get(askManyLanes, func(read scan) error {
		var sender string
		var n int64
		err := read(&sender, &n)
		k.found(checks.LaneFinding(sender, n))
		return err
	}, checks.ManyLanesFrom, checks.ManyLanes, laneFindings)
	if err != nil {
		return err
	}
	return k.t.get(askJumped, func(read scan) error {
		var lane string
		var jumps, when int64
		err := read(&lane, &jumps, &when)
		k.found(fmt.Sprintf("on lane %s something is missing that its sender could not give any more, last noticed at %s (%d times in all)",
			lane, at(when).Format(time.RFC3339), jumps),
			"look at the sender's log for what it was; keep its messages for longer than its receivers may be away (Config.Retention)")
		return err
	}, us(k.now.Add(-jumpedWithin)), laneFindings)
}

// life compares the store's newest life with how far its numbers are: a schema put together from several, or
// edited by hand, would give out IDs that there have been.
func (k *checkup) life() error {
	k.t.askLives()
	reached, _, err := k.t.number(sqlLastSeq)
	if err != nil {
		return err
	}
	if l := k.s.lives().Current(); reached < l.First-1 {
		k.found(fmt.Sprintf("the store's life %s began with message number %d, and %d is the newest", l.Incarnation, l.First, reached),
			"the schema is not as weir left it: stop all who send, and restore the latest backup; then run weir store renew")
	}
	return nil
}

// entities compares their counters with what they have.
func (k *checkup) entities() error {
	rows, err := readEntities(k.t)
	for i := range rows {
		r := &rows[i]
		if err != nil || r.Live+r.Deleted > checkedStates {
			continue
		}
		var live, deleted int64
		err = k.t.get(askCountedStates, func(read scan) error { return read(&live, &deleted) }, r.Entity, checkedStates+1)
		if live != r.Live || deleted != r.Deleted {
			k.found(fmt.Sprintf("the counters of %s say that it has %d states and %d tombstones, counted are %d and %d", r.Entity, r.Live, r.Deleted, live, deleted),
				"this is a bug in weir, please report it with the output of weir doctor; what is kept of "+r.Entity+" is not concerned")
		}
	}
	return err
}
