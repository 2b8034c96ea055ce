package postgres

import (
	"context"
	"errors"

	"github.com/weir-go/weir/store"
)

var errUnfinished = errors.New("not supported by store/postgres yet")

type commit struct{ *tx }

func (s *Store) Declare(context.Context, []store.Topic, []store.Queue) ([]store.QueueState, error) {
	return nil, errUnfinished
}
func (s *Store) Commit(context.Context, *store.Group) error              { return errUnfinished }
func (s *Store) AppendIn(context.Context, store.Tx, *store.Change) error { return errUnfinished }
func (s *Store) Claim(context.Context, store.ClaimRequest) (store.Claimed, error) {
	return store.Claimed{}, errUnfinished
}
func (s *Store) fold(context.Context) error { return nil }

type claimState struct{}
