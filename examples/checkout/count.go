package checkout

import (
	"context"
	"errors"

	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/checkout/customers"
	"github.com/weir-go/weir/examples/checkout/ordering"
	"github.com/weir-go/weir/examples/checkout/payment"
	"github.com/weir-go/weir/examples/database"
)

// Places are where what became of the orders is written.
type Places struct {
	Stores   map[string]*database.Database // each boundary's; several may share one
	Provider string                        // the payment provider's own file
}

// Count is what became of the carts. What was done to the world is counted from the payment
// provider's own file, the rest from each boundary's own table; the engines are not asked.
type Count struct {
	Orders      int // placed
	Paid        int
	Unpaid      int // the card was declined, or none was given
	NeedsPerson int // payment has not said anything for long
	Open        int // not settled

	ChargedOnce  int // carts with one charge
	ChargedTwice int // with more
	Declined     int // carts whose card the provider has declined, by its file
	PaidInVain   int // charged, and not paid by what ordering has; or of no order at all
	Uncharged    int // paid by what ordering has, without a charge
	Disagreed    int // carts of which ordering and payment say different things

	GreetedStale int // greeted by an older version of their customer than ordering had known before
	Miscounted   int // customers of whom customers has not counted as many orders as ordering has
}

// Wrong says that a promise is broken, or an order not at its end.
func (c *Count) Wrong() bool {
	return c.NeedsPerson+c.Open+c.ChargedTwice+c.PaidInVain+c.Uncharged+c.Disagreed+c.GreetedStale+c.Miscounted > 0
}

// CountAll counts.
func CountAll(ctx context.Context, p Places) (*Count, error) {
	fates, fatesErr := ordering.Fates(ctx, p.Stores[contract.Ordering])
	_, counted, countedErr := customers.All(ctx, p.Stores[contract.Customers])
	paid, paidErr := payment.Paid(ctx, p.Stores[contract.Payment])
	world, worldErr := payment.Outside(ctx, p.Provider)
	if err := errors.Join(fatesErr, countedErr, paidErr, worldErr); err != nil {
		return nil, err
	}
	return tally(fates, counted, paid, world), nil
}

// tally counts what became of the orders, by what each boundary has of them.
func tally(fates map[string]ordering.Fate, counted map[string]int, paid map[string]int64, world payment.World) *Count {
	c := &Count{Orders: len(fates), Declined: world.Declined}
	placed := map[string]int{} // orders, by customer
	for cart, f := range fates {
		charges := world.Charges[cart]
		cents, known := paid[cart]
		placed[f.Customer]++
		c.Paid += one(f.Paid())
		c.Unpaid += one(f.Settled() && !f.Paid())
		c.NeedsPerson += one(f.NeedsPerson())
		c.Open += one(!f.Settled() && !f.NeedsPerson())
		c.Uncharged += one(f.Paid() && charges == 0)
		c.PaidInVain += one(f.Settled() && !f.Paid() && charges > 0)
		c.Disagreed += one(f.Settled() && (f.Paid() != known || f.Paid() && f.Cents != cents))
		c.GreetedStale += one(f.Stale)
	}
	for cart, charges := range world.Charges {
		_, ordered := fates[cart]
		c.ChargedOnce += one(charges == 1)
		c.ChargedTwice += one(charges > 1)
		c.PaidInVain += one(!ordered)
	}
	for customer, n := range placed {
		c.Miscounted += one(counted[customer] != n)
	}
	for customer, n := range counted {
		c.Miscounted += one(n > 0 && placed[customer] == 0)
	}
	return c
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Progress is how far the work is, at the price of a look.
type Progress struct {
	Placed  int // orders
	Open    int // of those, not settled
	Charged int // bills that payment has settled
	Counted int // orders that customers has counted
	Changes int // of customers
}

// Settled says whether all carts are ordered and at their end, everywhere.
func (p Progress) Settled(carts int) bool {
	return p.Placed == carts && p.Open == 0 && p.Counted == carts
}

// Look reads how far the work is from the boundaries' tables.
func Look(ctx context.Context, stores map[string]*database.Database) (Progress, error) {
	var p Progress
	var orderingErr, paymentErr, customersErr error
	p.Placed, p.Open, orderingErr = ordering.Look(ctx, stores[contract.Ordering])
	p.Charged, paymentErr = payment.Look(ctx, stores[contract.Payment])
	p.Counted, p.Changes, customersErr = customers.Look(ctx, stores[contract.Customers])
	return p, errors.Join(orderingErr, paymentErr, customersErr)
}

// Unequal lists the customers of whom ordering's replica does not say what customers has.
func Unequal(ctx context.Context, s *Shoppers, stores map[string]*database.Database) (unequal []string, err error) {
	are, _, err := customers.All(ctx, stores[contract.Customers])
	if err != nil {
		return nil, err
	}
	return s.Unequal(ctx, are)
}
