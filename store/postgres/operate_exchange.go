package postgres

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

const (
	actLane       = `select` + arrivalRowColumns + `from weir.arrivals where lane = $1 for update`
	actForgetLane = `delete from weir.arrivals where lane = $1`
)

// forgetLane deletes how far a lane is here.
func (o operation) forgetLane() (store.Acted, error) {
	var row *store.ArrivalRow
	err := o.t.get(actLane, func(read scan) error {
		found, err := seeArrival(read)
		row = &found
		return err
	}, o.act.Lane)
	if err == nil && row == nil {
		err = fmt.Errorf("%w: nothing has come on a lane named %q: weir boundary ls lists them", store.ErrNotFound, o.act.Lane)
	}
	if err != nil {
		return store.Acted{}, err
	}
	entry, err := acts.Forgotten(row, at(o.t.now))
	if err != nil {
		return store.Acted{}, err
	}
	o.t.do(actForgetLane, o.act.Lane)
	return store.Acted{Count: 1}, o.audit(entry)
}

// resync writes a person's wish for a snapshot. Of two at once one is the later.
func (o operation) resync() (store.Acted, error) {
	wish := *o.act.State
	var before store.State
	err := o.t.get(askState, func(read scan) (err error) {
		before, err = seeState(read, wish.Entity)
		return err
	}, wish.Entity, wish.Key)
	if err != nil {
		return store.Acted{}, err
	}
	entry, err := acts.Resynced(o.act, &before)
	if err != nil {
		return store.Acted{}, err
	}
	o.t.putStates([]*store.State{&wish})
	if err := o.t.flush(); err != nil {
		return store.Acted{}, err
	}
	if !wish.Applied {
		return store.Acted{}, fmt.Errorf("%w: a later wish for %s came meanwhile", store.ErrConflict, o.act.ID)
	}
	return store.Acted{Count: 1}, o.audit(entry)
}
