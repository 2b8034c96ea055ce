package outside_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/store/sqlite"
)

// running is a system that serves, and its file.
type running struct {
	t    *testing.T
	url  string
	file string
}

func start(t *testing.T, name outside.Name, c outside.Config) *running {
	t.Helper()
	if c.File == "" {
		c.File = filepath.Join(t.TempDir(), string(name)+".db")
	}
	c.Log, c.Patience = slog.New(slog.DiscardHandler), patience
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
	return &running{t, "http://" + l.Addr().String(), c.File}
}

// ask sends a request and gives the status and the body.
func (r *running) ask(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(text))
}

// want asks, and compares.
func (r *running) want(method, path, body string, status int, answer string) {
	r.t.Helper()
	if s, a := r.ask(method, path, body); s != status || a != answer {
		r.t.Errorf("%s %s %s = %d %s, want %d %s", method, path, body, s, a, status, answer)
	}
}

// count is a number from the system's file.
func (r *running) count(query string) int {
	r.t.Helper()
	db, err := sqlite.OpenDB(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	var n sql.NullInt64
	if err := db.QueryRowContext(r.t.Context(), query).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return int(n.Int64)
}

const anOrder = `{"key":"k-1","order":"order-1","card":"card-1","cents":1250}`

func TestEachRequestIsACharge(t *testing.T) {
	p := start(t, outside.Payments, outside.Config{})
	p.want("GET", "/charges?key=k-1", "", 404, `{"error":"no-charge"}`)
	p.want("POST", "/charges", anOrder, 201, `{"id":"ch-1","key":"k-1","order":"order-1","card":"card-1","cents":1250}`)
	p.want("GET", "/charges?key=k-1", "", 200, `{"id":"ch-1","key":"k-1","order":"order-1","cents":1250}`)
	p.want("POST", "/charges", anOrder, 201, `{"id":"ch-2","key":"k-1","order":"order-1","card":"card-1","cents":1250}`)
	p.want("GET", "/charges?key=k-1", "", 200, `{"id":"ch-1","key":"k-1","order":"order-1","cents":1250}`)
	if n := p.count(`select count(*) from charges where ordered = 'order-1' and key = 'k-1' and silent = 0`); n != 2 {
		t.Errorf("two requests made %d charges, want 2", n)
	}
	for _, bad := range []string{"", "{", `{"cents":1}`, `{"card":"c","cents":0}`} {
		if s, a := p.ask("POST", "/charges", bad); s != 400 || !strings.Contains(a, "bad-request") {
			t.Errorf("POST /charges %s = %d %s, want 400", bad, s, a)
		}
	}
}

// A refund gives back each charge of its order once, also one that comes later, and refuses none.
func TestRefund(t *testing.T) {
	p := start(t, outside.Payments, outside.Config{})
	given := func() int {
		return p.count(`select count(*) from refunds join charges on id = charge where ordered = 'order-1'`)
	}
	p.ask("POST", "/charges", anOrder)
	p.ask("POST", "/charges", anOrder)
	p.ask("POST", "/charges", `{"key":"k-2","order":"order-2","card":"card-2","cents":1}`)
	for range 2 {
		p.want("PUT", "/refunds/order-1", "", 204, "")
		p.want("PUT", "/refunds/order-3", "", 204, "") // nothing was charged yet
		if n := given(); n != 2 {
			t.Errorf("of two charges %d are given back, want both once", n)
		}
	}
	if s, a := p.ask("POST", "/charges", anOrder); s != http.StatusCreated || given() != 3 {
		t.Errorf("a charge after the refund is answered %d %s, and %d are given back, want 201 and all 3", s, a, given())
	}
	p.ask("POST", "/charges", `{"key":"k-3","order":"order-3","card":"card-3","cents":1}`)
	if charges, back := p.count(`select count(*) from charges`), p.count(`select count(*) from refunds`); charges != 5 || back != 4 {
		t.Errorf("%d charges and %d refunds, want 5 and 4: order-2's is kept", charges, back)
	}
}

// A declined card takes no money, and is declined again.
func TestDecline(t *testing.T) {
	p := start(t, outside.Payments, outside.Config{Declined: 0.5})
	declined := 0
	for n := range 100 {
		order := fmt.Sprintf(`{"key":"k","order":"o-%d","card":"card-%d","cents":1}`, n, n)
		first, _ := p.ask("POST", "/charges", order)
		second, _ := p.ask("POST", "/charges", order)
		if first != second {
			t.Errorf("card %d is answered %d, then %d", n, first, second)
		}
		if first == http.StatusPaymentRequired {
			declined++
		}
	}
	charges, declines := p.count(`select count(*) from charges`), p.count(`select count(*) from declines`)
	if declined < 30 || declined > 70 || declines != 2*declined || charges != 200-declines {
		t.Errorf("of 100 cards %d are declined, with %d declines and %d charges in the file; want about 50, twice that, and the rest of 200", declined, declines, charges)
	}
}

func TestOneInvoiceAnOrder(t *testing.T) {
	b := start(t, outside.Billing, outside.Config{})
	b.want("POST", "/invoices", anOrder, 201, `{"number":"in-000001","key":"k-1","order":"order-1","cents":1250}`)
	b.want("POST", "/invoices", `{"key":"k-2","order":"order-2","cents":1}`, 201, `{"number":"in-000002","key":"k-2","order":"order-2","cents":1}`)
	b.want("POST", "/invoices", `{"key":"k-3","order":"order-1","cents":3}`, 409, `{"number":"in-000001","key":"k-3","order":"order-1","cents":1250}`)
	if made, refused := b.count(`select count(*) from invoices`), b.count(`select count(*) from invoices_refused`); made != 2 || refused != 1 {
		t.Errorf("%d invoices and %d refused, want 2 and 1", made, refused)
	}
}

// A credit note is written once, and no invoice comes after it.
func TestCreditNote(t *testing.T) {
	b := start(t, outside.Billing, outside.Config{})
	b.ask("POST", "/invoices", anOrder)
	for range 2 {
		b.want("PUT", "/credit-notes/order-1", "", 204, "")
		b.want("PUT", "/credit-notes/order-2", "", 204, "") // before its invoice: the request may still be on its way
	}
	for _, order := range []string{"order-1", "order-2"} {
		b.want("POST", "/invoices", fmt.Sprintf(`{"key":"k","order":%q,"cents":1}`, order), 410, `{"error":"credited","reason":"the order has a credit note"}`)
	}
	if invoices, notes := b.count(`select count(*) from invoices`), b.count(`select count(*) from credit_notes`); invoices != 1 || notes != 2 {
		t.Errorf("%d invoices and %d credit notes, want 1 and 2", invoices, notes)
	}
}

// Stock is reserved all or nothing, once an order, and given back once.
func TestReserve(t *testing.T) {
	w := start(t, outside.Warehouse, outside.Config{Restock: time.Hour})
	scarce, ample := dishes(t, w)
	both := func(n int) string {
		return fmt.Sprintf(`{"items":[{"dish":%q,"quantity":1},{"dish":%q,"quantity":%d}]}`, ample, scarce, n)
	}
	w.want("POST", "/reservations/o-1", both(11), 409, fmt.Sprintf(`{"error":"out-of-stock","reason":"need 11 of %s, have 10"}`, scarce))
	if n := w.count(`select count(*) from reservations`) + w.count(`select count(*) from stock where free <> ever`); n != 0 {
		t.Errorf("a refused reservation left %d rows", n)
	}
	w.want("POST", "/reservations/o-1", both(7), 201, "")
	w.want("POST", "/reservations/o-1", both(7), 409, `{"error":"already-reserved"}`)
	w.want("POST", "/reservations/o-2", both(7), 409, fmt.Sprintf(`{"error":"out-of-stock","reason":"need 7 of %s, have 3"}`, scarce))
	w.want("DELETE", "/reservations/o-1", "", 204, "")
	w.want("DELETE", "/reservations/o-1", "", 204, "")
	w.want("GET", "/stock/"+scarce, "", 200, fmt.Sprintf(`{"dish":%q,"free":10}`, scarce))
	w.want("POST", "/reservations/o-2", both(7), 201, "")
	w.want("POST", "/reservations/o-1", both(1), 409, `{"error":"already-released"}`)
	w.want("DELETE", "/reservations/o-3", "", 204, "") // released before it was reserved: the request to reserve may still be on its way
	w.want("POST", "/reservations/o-3", both(1), 409, `{"error":"already-released"}`)
	w.want("POST", "/reservations/o-4", `{"items":[{"dish":"x","quantity":1},{"dish":"x","quantity":1}]}`, 500, `{"error":"internal-error"}`)
	for _, bad := range []string{"", `{}`, `{"items":[{"dish":"x"}]}`} {
		if s, a := w.ask("POST", "/reservations/o-4", bad); s != 400 {
			t.Errorf("POST /reservations/o-4 %s = %d %s, want 400", bad, s, a)
		}
	}
	if n := w.count(`select sum(s.ever - s.free - coalesce((select sum(d.quantity) from reserved d join reservations r using (ordered)
		where d.dish = s.dish and r.state = 'reserved'), 0)) from stock s`); n != 0 {
		t.Errorf("%d units are neither free nor reserved", n)
	}
}

// dishes finds a scarce dish and one of which there is plenty.
func dishes(t *testing.T, w *running) (scarce, ample string) {
	t.Helper()
	for n := 0; scarce == "" || ample == ""; n++ {
		dish := fmt.Sprintf("dish-%d", n)
		_, text := w.ask("GET", "/stock/"+dish, "")
		var stock struct{ Free int }
		if err := json.Unmarshal([]byte(text), &stock); err != nil {
			t.Fatal(err)
		}
		if stock.Free > 10 {
			ample = dish
		} else {
			scarce = dish
		}
	}
	return scarce, ample
}

// A scarce dish is delivered, and the watcher told.
func TestRestock(t *testing.T) {
	told := make(chan string, 100)
	watcher := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- string(body)
	}))
	defer watcher.Close()
	w := start(t, outside.Warehouse, outside.Config{Restock: 200 * time.Millisecond})
	w.want("PUT", "/watcher", fmt.Sprintf(`{"url":%q}`, watcher.URL), 204, "")
	scarce, _ := dishes(t, w)
	for got := ""; got != fmt.Sprintf(`{"dish":%q}`, scarce); {
		select {
		case got = <-told:
		case <-time.After(patience):
			t.Fatalf("no delivery of %s is told", scarce)
		}
	}
	if _, text := w.ask("GET", "/stock/"+scarce, ""); text == fmt.Sprintf(`{"dish":%q,"free":10}`, scarce) {
		t.Errorf("after a delivery there is as little of %s as before: %s", scarce, text)
	}
}

// Each kind of trouble does what it says, in about its share of the requests, and what was
// done or not can be seen in the file.
func TestTrouble(t *testing.T) {
	const requests = 200
	for _, c := range []struct {
		name     string
		trouble  outside.Trouble
		mails    [2]int // in the file, at the least and at the most
		answered [2]int // with success
		silent   int    // requests that get no answer: drawn from the seed
	}{
		{"none", outside.Trouble{}, [2]int{requests, requests}, [2]int{requests, requests}, 0},
		{"fail", outside.Trouble{Fail: 0.5}, [2]int{120, 180}, [2]int{70, 130}, 0}, // 150, 100
		{"silent", outside.Trouble{Silent: 0.05}, [2]int{requests, requests}, [2]int{requests - silentOf200, requests - silentOf200}, silentOf200},
		{"slow", outside.Trouble{Slow: 0.9, SlowMax: 5 * time.Millisecond}, [2]int{requests, requests}, [2]int{requests, requests}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := start(t, outside.Mail, outside.Config{Trouble: c.trouble, Seed: 7})
			answered, hungUp := m.post(requests, c.silent)
			mails := m.count(`select count(*) from mails`)
			if !between(mails, c.mails) || !between(answered, c.answered) || hungUp != c.silent {
				t.Errorf("%+v: %d of %d requests sent mail, %d were answered so, %d not at all; want %v, %v and %d", c.trouble, mails, requests, answered, hungUp, c.mails, c.answered, c.silent)
			}
		})
	}
}

// silentOf200 is how many of 200 mails get no answer with a share of 0.05 and the seed 7.
const silentOf200 = 11

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// post posts so many mails, one after another: the next when one is answered, or is in the file. Once so many are answered that
// the silent ones are left, it hangs up on these.
func (r *running) post(requests, silent int) (answered, hungUp int) {
	r.t.Helper()
	ctx, hangUp := context.WithTimeout(r.t.Context(), patience)
	defer hangUp()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var all sync.WaitGroup
	var accepted, told, lost atomic.Int64
	for n := range requests {
		over := make(chan struct{})
		all.Go(func() {
			defer close(over)
			req, err := http.NewRequestWithContext(ctx, "POST", r.url+"/mails", strings.NewReader(fmt.Sprintf(`{"order":"o-%d","text":"x"}`, n)))
			if err != nil {
				r.t.Error(err)
				return
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				lost.Add(1)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode == http.StatusAccepted {
				accepted.Add(1)
			}
			told.Add(1)
		})
		for acting := true; acting; {
			select {
			case <-over:
				acting = false
			case <-tick.C:
				acting = r.count(`select count(*) from mails`) <= n
			}
		}
	}
	for int(told.Load()) < requests-silent && ctx.Err() == nil {
		<-tick.C
	}
	hangUp()
	all.Wait()
	return int(accepted.Load()), int(lost.Load())
}

func between(n int, bounds [2]int) bool { return bounds[0] <= n && n <= bounds[1] }

// After a restart a request meets other trouble than before.
func TestTroubleChangesWithARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mail.db")
	var first, second string
	for _, text := range []*string{&first, &second} {
		t.Run("life", func(t *testing.T) {
			m := start(t, outside.Mail, outside.Config{Trouble: outside.Trouble{Fail: 0.5}, Seed: 1, File: file})
			for n := range 20 {
				s, _ := m.ask("POST", "/mails", fmt.Sprintf(`{"order":"o-%d"}`, n))
				*text += fmt.Sprint(s, " ")
			}
		})
	}
	if first == second || first == "" {
		t.Errorf("in both lives the answers are %s", first)
	}
}

// The same seed brings the same trouble for the same requests, and a request that is
// repeated meets other trouble than the first time.
func TestTroubleIsDrawnFromTheSeed(t *testing.T) {
	outcomes := func(seed uint64) (text string) {
		m := start(t, outside.Mail, outside.Config{Trouble: outside.Trouble{Fail: 0.5}, Seed: seed})
		for n := range 60 {
			s, _ := m.ask("POST", "/mails", fmt.Sprintf(`{"order":"o-%d"}`, n%20))
			text += fmt.Sprint(s, " ")
		}
		return text
	}
	first, again, other := outcomes(1), outcomes(1), outcomes(2)
	if first != again || first == other {
		t.Errorf("seed 1 gives\n%s\nthen\n%s\nseed 2\n%s", first, again, other)
	}
	if third := len(first) / 3; first[:third] == first[third:2*third] {
		t.Errorf("a request repeated meets the same trouble: %s", first)
	}
}

// What a system has done outlives it.
func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payments.db")
	t.Run("first", func(t *testing.T) {
		start(t, outside.Payments, outside.Config{File: file}).ask("POST", "/charges", anOrder)
	})
	p := start(t, outside.Payments, outside.Config{File: file})
	p.want("GET", "/charges?key=k-1", "", 200, `{"id":"ch-1","key":"k-1","order":"order-1","cents":1250}`)
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	for _, c := range []struct {
		name outside.Name
		c    outside.Config
		want string
	}{
		{"bakery", outside.Config{File: file}, `there is no outside system "bakery"`},
		{outside.Mail, outside.Config{File: file, Trouble: outside.Trouble{Fail: 1, Silent: -1}}, "outside: Trouble.Fail is 1, want 0 to 0.9\noutside: Trouble.Silent is -1, want 0 to 0.9"},
		{outside.Mail, outside.Config{File: file, Trouble: outside.Trouble{SlowMax: time.Second}}, "outside: Trouble.SlowMax is 1s, want 0 to 800ms"},
	} {
		_, err := outside.Open(t.Context(), c.name, c.c)
		if err == nil || err.Error() != c.want {
			t.Errorf("Open(%s, %+v) = %v, want %s", c.name, c.c, err, c.want)
		}
	}
}
