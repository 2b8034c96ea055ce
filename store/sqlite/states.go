package sqlite

import (
	"time"

	"github.com/weir-go/weir/store"
)

// entity is what there are states of, with its counters: read once in a transaction, and
// written back once.
type entity struct {
	id, live, deleted    int64
	newest, asOf, change int64
	dirty                bool
}

const (
	sqlEntity    = `select id, live, deleted, newest, as_of_us, changed from weir_entities where name = ?1`
	sqlNewEntity = `insert into weir_entities (name) values (?1) returning id`
	sqlSetEntity = `update weir_entities set live = ?2, deleted = ?3, newest = ?4, as_of_us = ?5, changed = ?6 where id = ?1`

	sqlVersion  = `select id, version, body is null from weir_states indexed by weir_states_key where entity = ?1 and key = ?2`
	sqlNewState = `insert into weir_states (id, entity, key, version, contract, as_of_us, body) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)`
	sqlSetState = `update weir_states set id = ?2, version = ?3, contract = ?4, as_of_us = ?5, body = ?6 where id = ?1`
)

// entity finds what there are states of, and makes it known if it is new.
func (a *appender) entity(name string) (*entity, error) {
	if e := a.entities[name]; e != nil {
		return e, nil
	}
	e := &entity{}
	err := a.j.rows(sqlEntity, []any{name}, []any{&e.id, &e.live, &e.deleted, &e.newest, &e.asOf, &e.change}, func() error { return nil })
	if err == nil && e.id == 0 {
		err = a.j.rows(sqlNewEntity, []any{name}, []any{&e.id}, func() error { return nil })
	}
	if err != nil {
		return nil, err
	}
	if a.entities == nil {
		a.entities = map[string]*entity{}
	}
	a.entities[name] = e
	return e, nil
}

// writeStates writes a change's states, after its sends have got their places.
func (a *appender) writeStates(states []store.State) error {
	for i := range states {
		st := &states[i]
		if m := st.Of; m != nil {
			st.Version, st.AsOf = m.Stamp, m.SentAt
		}
		e, err := a.entity(st.Entity)
		if err != nil {
			return err
		}
		if st.Applied, err = a.writeState(e, st); err != nil {
			return err
		}
	}
	return nil
}

// writeState writes a state unless what the store has is as new.
func (a *appender) writeState(e *entity, st *store.State) (applied bool, err error) {
	var id, version, wasDeleted int64
	err = a.j.rows(sqlVersion, []any{e.id, st.Key}, []any{&id, &version, &wasDeleted}, func() error { return nil })
	if err != nil || id != 0 && version >= st.Version {
		return false, err
	}
	if id != 0 {
		e.count(wasDeleted != 0, -1)
	}
	e.count(st.Deleted, 1)
	e.change++
	e.dirty = true
	if st.Version > e.newest {
		e.newest, e.asOf = st.Version, us(st.AsOf)
	}
	var body any
	if !st.Deleted {
		body = notNull(st.Body)
	}
	next := e.id<<numberBits | e.change
	if id == 0 {
		return true, a.j.exec(sqlNewState, next, e.id, st.Key, st.Version, int64(st.Contract), us(st.AsOf), body)
	}
	return true, a.j.exec(sqlSetState, id, next, st.Version, int64(st.Contract), us(st.AsOf), body)
}

func (e *entity) count(deleted bool, n int64) {
	if deleted {
		e.deleted += n
	} else {
		e.live += n
	}
}

// closeEntities writes the counters back.
func (a *appender) closeEntities() error {
	for _, e := range a.entities {
		if !e.dirty {
			continue
		}
		if err := a.j.exec(sqlSetEntity, e.id, e.live, e.deleted, e.newest, e.asOf, e.change); err != nil {
			return err
		}
	}
	return nil
}

// forgetStates takes back what callers see of states that did not come about.
func forgetStates(states []store.State) {
	for i := range states {
		st := &states[i]
		st.Applied = false
		if st.Of != nil {
			st.Version, st.AsOf = 0, time.Time{}
		}
	}
}
