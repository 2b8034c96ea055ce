package fulfilment

import (
	"fmt"
	"slices"
	"strings"
)

// Files are where the outside systems keep their own.
type Files struct{ Warehouse, Payments, Billing, Mail string }

// Count is what became of a book's orders. What was done to the world is counted from the
// outside systems' own files, what became of the runs is what the engine's store says.
type Count struct {
	Orders      int // in the book
	Completed   int
	Failed      int // for a reason: the card was declined, or the run was cancelled
	Refused     int // at the start: no line of it can be fulfilled
	NeedsPerson int // parked until somebody decides
	Waiting     int // not at an end
	Unaccounted int // nowhere to be found; and those of which engine and shop say different things

	ChargedOnce         int // orders with one charge, be it given back
	ChargedTwice        int // with more
	UnchargedCompleted  int // completed without one, or it is given back
	ChargedFailed       int // failed or refused, with one that is not given back
	InvoicesDouble      int // orders with more than one invoice
	UninvoicedCompleted int // completed without one, or there is a credit note
	InvoicedFailed      int // failed or refused, with one and no credit note
	StockLeaked         int // reservations of failed or refused orders
	UnreservedCompleted int // completed without one
	Omissions           int // completed, and the mail given up
	Unmailed            int // completed, and no mail sent: one that was given up may have been
	MailsLost           int // completed with a mail that was not given up, and not sent either

	LinesLeftOut      int // bad lines, of all orders
	ChargesUnanswered int // charges whose caller got no answer, or an error
	ChargesRefunded   int // charges that are given back
	InvoicesRefused   int // invoices asked for that there were
	Declines          int // charges that were declined
	Lists             []Listed
}

// Listed is an order that is not completed, and why.
type Listed struct {
	Order  string `json:"order"`
	List   string `json:"list"` // failed, refused, needs-person, waiting, unaccounted
	Reason string `json:"reason"`
}

// Wrong says that what must never be, is: or that an order is nowhere.
func (c *Count) Wrong() bool {
	return c.ChargedTwice+c.UnchargedCompleted+c.ChargedFailed+c.InvoicesDouble+c.UninvoicedCompleted+c.InvoicedFailed+
		c.StockLeaked+c.UnreservedCompleted+c.MailsLost+c.Unaccounted+c.Waiting > 0
}

// The lists that an order can be on, beside completed.
const (
	listCompleted   = "completed"
	listFailed      = "failed"
	listRefused     = "refused"
	listNeedsPerson = "needs-person"
	listWaiting     = "waiting"
	listUnaccounted = "unaccounted"
)

// fate is where a run or an order stands.
type fate struct{ list, reason string }

// world is what the outside systems' files say, by order.
type world struct {
	charges, invoices, reservations, mails map[string]int
	refunds, credits                       map[string]int // of charges and of invoices, each one once
}

// shop is what the shop has in its book, by order.
type shop struct {
	book    map[string]fate
	omitted map[string]int // orders whose mail was given up
}

// tally counts what became of the orders by their runs, what the shop has in its book, and
// what was done to the world.
func tally(orders []string, runs map[string]fate, s shop, w world) *Count {
	c := &Count{Orders: len(orders)}
	for _, id := range orders {
		f := judge(runs[id], s.book[id])
		charges, invoices, reserved := w.charges[id], w.invoices[id], w.reservations[id]
		switch f.list {
		case listCompleted:
			c.Completed++
			c.UnchargedCompleted += one(charges == w.refunds[id])
			c.UninvoicedCompleted += one(invoices == w.credits[id])
			c.UnreservedCompleted += one(reserved == 0)
			c.Omissions += s.omitted[id]
			c.Unmailed += one(w.mails[id] == 0)
			c.MailsLost += one(w.mails[id] == 0 && s.omitted[id] == 0)
		case listFailed, listRefused:
			c.Failed += one(f.list == listFailed)
			c.Refused += one(f.list == listRefused)
			c.ChargedFailed += one(charges > w.refunds[id])
			c.InvoicedFailed += one(invoices > w.credits[id])
			c.StockLeaked += one(reserved > 0)
		case listNeedsPerson:
			c.NeedsPerson++
		case listWaiting:
			c.Waiting++
		default:
			c.Unaccounted++
		}
		c.ChargedOnce += one(charges == 1)
		c.ChargedTwice += one(charges > 1)
		c.InvoicesDouble += one(invoices > 1)
		if f.list != listCompleted {
			c.Lists = append(c.Lists, Listed{Order: id, List: f.list, Reason: f.reason})
		}
	}
	// What was done for an order that nobody has ordered is done wrongly, too.
	known := make(map[string]bool, len(orders))
	for _, id := range orders {
		known[id] = true
	}
	for id, charges := range w.charges {
		c.ChargedFailed += one(!known[id] && charges > w.refunds[id])
	}
	return c
}

// judge is where an order stands, by what the engine says of its run and the shop of it.
func judge(run, book fate) fate {
	switch {
	case run.list == "" && book.list == listRefused:
		return book
	case run.list == "":
		return fate{listUnaccounted, "it has no run"}
	case book.list == "":
		return fate{listUnaccounted, "the shop does not know it"}
	case (run.list == listCompleted) != (book.list == listCompleted):
		return fate{listUnaccounted, fmt.Sprintf("its run is %s, and the shop has it as %s", run.list, book.list)}
	}
	return run
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Reasons counts a list's orders by reason, the most frequent first; numbers in a reason are
// not told apart.
func (c *Count) Reasons(list string) []string {
	count := map[string]int{}
	for _, l := range c.Lists {
		if l.List == list {
			count[l.Reason]++
		}
	}
	var text []string
	for reason, n := range count {
		text = append(text, fmt.Sprintf("%d × %s", n, reason))
	}
	slices.SortFunc(text, func(a, b string) int {
		if n := count[reasonOf(b)] - count[reasonOf(a)]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return text
}

func reasonOf(text string) string {
	_, reason, _ := strings.Cut(text, " × ")
	return reason
}
