package postgres

import "github.com/weir-go/weir/store"

var _ store.Store = (*Store)(nil)
