package checkout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/checkout/ordering"
)

// Shopping is who buys what, where.
type Shopping struct {
	At        map[string]string // each boundary's own address, http://127.0.0.1:4711
	Seed      uint64            // of who buys what
	Carts     int
	Customers int
	// Traffic gets all that goes to and comes from ordering and customers, and what payment answers: all but
	// the requests that bring it a card. nil: nobody does.
	Traffic io.Writer
}

// Shoppers are those who buy: they give their cards to payment, order at ordering, and change
// their names and addresses at customers. They are patient: what answers nothing, or that it
// cannot now, is asked again.
type Shoppers struct {
	Shopping
	client  *http.Client
	writing sync.Mutex
	told    atomic.Int64  // carts that may be bought
	more    chan struct{} // told has changed
}

// NewShoppers makes shoppers, who buy nothing yet.
func NewShoppers(s Shopping) *Shoppers {
	return &Shoppers{
		Shopping: s, more: make(chan struct{}, 1),
		client: &http.Client{Timeout: askMax, Transport: &http.Transport{MaxIdleConnsPerHost: idlePerHost}},
	}
}

// CardMark is how the number of each card begins, so that it is found wherever it is.
const CardMark = "6011737268"

// The odds, as one of so many.
const (
	cardless = 25 // carts are ordered without a card
	changes  = 3  // orders come with a change of their customer
)

const (
	atOnce = 8 // shoppers buy at a time
	// askMax guards against hanging: what is not waited for is not done, and where a disk is slow it would be asked in vain for ever.
	askMax      = 30 * time.Second
	askPause    = 50 * time.Millisecond
	answerMax   = 64 << 10
	idlePerHost = 2 * atOnce
)

// CartID is the ID of the n-th cart, from 1.
func CartID(n int) string { return fmt.Sprintf("cart-%d", n) }

// CardNumber is the number of the n-th cart's card.
func CardNumber(n int) string {
	number := fmt.Sprintf("%s%05d", CardMark, n%100_000)
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 0 { // the check digit comes behind
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return number + string(rune('0'+(10-sum%10)%10))
}

func customerID(n int) string { return fmt.Sprintf("customer-%d", n) }

// End closes the connections.
func (s *Shoppers) End() { s.client.CloseIdleConnections() }

// Let lets them buy as many of the first carts.
func (s *Shoppers) Let(upTo int) {
	s.told.Store(int64(min(upTo, s.Carts)))
	select {
	case s.more <- struct{}{}:
	default: // they have not seen the last yet
	}
}

// Buy makes the customers and buys all carts, in their order, as far as it is let. It returns nil when all are
// bought, or the error of the first that cannot be.
func (s *Shoppers) Buy(ctx context.Context) error {
	for n := range s.Customers {
		if err := s.put(ctx, contract.Customers, "/customers/"+customerID(n+1), person(n+1, 0)); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	carts := make(chan int)
	for range atOnce {
		all.Go(func() {
			for n := range carts {
				if err := s.buy(ctx, n); err != nil {
					stop(fmt.Errorf("buy %s: %w", CartID(n), err))
				}
			}
		})
	}
	for n := 1; n <= s.Carts && ctx.Err() == nil; {
		if int64(n) > s.told.Load() {
			select {
			case <-ctx.Done():
			case <-s.more:
			}
			continue
		}
		select {
		case <-ctx.Done():
		case carts <- n:
			n++
		}
	}
	close(carts)
	all.Wait()
	return context.Cause(ctx)
}

// buy is what one shopper does.
func (s *Shoppers) buy(ctx context.Context, n int) error {
	luck := rand.New(rand.NewPCG(s.Seed, uint64(n)))
	who := 1 + luck.IntN(s.Customers)
	if luck.IntN(changes) == 0 {
		if err := s.put(ctx, contract.Customers, "/customers/"+customerID(who), person(who, n)); err != nil {
			return err
		}
	}
	if luck.IntN(cardless) != 0 {
		if err := s.put(ctx, contract.Payment, "/cards/"+CartID(n), map[string]string{"number": CardNumber(n)}); err != nil {
			return err
		}
	}
	order := ordering.Order{Customer: customerID(who)}
	for range 1 + luck.IntN(4) {
		order.Lines = append(order.Lines, ordering.Line{Article: articles[luck.IntN(len(articles))], Quantity: 1 + luck.Int64N(3)})
	}
	return s.put(ctx, contract.Ordering, "/orders/"+CartID(n), order)
}

var articles = []string{"kettle", "teapot", "cup", "saucer", "tray", "strainer", "green-tea", "black-tea", "mint-tea", "honey", "shortbread"}

// person is how a customer is called, and where they live, since a cart.
func person(n, cart int) map[string]string {
	return map[string]string{"name": fmt.Sprintf("Customer %d, called %d", n, cart), "address": fmt.Sprintf("%d Weir Lane, house %d", n, cart)}
}

// put puts something until it is accepted.
func (s *Shoppers) put(ctx context.Context, to, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for {
		status, answer, err := s.ask(ctx, http.MethodPut, to, path, text)
		switch {
		case err == nil && status < http.StatusMultipleChoices:
			return nil
		case err == nil && status < http.StatusInternalServerError && status != http.StatusTooManyRequests:
			return fmt.Errorf("%s answers %d: %s", to, status, answer)
		}
		pause := time.NewTimer(askPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
	}
}

// ask asks once.
func (s *Shoppers) ask(ctx context.Context, method, to, path string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.At[to]+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, answerMax))
	if s.Traffic != nil && to != contract.Payment {
		s.note(method, to, path, string(body))
	}
	if s.Traffic != nil {
		s.note(res.Status, to, path, string(answer))
	}
	return res.StatusCode, answer, err
}

func (s *Shoppers) note(what, whom, path, text string) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, _ = fmt.Fprintf(s.Traffic, "%s %s%s %s\n", what, whom, path, text) // who reads it sees what is missing
}

// Unequal lists the customers of whom ordering does not know what they are by now.
func (s *Shoppers) Unequal(ctx context.Context, are map[string]contract.Customer) ([]string, error) {
	var unequal []string
	for id, is := range are {
		status, answer, err := s.ask(ctx, http.MethodGet, contract.Ordering, "/greetings/"+id, nil)
		if err != nil {
			return nil, err
		}
		var known ordering.Known
		if status == http.StatusOK {
			err = json.Unmarshal(answer, &known)
		} else if status != http.StatusNotFound {
			err = errors.New("ordering answers " + http.StatusText(status))
		}
		if err != nil {
			return nil, err
		}
		if known.Customer != is {
			unequal = append(unequal, id)
		}
	}
	slices.Sort(unequal)
	return unequal, nil
}
