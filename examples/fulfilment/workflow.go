package fulfilment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir"
)

// How long one attempt of a step may take, unless it says otherwise. What has not been done after twice as long never will be:
// weir.Once relies on that when it charges a card again after "there is no charge".
const (
	attemptMax = time.Second
	mailMax    = 400 * time.Millisecond // nobody waits long for a mail
)

const (
	stockEvery = 2 * time.Second // an event may be lost: the warehouse tells only once
	stockMax   = 72 * time.Hour
)

// patient is how a step is tried, unless it says otherwise: a system that is away comes back.
func patient() weir.Retry {
	return weir.Retry{Max: 60, Base: 50 * time.Millisecond, Cap: time.Second}
}

// fulfil is Fulfil's function. What it does to the world has a compensation each, registered before: whether the run fails,
// is cancelled, is abandoned or is past a deadline, the invoice, the money and the stock are given back, and the order is closed last.
func (s *Shop) fulfil(r *weir.Run, o Order) (Receipt, error) {
	weir.Compensate(r, "call-off-order", func(ctx context.Context) error { return s.callOff(ctx, o.ID) })
	receipt, err := s.deliver(r, o)
	if err != nil {
		return Receipt{}, errors.Join(err, s.close(r, o.ID, stateFailed, Receipt{}, err.Error()))
	}
	return receipt, s.close(r, o.ID, stateFulfilled, receipt, "")
}

// deliver does what an order needs of others.
func (s *Shop) deliver(r *weir.Run, o Order) (Receipt, error) {
	if err := s.reserve(r, o); err != nil {
		return Receipt{}, err
	}
	charge, err := s.charge(r, o)
	if err != nil {
		return Receipt{}, err
	}
	// The run may end while billing has not answered: a credit note is for what there is, and for what may come.
	weir.Compensate(r, "credit-invoice", func(ctx context.Context) error { return s.out.Billing.Credit(ctx, o.ID) })
	invoice, err := weir.Step(r, "create-invoice", func(ctx context.Context) (Invoice, error) {
		return s.out.Billing.Create(ctx, weir.IdempotencyKey(ctx), o)
	}, weir.DoneIf(ErrInvoiceExists))
	if err != nil {
		return Receipt{}, err
	}
	mailed := weir.Try(r, "send-mail", func(ctx context.Context) error {
		return s.out.Mail.Send(ctx, o.ID, fmt.Sprintf("Thank you for %s: invoice %s.", o.ID, invoice.Number))
	}, weir.Retry{Max: 3, Base: 50 * time.Millisecond, Cap: 200 * time.Millisecond}, weir.Timeout(cmp.Or(s.attemptMax, mailMax)))
	return Receipt{Charge: charge.ID, Invoice: invoice.Number, Cents: charge.Cents, Mailed: mailed}, nil
}

// reserve waits until the warehouse has what is ordered and reserves it. If somebody else
// reserves it between the look and the deed, it waits again.
func (s *Shop) reserve(r *weir.Run, o Order) error {
	// Before the step, so that a reservation whose answer was lost is released too.
	weir.Compensate(r, "release-stock", func(ctx context.Context) error { return s.out.Warehouse.Release(ctx, o.ID) })
	for {
		for _, item := range o.Items {
			err := weir.Until(r, "stock-available", s.enough(item), weir.Key(item.Dish),
				weir.Every(stockEvery), weir.WakeOn(StockChanged.For(item.Dish)), weir.Within(stockMax))
			if err != nil {
				return err
			}
		}
		err := weir.Do(r, "reserve-stock", func(ctx context.Context) error { return s.out.Warehouse.Reserve(ctx, o) },
			weir.DoneIf(ErrAlreadyReserved), weir.FailIf(ErrOutOfStock))
		if !errors.Is(err, ErrOutOfStock) {
			return err
		}
	}
}

// charge takes the money. The intent is committed first; whatever happens then, the provider
// is asked before anything is tried again.
func (s *Shop) charge(r *weir.Run, o Order) (Charge, error) {
	// Before the step, by the order: a person may give the run up while nobody knows whether there is a charge.
	weir.Compensate(r, "refund-charge", func(ctx context.Context) error { return s.out.Payments.Refund(ctx, o.ID) })
	return weir.Once(r, "charge-card", func(ctx context.Context) (Charge, error) {
		return s.out.Payments.Charge(ctx, weir.IdempotencyKey(ctx), o)
	}, s.findCharge, weir.FailIf(ErrDeclined))
}

// findCharge asks the provider what became of a charge.
func (s *Shop) findCharge(ctx context.Context) (Charge, weir.Outcome, error) {
	c, err := s.out.Payments.Find(ctx, weir.IdempotencyKey(ctx))
	switch {
	case errors.Is(err, ErrNoCharge):
		return c, weir.NotHappened, nil
	case err != nil:
		return c, weir.Unknown, err // asked again, then a person
	}
	return c, weir.Happened, nil
}

// enough is the condition that the warehouse has an item.
func (s *Shop) enough(item Item) func(context.Context) (weir.Met, error) {
	return func(ctx context.Context) (weir.Met, error) {
		n, err := s.out.Warehouse.Free(ctx, item.Dish)
		return weir.When(n >= item.Quantity, "need %d of %s, have %d", item.Quantity, item.Dish, n), err
	}
}

// close writes the end of an order into the shop's own table, in the step's transaction.
func (s *Shop) close(r *weir.Run, id, state string, receipt Receipt, reason string) error {
	_, err := weir.StepTx(r, "close-order", func(ctx context.Context, tx weir.Tx) (struct{}, error) {
		res, err := s.db.SQL(tx).ExecContext(ctx, sqlClose, state, receipt.Charge, receipt.Invoice, receipt.Mailed, reason, id)
		if err != nil {
			return struct{}{}, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return struct{}{}, errors.Join(fmt.Errorf("order %s was never taken", id), err)
		}
		return struct{}{}, nil
	})
	return err
}

// callOff closes an order that was not fulfilled, or is not to be any more, if its workflow has not come to do so.
func (s *Shop) callOff(ctx context.Context, id string) error {
	return s.db.Patient(ctx, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, sqlCallOff, stateFailed, "called off", id)
		return err
	})
}
