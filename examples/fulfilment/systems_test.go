package fulfilment_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
)

// world is the outside systems, in this process.
type world struct {
	orders    string // the shop's file
	files     fulfilment.Files
	addresses fulfilment.Addresses
	patience  time.Duration // of the systems and of who asks them; 0: the defaults
}

// unhurried is a patience that no machine outlasts: where what was tried in vain is counted, nothing is to be tried again
// because a disk was slow.
const unhurried = time.Minute

// openWorld opens the systems, all with the same settings, in dir.
func openWorld(t *testing.T, dir string, c outside.Config) world {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	at := func(name outside.Name) (url, file string) {
		c.File = filepath.Join(dir, string(name)+".db")
		s, err := outside.Open(t.Context(), name, c)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, l) }()
		t.Cleanup(func() {
			stop()
			if err := errors.Join(<-ended, s.Close()); err != nil {
				t.Errorf("%s ended with %v, want nil", name, err)
			}
		})
		return "http://" + l.Addr().String(), c.File
	}
	w := world{patience: c.Patience}
	w.orders = filepath.Join(dir, "orders.db")
	w.addresses.Warehouse, w.files.Warehouse = at(outside.Warehouse)
	w.addresses.Payments, w.files.Payments = at(outside.Payments)
	w.addresses.Billing, w.files.Billing = at(outside.Billing)
	w.addresses.Mail, w.files.Mail = at(outside.Mail)
	return w
}

func connect(t *testing.T, a fulfilment.Addresses) *fulfilment.Systems {
	t.Helper()
	s := fulfilment.Connect(a)
	t.Cleanup(s.Close)
	return s
}

var soup = fulfilment.Order{ID: "order-1", Card: "card-1", Items: []fulfilment.Item{{Dish: "Onion Soup/hot", Quantity: 2, Cents: 1234}}}

// What the systems say comes through as what a workflow decides on.
func TestClients(t *testing.T) {
	ctx := t.Context()
	s := connect(t, openWorld(t, t.TempDir(), outside.Config{Patience: unhurried}).addresses)
	if n, err := s.Warehouse.Free(ctx, "Onion Soup/hot"); n < 10 || err != nil {
		t.Errorf("Free = %d, %v, want 10 or more", n, err)
	}
	first, again := s.Warehouse.Reserve(ctx, soup), s.Warehouse.Reserve(ctx, soup)
	if first != nil || !errors.Is(again, fulfilment.ErrAlreadyReserved) {
		t.Errorf("Reserve = %v, then %v, want nil, then ErrAlreadyReserved", first, again)
	}
	if err := errors.Join(s.Warehouse.Release(ctx, soup.ID), s.Warehouse.Release(ctx, soup.ID)); err != nil {
		t.Errorf("Release twice = %v, want nil", err)
	}
	if err := s.Warehouse.Reserve(ctx, soup); err == nil || errors.Is(err, fulfilment.ErrAlreadyReserved) || !strings.Contains(err.Error(), "already-released") {
		t.Errorf("Reserve after Release = %v, want already-released", err)
	}
	if _, err := s.Payments.Find(ctx, "a key&"); !errors.Is(err, fulfilment.ErrNoCharge) {
		t.Errorf("Find before = %v, want ErrNoCharge", err)
	}
	made, err := s.Payments.Charge(ctx, "a key&", soup)
	found, failure := s.Payments.Find(ctx, "a key&")
	if want := (fulfilment.Charge{ID: "ch-1", Key: "a key&", Order: "order-1", Cents: 1234}); made != want || found != want || err != nil || failure != nil {
		t.Errorf("Charge = %+v, %v; Find = %+v, %v; want %+v of both", made, err, found, failure, want)
	}
	invoice, err := s.Billing.Create(ctx, "k", soup)
	if want := (fulfilment.Invoice{Number: "in-000001", Order: "order-1", Cents: 1234}); invoice != want || err != nil {
		t.Errorf("Create = %+v, %v, want %+v", invoice, err, want)
	}
	if there, err := s.Billing.Create(ctx, "k", soup); there != invoice || !errors.Is(err, fulfilment.ErrInvoiceExists) {
		t.Errorf("Create again = %+v, %v, want the same invoice and ErrInvoiceExists", there, err)
	}
	for range 2 {
		if err := errors.Join(s.Payments.Refund(ctx, soup.ID), s.Billing.Credit(ctx, soup.ID), s.Payments.Refund(ctx, "o/2"), s.Billing.Credit(ctx, "o/2")); err != nil {
			t.Errorf("Refund and Credit, of an order and of none = %v, want nil", err)
		}
	}
	if _, err := s.Billing.Create(ctx, "k", soup); err == nil || errors.Is(err, fulfilment.ErrInvoiceExists) {
		t.Errorf("Create after Credit = %v, want that it is credited", err)
	}
	if err := s.Mail.Send(ctx, "order-1", "thank you"); err != nil {
		t.Errorf("Send = %v, want nil", err)
	}
}

func TestClientsTellRefusals(t *testing.T) {
	ctx := t.Context()
	s := connect(t, openWorld(t, t.TempDir(), outside.Config{Declined: 1, Patience: unhurried}).addresses)
	if _, err := s.Payments.Charge(ctx, "k", soup); !errors.Is(err, fulfilment.ErrDeclined) || !strings.Contains(err.Error(), "the card's bank has declined") {
		t.Errorf("Charge = %v, want ErrDeclined with the reason", err)
	}
	many := soup
	many.Items = []fulfilment.Item{{Dish: "x", Quantity: 5_000_000}}
	if err := s.Warehouse.Reserve(ctx, many); !errors.Is(err, fulfilment.ErrOutOfStock) || !strings.Contains(err.Error(), "need 5000000 of x") {
		t.Errorf("Reserve of 5,000,000 = %v, want ErrOutOfStock with the reason", err)
	}
	broken := connect(t, openWorld(t, t.TempDir(), outside.Config{Trouble: outside.Trouble{Fail: 0.9}, Seed: 3, Patience: unhurried}).addresses)
	failed := 0
	for range 20 {
		if _, err := broken.Billing.Create(ctx, "k", soup); err != nil && strings.Contains(err.Error(), "billing: POST /invoices: 500 Internal Server Error") {
			failed++
		}
	}
	if failed < 10 {
		t.Errorf("of 20 requests %d failed, want most", failed)
	}
}

// A charge whose connection breaks before the answer is not sent again behind our back, as
// net/http does with requests that it takes for safe to repeat.
func TestChargeIsSentOnce(t *testing.T) {
	var asked atomic.Int32
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if asked.Add(1) > 1 { // the first answer leaves a connection to use again
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{}`)
	}))
	defer provider.Close()
	s := connect(t, fulfilment.Addresses{Payments: provider.URL})
	if _, err := s.Payments.Charge(t.Context(), "k", soup); err != nil {
		t.Fatalf("Charge = %v, want nil", err)
	}
	if _, err := s.Payments.Charge(t.Context(), "k", soup); err == nil || asked.Load() != 2 {
		t.Errorf("Charge on a connection that breaks = %v with %d requests in all, want an error and 2", err, asked.Load())
	}
}

// A system that does not answer holds a client no longer than its context says.
func TestClientsGiveUp(t *testing.T) {
	hold := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-hold:
		}
	}))
	defer silent.Close()
	defer close(hold)
	client := connect(t, fulfilment.Addresses{Mail: silent.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Mail.Send(ctx, "o", "x"); err == nil || ctx.Err() == nil {
		t.Errorf("Send to who does not answer = %v, want an error when the time is up", err)
	}
}
