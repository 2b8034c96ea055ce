package checkout_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/store/sqlite"
)

// put puts something at a boundary, once.
func (s *shop) put(t *testing.T, boundary, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.at[boundary]+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// While payment and customers are away ordering takes orders, greets and prices; when they are
// back all is charged and counted.
func TestOrderingAlone(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, inProcess)
	stop := map[string]func(){}
	for _, owns := range s.processes() {
		stop[owns[0]] = s.run(t, owns)
	}
	s.buy(t, 5, nil)
	for n := 6; n <= 10; n++ {
		card, err := json.Marshal(map[string]string{"number": checkout.CardNumber(n)})
		if err != nil {
			t.Fatal(err)
		}
		if status, text := s.put(t, contract.Payment, "/cards/"+checkout.CartID(n), string(card)); status != http.StatusNoContent {
			t.Fatalf("a card is answered %d %s, want %d", status, text, http.StatusNoContent)
		}
	}
	if status, _ := s.put(t, contract.Customers, "/customers/customer-1", `{"name":"Ada","address":"1 Analytical Way"}`); status != http.StatusNoContent {
		t.Fatalf("a customer is answered %d, want %d", status, http.StatusNoContent)
	}
	s.settle(t, s.shopping) // ordering has heard of it
	stop[contract.Payment]()
	stop[contract.Customers]()
	for n := 6; n <= 10; n++ {
		status, text := s.put(t, contract.Ordering, "/orders/"+checkout.CartID(n), `{"customer":"customer-1","lines":[{"article":"cup","quantity":2}]}`)
		if status != http.StatusCreated || !strings.Contains(text, "Thank you, Ada! It goes to 1 Analytical Way.") {
			t.Errorf("an order while others are away is answered %d %s, want it taken, with a greeting", status, text)
		}
	}
	p, err := checkout.Look(t.Context(), s.stores)
	if err != nil || p.Placed != 10 || p.Open != 5 {
		t.Errorf("%+v, %v, want 10 orders, 5 of which are open", p, err)
	}
	s.run(t, []string{contract.Payment})
	s.run(t, []string{contract.Customers})
	s.shopping.Carts = 10
	s.settle(t, s.shopping)
	c, err := checkout.CountAll(t.Context(), checkout.Places{Stores: s.stores, Provider: s.providerFile()})
	if err != nil || c.Wrong() || c.Orders != 10 || c.ChargedOnce != c.Paid || c.Paid < 5 {
		t.Errorf("count = %+v, %v, want 10 orders, each charged once or not paid", c, err)
	}
}

// What cannot be is refused, and what came is not repeated.
func TestRefusals(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, nil)
	s.run(t, contract.Boundaries())
	s.buy(t, 1, nil)
	for _, c := range []struct {
		boundary, path, body string
		status               int
		want                 string
	}{
		{contract.Ordering, "/orders/a", `{"customer":"nobody","lines":[{"article":"cup","quantity":1}]}`, http.StatusUnprocessableEntity, "there is no customer nobody"},
		{contract.Ordering, "/orders/a", `{"customer":"customer-1","lines":[{"article":"sofa","quantity":1}]}`, http.StatusUnprocessableEntity, "there is no such article"},
		{contract.Ordering, "/orders/a", `{"customer":"customer-1","lines":[]}`, http.StatusUnprocessableEntity, "1 to 100 lines"},
		{contract.Ordering, "/orders/a", `{`, http.StatusBadRequest, "want {"},
		{contract.Customers, "/customers/a", `{"name":""}`, http.StatusBadRequest, "want {"},
		{contract.Payment, "/cards/a", `{"number":"6011737268000001"}`, http.StatusBadRequest, "want a card's number"},
		{contract.Payment, "/cards/cart-1", `{"number":"` + checkout.CardNumber(2) + `"}`, http.StatusConflict, "billed already"},
		{contract.Payment, "/cards/a", `6011737268000001`, http.StatusBadRequest, "want {"},
	} {
		status, text := s.put(t, c.boundary, c.path, c.body)
		if status != c.status || !strings.Contains(text, c.want) || strings.Contains(text, checkout.CardMark) {
			t.Errorf("PUT %s %s = %d %q, want %d %q", c.path, c.body, status, text, c.status, c.want)
		}
	}
	if strings.Contains(s.log.String(), checkout.CardMark) {
		t.Error("the log has what was refused")
	}
	// Who does not know whether the order was placed places it again, and hears what was confirmed.
	order := `{"customer":"customer-1","lines":[{"article":"cup","quantity":1}]}`
	_, first := s.put(t, contract.Ordering, "/orders/again", order)
	s.put(t, contract.Customers, "/customers/customer-1", `{"name":"Somebody Else","address":"elsewhere"}`)
	if status, text := s.put(t, contract.Ordering, "/orders/again", order); status != http.StatusCreated || text != first {
		t.Errorf("an order that is placed again is answered %d %s, want %s", status, text, first)
	}
}

// Each promise that is broken is counted.
func TestCountFindsWhatIsWrong(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, nil)
	s.run(t, contract.Boundaries())
	s.buy(t, 30, nil)
	s.count(t, 30)
	provider, err := sqlite.OpenDB(filepath.Join(s.dir, "provider.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	shop := s.stores[contract.Ordering]
	somePaid := `(select cart from ordering_orders where state = 'paid' order by cart limit 1)`
	for _, c := range []struct {
		what      string
		doing     func(query string) error
		do, again string // and back again
		count     func(*checkout.Count) int
	}{
		{"a second charge", exec(provider), `insert into charges (key, ordered, card, cents, silent) select key, ordered, card, cents, silent from charges limit 1`,
			`delete from charges where id = (select max(id) from charges)`, func(c *checkout.Count) int { return c.ChargedTwice }},
		{"a charge of nobody's", exec(provider), `insert into charges (key, ordered, card, cents, silent) values ('k', 'cart-0', 'c', 1, 0)`,
			`delete from charges where ordered = 'cart-0'`, func(c *checkout.Count) int { return c.PaidInVain }},
		{"an order paid without a charge", exec(provider), `update charges set ordered = 'x' || ordered where id = 1`,
			`update charges set ordered = substr(ordered, 2) where id = 1`, func(c *checkout.Count) int { return c.Uncharged }},
		{"an old greeting", exec(shop), `update ordering_orders set seen = greeted + 1 where cart = ` + somePaid,
			`update ordering_orders set seen = 0 where cart = ` + somePaid, func(c *checkout.Count) int { return c.GreetedStale }},
		{"an order counted twice", exec(shop), `update customers_people set orders = orders + 1 where id = 'customer-1'`,
			`update customers_people set orders = orders - 1 where id = 'customer-1'`, func(c *checkout.Count) int { return c.Miscounted }},
		{"a bill of another sum", exec(shop), `update payment_carts set cents = cents + 1 where cart = ` + somePaid,
			`update payment_carts set cents = cents - 1 where cart = ` + somePaid, func(c *checkout.Count) int { return c.Disagreed }},
		{"an order that is open", exec(shop), `update ordering_orders set state = 'open' where cart = 'cart-1'`,
			`update ordering_orders set state = 'paid' where cart = 'cart-1'`, func(c *checkout.Count) int { return c.Open }},
	} {
		if err := c.doing(c.do); err != nil {
			t.Fatal(err)
		}
		n, err := checkout.CountAll(t.Context(), checkout.Places{Stores: s.stores, Provider: s.providerFile()})
		if err != nil || !n.Wrong() || c.count(n) != 1 {
			t.Errorf("with %s the count is %+v, %v, want one of it", c.what, n, err)
		}
		if err := c.doing(c.again); err != nil {
			t.Fatal(err)
		}
	}
	s.count(t, 30)
}

func exec(db interface {
	Exec(query string, args ...any) (sql.Result, error)
}) func(string) error {
	return func(query string) error {
		_, err := db.Exec(query)
		return err
	}
}
