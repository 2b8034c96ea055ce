package postgres

import (
	"context"

	"github.com/weir-go/weir/store"
)

// The second engineer's part.

func (s *Store) Operate(context.Context, store.Act) (store.Acted, error) {
	return store.Acted{}, errUnfinished
}
func (s *Store) Prune(context.Context, store.Retention) (store.Pruned, error) {
	return store.Pruned{}, errUnfinished
}
func (s *Store) Reader() store.Reader { return nil }

var _ store.Store = (*Store)(nil)
