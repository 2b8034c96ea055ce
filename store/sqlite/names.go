package sqlite

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
)

const (
	sqlOfOrigin = `select pos from weir_messages indexed by weir_messages_origin where origin > ?1 and origin < ?2
		union all select pos from weir_kept indexed by weir_kept_origin where origin > ?1 and origin < ?2 limit 1`
	sqlOriginAt = `select origin from weir_messages where pos = ?1 and origin is not null
		union all select origin from weir_kept where pos = ?1 and origin is not null limit 1`
)

// ofOrigin is the position of the message that has an ID from elsewhere; 0 when there is none.
func ofOrigin(j journal, id string) (pos int64, err error) {
	low, high := origin.Range(id)
	return pos, j.rows(sqlOfOrigin, []any{low, high}, []any{&pos}, func() error { return nil })
}

// nameOf is the ID of the message at a position: that of its origin if it has one.
func nameOf(j journal, l lives.Lives, pos int64) (string, error) {
	id, value := l.ID(store.Pos(pos)), ""
	err := j.rows(sqlOriginAt, []any{pos}, []any{&value}, func() error {
		o, err := origin.Unpack(value)
		if err == nil {
			id = o.ID
		}
		return err
	})
	return id, err
}

// locate is the position behind an ID given by a person: of this store's own, or one that came
// from elsewhere.
func (s *Store) locate(c *conn, id string) (int64, error) {
	l := s.lives()
	if pos, ok := l.Local(id); ok {
		return int64(pos), nil
	}
	pos, err := ofOrigin(c, id)
	if pos != 0 || err != nil {
		return pos, err
	}
	inc, _, err := store.ParseID(id)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	for i := range l {
		if l[i].Incarnation == inc {
			return 0, fmt.Errorf("%w: message %s was lost with what came after the backup that this store was restored from", store.ErrNotFound, id)
		}
	}
	return 0, fmt.Errorf("%w: message %s is of store %s, this is %s, and it is not here either, or not any more: look there",
		store.ErrNotFound, id, inc, l.Current().Incarnation)
}
