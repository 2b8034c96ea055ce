// Package restaurant is a complete program on weir: wait staff and kitchen, two
// boundaries in one store or in one each, and an order book that flows through them.
//
//	wait-staff                              kitchen
//	takes an order ── kitchen.prepare-food ─▶ cooks it, or refuses it
//	serves it     ◀─ kitchen.food-ready ──── (subscriber wait-staff.serve-food)
//
// Each boundary has tables of its own, in the database of the messages. What belongs
// together commits together:
//
//   - the wait staff's transaction holds the order, its lines and a command for
//     each line (waitstaff.go);
//   - the kitchen's holds what it cooked, the event and the acknowledgement of the
//     command (kitchen.go);
//   - the wait staff's second one holds the serving, the closed order and the
//     acknowledgement of the event.
//
// So the process may be killed at any moment: started again, it takes the orders
// that it had not taken and works the messages that it had not worked, and nothing
// is lost or served twice. On PostgreSQL several processes work side by side, and any of
// them, or the database, may be killed. count.go counts that, from the boundaries' own tables.
//
// Whether the boundaries share a process and a database, or have one each and a broker between
// them, is told by Config alone: nothing else knows. Then each of the three may be killed, and a
// side that is away is noticed by nobody until its messages have filled the other's outbox.
//
// All messages of an order have its key, so that weir trace order-42 tells its story.
package restaurant

import (
	"strconv"

	"github.com/weir-go/weir"
)

// The kitchen owns what it is asked and what it tells; others import it.
var (
	// PrepareFood asks the kitchen for one line of an order.
	PrepareFood = weir.NewCommand[Ticket]("kitchen.prepare-food", weir.KeyedBy(Ticket.OrderKey))
	// FoodReady tells that a line of an order is on the pass.
	FoodReady = weir.NewEvent[Plate]("kitchen.food-ready", weir.KeyedBy(Plate.OrderKey))
)

// Ticket is one line of an order, as the kitchen gets it. Item is what was written
// on it: whether it can be cooked is for the kitchen to say.
type Ticket struct {
	Order int64  `json:"order"`
	Line  int64  `json:"line"`
	Item  string `json:"item"`
}

// OrderKey is the key of all messages about the ticket's order.
func (t Ticket) OrderKey() string { return OrderKey(t.Order) }

// Plate is a cooked line of an order.
type Plate struct {
	Order int64  `json:"order"`
	Line  int64  `json:"line"`
	Dish  string `json:"dish"`
}

// OrderKey is the key of all messages about the plate's order.
func (p Plate) OrderKey() string { return OrderKey(p.Order) }

// OrderKey is an order's business key: "order-42".
func OrderKey(order int64) string { return "order-" + strconv.FormatInt(order, 10) }
