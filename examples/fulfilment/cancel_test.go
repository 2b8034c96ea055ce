package fulfilment_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/store/sqlite"
)

// guests cancel their orders: each when a system of its own is asked for something for it, before or after that has acted.
type guests struct {
	eng *weir.Engine

	mu    sync.Mutex
	asked map[string]bool
	late  int           // orders that had a charge by then
	many  chan struct{} // closed when some have asked
}

// manyGuests is how many are many: the shop is stopped then.
const manyGuests = 10

// moments are what each order in its turn is cancelled at, before it or after; or never.
func moments() []string { return []string{"reservations", "charges", "invoices", "mails"} }

const never = 8

var orderOf = regexp.MustCompile(`order-([0-9]+)`)

// around gives the address of who asks a system, and cancels orders when it is their moment.
func (g *guests) around(t *testing.T, address string) string {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	system := httputil.NewSingleHostReverseProxy(to)
	system.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // no answer is no answer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		order := orderOf.FindStringSubmatch(r.URL.Path + string(body))
		at := never
		if r.Method == http.MethodPost && order != nil {
			n, _ := strconv.Atoi(order[1])
			at = n % (never + 1)
		}
		if at == never {
			system.ServeHTTP(w, r)
			return
		}
		mine := strings.HasPrefix(r.URL.Path, "/"+moments()[at/2])
		if mine && at%2 == 0 {
			g.cancel(t, order[0], at/2 > 1)
		}
		if mine && at%2 == 1 {
			defer func() { g.cancel(t, order[0], at/2 > 1) }()
		}
		system.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// cancel cancels an order once; charged says that its card was charged before.
func (g *guests) cancel(t *testing.T, id string, charged bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked[id] {
		return
	}
	err := g.eng.CancelRun(context.Background(), weir.RunSelection{Workflow: fulfilment.Fulfil.Name(), ID: id}, weir.Because{By: "ada", Why: "the guest left"})
	if errors.Is(err, weir.ErrConflict) {
		return // its mail was answered, and it was faster
	}
	if err != nil {
		t.Errorf("CancelRun(%s) = %v, want nil", id, err)
	}
	g.asked[id] = true
	if charged {
		g.late++
	}
	if len(g.asked) == manyGuests {
		close(g.many)
	}
}

// Orders that are cancelled whenever something is done for them, while the systems are in trouble and the shop is stopped and
// begun again, have their money back: what was charged for each is what was given back.
func TestCancelledOrdersHaveTheirMoneyBack(t *testing.T) {
	book := aBook(60)
	w := openWorld(t, t.TempDir(), outside.Config{
		Seed: 5, Restock: 300 * time.Millisecond,
		Trouble: outside.Trouble{Fail: 0.1, Silent: 0.03, Slow: 0.5, SlowMax: 50 * time.Millisecond},
	})
	g := &guests{eng: openEngine(t, w.orders), asked: map[string]bool{}, many: make(chan struct{})}
	for _, a := range []*string{&w.addresses.Warehouse, &w.addresses.Payments, &w.addresses.Billing, &w.addresses.Mail} {
		*a = g.around(t, *a)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	first, ended := openShop(t, w), make(chan error, 1)
	go func() { ended <- first.Work(ctx, book, upTo(len(book))) }()
	select {
	case <-g.many:
	case <-ctx.Done():
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Work, stopped = %v, want context.Canceled", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	workAll(t, w, book)
	c := countAll(t, w, book)
	cancelled := 0
	for _, on := range c.Lists {
		if on.List == "failed" {
			if !g.asked[on.Order] {
				t.Errorf("%s failed (%s), and nobody had asked for it", on.Order, on.Reason)
			}
			cancelled++
			delete(g.asked, on.Order)
		}
	}
	faster := len(g.asked) // they were done as they were asked to end
	if c.Wrong() || c.NeedsPerson > 0 || cancelled < 3*manyGuests || c.Completed+c.Failed != 57 || c.ChargesRefunded < g.late-faster || g.late <= faster {
		t.Errorf("CountAll = %+v, want %d or more failed, of %d of which or more the charge is given back, and nothing wrong", c, 3*manyGuests, g.late-faster)
	}
	kept := query(t, w.files.Payments, `select ordered, sum(cents) from charges left join refunds on charge = id where charge is null group by ordered`)
	for _, on := range c.Lists {
		if on.List == "failed" && kept[on.Order] != 0 {
			t.Errorf("%s was cancelled, and %d cents of it are kept", on.Order, kept[on.Order])
		}
	}
	t.Logf("%d cancelled; %d charges given back", cancelled, c.ChargesRefunded)
}

// query reads a file's answer of texts and numbers.
func query(t *testing.T, file, text string) map[string]int {
	t.Helper()
	db, err := sqlite.OpenDB(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		all[name] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
