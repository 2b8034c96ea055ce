package restaurant

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
)

// The kitchen's table: a log of what was cooked, in which a line cooked twice
// would be seen twice.
const sqlKitchen = `
create table if not exists kitchen_cooked (
  line    bigint not null,
  dish    text not null,
  message text not null,
  attempt bigint not null
);
create index if not exists kitchen_cooked_line on kitchen_cooked (line);
`

const sqlCooked = `insert into kitchen_cooked (line, dish, message, attempt) values ($1, $2, $3, $4)`

// Kitchen is the boundary kitchen: it cooks what is on the menu.
type Kitchen struct {
	db   *database.Database // the engine's
	menu Menu
	seed uint64 // of the stove's luck
}

// capacity is how many tickets hang in the kitchen before it takes no more orders.
const capacity = 1000

// register makes known what the kitchen handles.
func (k *Kitchen) register(eng *weir.Engine) {
	weir.Handle(eng, PrepareFood, k.prepare, weir.Queue{
		Capacity: capacity,
		Retry:    weir.Retry{Base: 5 * time.Millisecond, Cap: 200 * time.Millisecond},
		// A line that cannot be cooked must not keep the rest of its order waiting.
		OnDead: weir.Skip,
	})
}

// prepare cooks a line. A ticket that names no dish is refused for good: it goes to
// the dead letters, for somebody to correct or discard. What was cooked, the event
// and the acknowledgement commit together.
func (k *Kitchen) prepare(ctx context.Context, m *weir.Message[Ticket]) error {
	t := m.Body
	dish, err := k.menu.Dish(t.Item)
	if err != nil {
		return weir.Permanent(fmt.Errorf("line %d of order %d: %w", t.Line, t.Order, err))
	}
	if err := k.cook(t, m.Attempt); err != nil {
		return err // tried again, with backoff
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := k.db.SQL(tx).ExecContext(ctx, sqlCooked, t.Line, dish, m.ID, m.Attempt)
		return err
	})
	return weir.Publish(ctx, m, FoodReady, Plate{Order: t.Order, Line: t.Line, Dish: dish})
}

// failureRate is the share of attempts to cook that fail.
const failureRate = 0.05

var errBurnt = errors.New("burnt: cook it again")

// cook fails at times, for the same seed at the same attempts.
func (k *Kitchen) cook(t Ticket, attempt int) error {
	luck := rand.New(rand.NewPCG(k.seed, uint64(t.Line)<<16+uint64(attempt)))
	if luck.Float64() < failureRate {
		return errBurnt
	}
	return nil
}
