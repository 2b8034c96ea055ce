// Package fulfilment is a complete program on weir: an order is fulfilled by four
// systems that are not ours (package outside), over a network on which each of them may fail.
//
//	stock-available   wait until the warehouse has what is ordered
//	reserve-stock     once, or it has been done before; undone by release-stock
//	charge-card       never twice: the provider refuses no duplicate; undone by refund-charge
//	create-invoice    billing may say that there is one; undone by credit-invoice
//	send-mail         may fail: the order does not
//	close-order       a row of our own, in the transaction of the step; undone by call-off-order
//
// What is to be undone, when a run fails or is cancelled, is told to the others by the order, and they take it for what was
// done and for what may still be on its way to them. So it can be asked for twice, and when nothing was done.
//
// The process may be killed at any moment, and so may the systems: started again, it starts a
// run for each order again, which does nothing for those that are there, and each run
// goes on from its recorded steps. count.go counts what was done to the world, from the
// files of those to whom it was done.
package fulfilment

import "github.com/weir-go/weir"

// Fulfil is the workflow. Its runs have their orders' IDs.
var Fulfil = weir.NewWorkflow[Order, Receipt]("orders.fulfil")

// StockChanged tells that there is more of a dish than there was. The warehouse knows
// nothing of weir: it calls, and the shop publishes in its name.
var StockChanged = weir.NewEvent[Stock]("warehouse.stock-changed", weir.KeyedBy(Stock.Key))

// Stock is a dish in the warehouse.
type Stock struct {
	Dish string `json:"dish"`
}

// Key is the key of all that is told of the dish.
func (s Stock) Key() string { return s.Dish }

// Receipt is what a fulfilled order comes to.
type Receipt struct {
	Charge  string `json:"charge"`
	Invoice string `json:"invoice"`
	Cents   int64  `json:"cents"`
	Mailed  bool   `json:"mailed"`
}
