package checkout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/checkout/leak"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

// TestCardsStayAtPayment: no card's number is in any message, table, file, log, summary or
// request, but in payment's vault and at the payment provider, where they all are.
func TestCardsStayAtPayment(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, wire := range map[string]func(*testing.T, *shop) func() transport.Transport{
		"one store": nil, "three stores and a broker": throughBroker,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, traffic := workedShop(t, wire, 40)
			c := s.count(t, 40)
			for _, f := range s.search(t, traffic, c) {
				t.Errorf("a card's number is in %v", f)
			}
			for _, where := range []string{s.vaultFile(), s.providerFile()} {
				if n := leak.Times(inFile(t, where)); n < c.Paid {
					t.Errorf("%s has %d cards, want those of %d paid orders at the least: what is searched for is not what the cards are", where, n, c.Paid)
				}
			}
		})
	}
}

// TestLeaksAreFound: a card that is anywhere else is found there.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel() // it mostly waits
	s, traffic := workedShop(t, throughBroker, 4)
	card := checkout.CardNumber(7)

	// A program that gives the number to where it has no place: as a customer's address.
	text, err := json.Marshal(map[string]string{"name": "Somebody", "address": "Card " + card})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.at[contract.Customers]+"/customers/customer-1", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("put a customer = %v, %v, want no content", res, err)
	}
	_ = res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	s.settle(t, s.shopping)
	s.log.logger().Info("charging", "card", card)
	if err := os.WriteFile(filepath.Join(s.dir, "broker", "left"), []byte(card), 0o600); err != nil {
		t.Fatal(err)
	}

	var where []string
	for _, f := range s.search(t, traffic, map[string]string{"card": card}) {
		where = append(where, f.Where)
	}
	// What is in a store's log first is in its file later.
	for _, b := range contract.Boundaries() {
		if _, err := s.stores[b].ExecContext(t.Context(), `pragma wal_checkpoint(truncate)`); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range s.search(t, traffic, map[string]string{}) {
		where = append(where, f.Where)
	}
	all := strings.Join(where, "\n")
	for _, want := range []string{
		"customers.db\n", "ordering.db\n", "customers.db-wal\n", "ordering.db-wal\n", "customers customers_people\n", "customers weir_", "ordering weir_",
		"the wire\n", "the log\n", "the summary\n", "shoppers' traffic\n", filepath.Join("broker", "left"),
	} {
		if !strings.Contains(all+"\n", want) {
			t.Errorf("a card was planted in %s, and is not found there, but only in:\n%s", strings.TrimSpace(want), all)
		}
	}
	if strings.Contains(all, "payment") {
		t.Errorf("no card was planted at payment, and one is found there:\n%s", all)
	}
}

// workedShop is a shop in which carts were bought, with what its shoppers wrote and read.
func workedShop(t *testing.T, wire func(*testing.T, *shop) func() transport.Transport, carts int) (*shop, *shared) {
	t.Helper()
	s := build(t, slow, wire)
	for _, owns := range s.processes() {
		s.run(t, owns)
	}
	traffic := &shared{}
	s.buy(t, carts, traffic)
	return s, traffic
}

// search searches all that there is, but the vault and the provider's file.
func (s *shop) search(t *testing.T, traffic *shared, summary any) []leak.Find {
	t.Helper()
	look := searchCards(t)
	found, files, err := look.Files(s.dir, func(path string) bool {
		return strings.HasPrefix(path, s.vaultFile()) || strings.HasPrefix(path, s.providerFile())
	})
	if err != nil || files < 2 {
		t.Fatalf("Files = %d, %v, want a store and its log at the least", files, err)
	}
	for _, owns := range s.processes() {
		name := owns[0]
		if len(owns) > 1 {
			name = "shop"
		}
		some, tables, err := look.Tables(t.Context(), name, s.stores[owns[0]], leak.TablesSQLite)
		if err != nil || tables < 10 {
			t.Fatalf("Tables of %v = %d, %v, want many", owns, tables, err)
		}
		found = append(found, some...)
	}
	text, err := json.Marshal(summary)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{
		"the log": s.log.String(), "the wire": s.tapped.String(), "shoppers' traffic": traffic.String(), "the summary": string(text),
	} {
		some, err := look.Read(where, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, some...)
	}
	if traffic.String() == "" || (s.wire != nil) != (s.tapped.String() != "") {
		t.Fatal("nothing was heard of what is sent")
	}
	return found
}

func searchCards(t *testing.T) *leak.Search {
	t.Helper()
	look, err := leak.For(checkout.CardMark)
	if err != nil {
		t.Fatal(err)
	}
	return look
}

// inFile searches a store's file with its log.
func inFile(t *testing.T, file string) (found []leak.Find) {
	t.Helper()
	found, _, err := searchCards(t).Files(filepath.Dir(file), func(path string) bool { return !strings.HasPrefix(path, file) })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// throughBroker is a way over an embedded broker, whose connections are heard: what is
// sent is in the broker's files for a moment only.
func throughBroker(t *testing.T, s *shop) func() transport.Transport {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Config{Dir: filepath.Join(s.dir, "broker"), Listen: "127.0.0.1:0", Log: s.log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	address := tap(t, strings.TrimPrefix(b.URL(), "nats://"), s.tapped)
	return func() transport.Transport {
		tr, err := jetstream.Open(jetstream.Config{Servers: []string{"nats://" + address}, Log: s.log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
}

// tap listens where what comes is handed on to address, and what goes either way is written to hear.
func tap(t *testing.T, address string, hear io.Writer) string {
	t.Helper()
	l := listen(t)
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		all.Wait()
	})
	hand := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		_, _ = io.Copy(io.MultiWriter(to, hear), from) // until either end hangs up
	}
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			out, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = in.Close(); _ = out.Close() })
			all.Go(func() { hand(in, out) })
			all.Go(func() { hand(out, in) })
		}
	})
	return l.Addr().String()
}
