package sqlite

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

const (
	arrivalOf     = `select lane, batch, ix, last, at_us, arrived, jumps, drained_us from weir_arrivals where lane = ?1`
	deleteArrival = `delete from weir_arrivals where lane = ?1`
)

// forgetLane deletes how far a lane is here.
func (o operation) forgetLane() (store.Acted, error) {
	var row *store.ArrivalRow
	err := o.c.query(arrivalOf, []any{o.act.Lane}, func(st *sqlite.Stmt) error {
		found := arrivalRow(st)
		row = &found
		return nil
	})
	if err == nil && row == nil {
		err = fmt.Errorf("%w: nothing has come on a lane named %q: weir boundary ls lists them", store.ErrNotFound, o.act.Lane)
	}
	if err != nil {
		return store.Acted{}, err
	}
	entry, err := acts.Forgotten(row, o.now)
	if err == nil {
		err = o.c.exec(deleteArrival, o.act.Lane)
	}
	if err != nil {
		return store.Acted{}, err
	}
	return store.Acted{Count: 1}, o.audit(entry)
}

// resync writes a person's wish for a snapshot.
func (o operation) resync() (store.Acted, error) {
	wish := *o.act.State
	var before store.State
	err := o.c.query(stateOf, []any{wish.Entity, wish.Key}, func(st *sqlite.Stmt) error {
		before.Version, before.AsOf = st.ColumnInt64(2), moment(st, 4)
		return nil
	})
	if err != nil {
		return store.Acted{}, err
	}
	entry, err := acts.Resynced(o.act, &before)
	if err != nil {
		return store.Acted{}, err
	}
	a := newAppender(o.c, o.s.lives(), o.now)
	if err := a.writeStates([]store.State{wish}); err != nil {
		return store.Acted{}, err
	}
	if err := a.closeEntities(); err != nil {
		return store.Acted{}, err
	}
	return store.Acted{Count: 1}, o.audit(entry)
}
