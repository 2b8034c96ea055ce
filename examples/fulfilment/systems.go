package fulfilment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// What the outside systems answer, for a workflow to decide on. All else is an error to try
// again after.
var (
	ErrAlreadyReserved = errors.New("the warehouse has reserved this order's dishes before")
	ErrOutOfStock      = errors.New("somebody was faster: the warehouse has too little left")
	ErrDeclined        = errors.New("the card is declined")
	ErrNoCharge        = errors.New("there is no charge with this key")
	ErrInvoiceExists   = errors.New("billing has an invoice of this order")
)

// Addresses are where the outside systems are: "http://127.0.0.1:4711".
type Addresses struct{ Warehouse, Payments, Billing, Mail string }

// Warehouse is the warehouse, seen from here.
type Warehouse struct{ client }

// Free is how many units of a dish can be reserved.
func (w *Warehouse) Free(ctx context.Context, dish string) (int64, error) {
	var stock struct {
		Free int64 `json:"free"`
	}
	_, err := w.ask(ctx, request{method: http.MethodGet, path: "/stock" + segment(dish), out: &stock})
	return stock.Free, err
}

// Reserve reserves all that an order needs, or nothing: then there is too little, which is
// ErrOutOfStock, or it has been done before, which is ErrAlreadyReserved.
func (w *Warehouse) Reserve(ctx context.Context, o Order) error {
	_, err := w.ask(ctx, request{method: http.MethodPost, path: "/reservations" + segment(o.ID), in: map[string]any{"items": o.Items}})
	f, ok := errors.AsType[*failure](err)
	switch {
	case ok && f.What == "already-reserved":
		return ErrAlreadyReserved
	case ok && f.What == "out-of-stock":
		return fmt.Errorf("%w: %s", ErrOutOfStock, f.Reason)
	}
	return err
}

// Release gives back what is reserved for an order, if anything is. Nothing will be afterwards.
func (w *Warehouse) Release(ctx context.Context, order string) error {
	_, err := w.ask(ctx, request{method: http.MethodDelete, path: "/reservations" + segment(order)})
	return err
}

// Watch asks to be told of deliveries: a POST to address, for each dish.
func (w *Warehouse) Watch(ctx context.Context, address string) error {
	_, err := w.ask(ctx, request{method: http.MethodPut, path: "/watcher", in: map[string]string{"url": address}})
	return err
}

// Payments is the payment provider. It refuses no duplicate: each Charge that reaches it is
// a charge.
type Payments struct{ client }

// Charge is money that was taken.
type Charge struct {
	ID    string `json:"id"`
	Key   string `json:"key"`
	Order string `json:"order"`
	Cents int64  `json:"cents"`
}

// Charge takes an order's money, under a key to find it by; or ErrDeclined.
func (p *Payments) Charge(ctx context.Context, key string, o Order) (Charge, error) {
	var c Charge
	in := map[string]any{"key": key, "order": o.ID, "card": o.Card, "cents": o.Cents()}
	status, err := p.ask(ctx, request{method: http.MethodPost, path: "/charges", in: in, out: &c})
	if status == http.StatusPaymentRequired {
		err = fmt.Errorf("%w: %w", ErrDeclined, err)
	}
	return c, err
}

// Find is the charge that was made with a key; or ErrNoCharge.
func (p *Payments) Find(ctx context.Context, key string) (Charge, error) {
	var c Charge
	status, err := p.ask(ctx, request{method: http.MethodGet, path: "/charges?key=" + url.QueryEscape(key), out: &c})
	if f, ok := errors.AsType[*failure](err); ok && status == http.StatusNotFound && f.What == "no-charge" {
		err = ErrNoCharge
	}
	return c, err
}

// Refund gives back what was charged for an order, if anything was, and what a charge takes that is still on its way.
func (p *Payments) Refund(ctx context.Context, order string) error {
	_, err := p.ask(ctx, request{method: http.MethodPut, path: "/refunds" + segment(order)})
	return err
}

// Billing is the billing system.
type Billing struct{ client }

// Invoice is an order's invoice.
type Invoice struct {
	Number string `json:"number"`
	Order  string `json:"order"`
	Cents  int64  `json:"cents"`
}

// Create creates an order's invoice. If there is one, it is returned with ErrInvoiceExists.
func (b *Billing) Create(ctx context.Context, key string, o Order) (Invoice, error) {
	var i Invoice
	in := map[string]any{"key": key, "order": o.ID, "cents": o.Cents()}
	status, err := b.ask(ctx, request{method: http.MethodPost, path: "/invoices", in: in, out: &i, known: []int{http.StatusConflict}})
	if err == nil && status == http.StatusConflict {
		err = ErrInvoiceExists
	}
	return i, err
}

// Credit writes a credit note over an order's invoice, if there is one. There will be none afterwards.
func (b *Billing) Credit(ctx context.Context, order string) error {
	_, err := b.ask(ctx, request{method: http.MethodPut, path: "/credit-notes" + segment(order)})
	return err
}

// Mail is the mail service.
type Mail struct{ client }

// Send sends a mail about an order.
func (m *Mail) Send(ctx context.Context, order, text string) error {
	_, err := m.ask(ctx, request{method: http.MethodPost, path: "/mails", in: map[string]string{"order": order, "text": text}})
	return err
}
