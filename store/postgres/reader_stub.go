package postgres

import (
	"context"

	"github.com/weir-go/weir/store"
)

func (r reader) Check(context.Context) ([]store.Finding, error) { return nil, errUnfinished }
