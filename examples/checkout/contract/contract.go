// Package contract is all that the three boundaries of the checkout know of each other: what
// they ask, what they tell, and what they let others have a copy of.
//
// Nothing here could hold a card. Its number goes from the shopper to payment, and ordering
// names no more than the cart when it wants that charged.
package contract

import "github.com/weir-go/weir"

// The boundaries.
const (
	Ordering  = "ordering"
	Payment   = "payment"
	Customers = "customers"
)

// Boundaries are all of them.
func Boundaries() []string { return []string{Customers, Payment, Ordering} }

// OrderPlaced tells that a cart was ordered. It carries IDs: who wants to know more asks for it,
// or follows the customers.
var OrderPlaced = weir.NewEvent[Placed]("ordering.order-placed", weir.KeyedBy(Placed.Key))

// Placed is a cart that was ordered.
type Placed struct {
	Cart     string `json:"cart"`
	Customer string `json:"customer"`
}

// Key is the customer's: what one of them orders is told in its order.
func (p Placed) Key() string { return p.Customer }

// ChargeCart asks payment to charge a cart, to the card that its shopper has given there. The
// reply says whether that will be done; what came of it is told by CartSettled.
var ChargeCart = weir.NewRequest[Bill, Taken]("payment.charge-cart", weir.KeyedBy(Bill.Key))

// Bill is what a cart costs.
type Bill struct {
	Cart  string `json:"cart"`
	Cents int64  `json:"cents"`
}

// Key is the cart's.
func (b Bill) Key() string { return b.Cart }

// Taken is payment's answer to a bill.
type Taken struct {
	Card bool `json:"card"` // there is one; else the cart cannot be charged
}

// CartSettled tells what came of a bill that was taken.
var CartSettled = weir.NewEvent[Settlement]("payment.cart-settled", weir.KeyedBy(Settlement.Key))

// Settlement is what came of a bill.
type Settlement struct {
	Cart   string `json:"cart"`
	Paid   bool   `json:"paid"`
	Charge string `json:"charge,omitempty"` // at the payment provider
	Reason string `json:"reason,omitempty"` // why it is not paid
}

// Key is the cart's.
func (s Settlement) Key() string { return s.Cart }

// CustomerEntity is who the customers are. The boundary customers owns them; ordering follows.
var CustomerEntity = weir.NewEntity[Customer]("customers.customer")

// Customer is one of them.
type Customer struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Discount int64  `json:"discount"` // percent
}
