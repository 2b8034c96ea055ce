package sqlite

import (
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// jumpedWithin is for how long a lane on which something is missing for good is told of:
// nothing mends it, so it is not told for ever.
const jumpedWithin = 24 * time.Hour

// laneFindings is how many such lanes are named one by one.
const laneFindings = 3

// checkedStates is how many states of an entity are counted: with more, it is not counted at all.
const checkedStates = 10_000

const (
	countStates = `select count(body), count(*) - count(body), coalesce(max(version), 0)
		from (select body, version from weir_states where id > ?1 and id < ?2 limit ?3)`
	jumpedLanes = `select lane, jumps, jumped_us from weir_arrivals where jumped_us > ?1 order by jumped_us desc limit ?2`
	// manyLanes is a scan of at most MaxLanes rows: it is for a doctor.
	manyLanes = `select sender, n from (select substr(lane, 1, instr(lane || '/', '/') - 1) as sender, count(*) as n from weir_arrivals group by 1)
		where n >= ?1 union all select '', count(*) from weir_arrivals having count(*) >= ?2 order by n desc limit ?3`
	allEntities = `select id, name, live, deleted, newest from weir_entities order by name limit ?1`
)

// exchange looks at what goes between stores.
func (k *checkup) exchange() error {
	for _, check := range []func() error{k.life, k.lanes} {
		if err := check(); err != nil {
			return err
		}
	}
	return k.entities()
}

func (k *checkup) lanes() error {
	err := k.c.query(manyLanes, []any{checks.ManyLanesFrom, checks.ManyLanes, laneFindings}, func(s *sqlite.Stmt) error {
		k.found(checks.LaneFinding(s.ColumnText(0), s.ColumnInt64(1)))
		return nil
	})
	if err != nil {
		return err
	}
	return k.c.query(jumpedLanes, []any{us(k.now.Add(-jumpedWithin)), laneFindings}, func(s *sqlite.Stmt) error {
		k.found(fmt.Sprintf("on lane %s something is missing that its sender could not give any more, last noticed at %s (%d times in all)",
			s.ColumnText(0), moment(s, 2).Format(time.RFC3339), s.ColumnInt64(1)),
			"look at the sender's log for what it was; keep its messages for longer than its receivers may be away (Config.Keep)")
		return nil
	})
}

// entities compares their counters with what they have.
func (k *checkup) entities() error {
	type row struct {
		id, live, deleted, newest int64
		name                      string
	}
	var rows []row
	err := k.c.query(allEntities, []any{store.MaxList}, func(s *sqlite.Stmt) error {
		rows = append(rows, row{s.ColumnInt64(0), s.ColumnInt64(2), s.ColumnInt64(3), s.ColumnInt64(4), s.ColumnText(1)})
		return nil
	})
	for _, r := range rows {
		if err != nil {
			return err
		}
		if r.live+r.deleted > checkedStates {
			continue
		}
		after, below := idRange(r.id)
		err = k.c.query(countStates, []any{after, below, checkedStates + 1}, func(s *sqlite.Stmt) error {
			if live, deleted := s.ColumnInt64(0), s.ColumnInt64(1); live != r.live || deleted != r.deleted {
				k.found(fmt.Sprintf("the counters of %s say that it has %d states and %d tombstones, counted are %d and %d", r.name, r.live, r.deleted, live, deleted),
					"this is a bug in weir, please report it with the output of weir doctor; what is kept of "+r.name+" is not concerned")
			}
			if newest := s.ColumnInt64(2); newest > r.newest {
				k.found(fmt.Sprintf("%s has a state of version %d, and its newest is said to be %d", r.name, newest, r.newest),
					"this is a bug in weir, please report it with the output of weir doctor; copies of "+r.name+" may be behind without noticing")
			}
			return nil
		})
	}
	return err
}

// life compares the store's newest life with how far its messages are: a file put together from
// several, or edited by hand, would give out IDs that there have been.
func (k *checkup) life() error {
	reached, _, err := k.c.number(sqlSeq)
	if err != nil {
		return err
	}
	if l := k.s.lives().Current(); reached < l.First-1 {
		k.found(fmt.Sprintf("the store's life %s began with message number %d, and %d is the newest", l.Incarnation, l.First, reached),
			"the file is not as weir left it: stop all writers and restore the latest backup, then run weir store renew")
	}
	return nil
}
