package fulfilment

import (
	"reflect"
	"testing"
)

// What should not be is counted, each thing for itself.
func TestTally(t *testing.T) {
	completed, failed := fate{listCompleted, ""}, fate{listFailed, "declined"}
	good := func() (runs, book map[string]fate, w world) {
		once := map[string]int{"a": 1, "b": 1}
		charges, invoices, reservations, mails := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
		for _, m := range []map[string]int{charges, invoices, reservations, mails} {
			for k, v := range once {
				m[k] = v
			}
		}
		return map[string]fate{"a": completed, "b": completed, "c": failed}, map[string]fate{
			"a": completed, "b": completed, "c": failed, "d": {listRefused, "no item"},
		}, world{charges: charges, invoices: invoices, reservations: reservations, mails: mails, refunds: map[string]int{}, credits: map[string]int{}}
	}
	base := Count{
		Orders: 4, Completed: 2, Failed: 1, Refused: 1, ChargedOnce: 2, Omissions: 1,
		Lists: []Listed{{"c", listFailed, "declined"}, {"d", listRefused, "no item"}},
	}
	for _, c := range []struct {
		name  string
		plant func(runs, book map[string]fate, w world)
		want  func(*Count)
		wrong bool
	}{
		{"nothing", func(_, _ map[string]fate, _ world) {}, func(*Count) {}, false},
		{"charged twice", func(_, _ map[string]fate, w world) { w.charges["a"] = 2 }, func(c *Count) { c.ChargedOnce, c.ChargedTwice = 1, 1 }, true},
		{"completed uncharged", func(_, _ map[string]fate, w world) { delete(w.charges, "b") }, func(c *Count) { c.ChargedOnce, c.UnchargedCompleted = 1, 1 }, true},
		{"failed and charged", func(_, _ map[string]fate, w world) { w.charges["c"] = 1 }, func(c *Count) { c.ChargedOnce, c.ChargedFailed = 3, 1 }, true},
		{"failed, charged and given back", func(_, _ map[string]fate, w world) { w.charges["c"], w.refunds["c"] = 1, 1 }, func(c *Count) { c.ChargedOnce = 3 }, false},
		{"failed, charged twice and given back once", func(_, _ map[string]fate, w world) { w.charges["c"], w.refunds["c"] = 2, 1 }, func(c *Count) { c.ChargedTwice, c.ChargedFailed = 1, 1 }, true},
		{"completed and given back", func(_, _ map[string]fate, w world) { w.refunds["a"] = 1 }, func(c *Count) { c.UnchargedCompleted = 1 }, true},
		{"refused and charged", func(_, _ map[string]fate, w world) { w.charges["d"] = 1 }, func(c *Count) { c.ChargedOnce, c.ChargedFailed = 3, 1 }, true},
		{"charged for no order", func(_, _ map[string]fate, w world) { w.charges["x"] = 1 }, func(c *Count) { c.ChargedFailed = 1 }, true},
		{"charged for no order and given back", func(_, _ map[string]fate, w world) { w.charges["x"], w.refunds["x"] = 1, 1 }, func(c *Count) {}, false},
		{"invoiced twice", func(_, _ map[string]fate, w world) { w.invoices["a"] = 2 }, func(c *Count) { c.InvoicesDouble = 1 }, true},
		{"completed without invoice", func(_, _ map[string]fate, w world) { delete(w.invoices, "a") }, func(c *Count) { c.UninvoicedCompleted = 1 }, true},
		{"completed and credited", func(_, _ map[string]fate, w world) { w.credits["a"] = 1 }, func(c *Count) { c.UninvoicedCompleted = 1 }, true},
		{"failed and invoiced", func(_, _ map[string]fate, w world) { w.invoices["c"] = 1 }, func(c *Count) { c.InvoicedFailed = 1 }, true},
		{"failed, invoiced and credited", func(_, _ map[string]fate, w world) { w.invoices["c"], w.credits["c"] = 1, 1 }, func(c *Count) {}, false},
		{"completed without stock", func(_, _ map[string]fate, w world) { delete(w.reservations, "a") }, func(c *Count) { c.UnreservedCompleted = 1 }, true},
		{"failed with stock", func(_, _ map[string]fate, w world) { w.reservations["c"] = 1 }, func(c *Count) { c.StockLeaked = 1 }, true},
		{"a mail given up and not sent", func(_, _ map[string]fate, w world) { delete(w.mails, "b") }, func(c *Count) { c.Unmailed = 1 }, false},
		{"a mail lost", func(_, _ map[string]fate, w world) { delete(w.mails, "a") }, func(c *Count) { c.Unmailed, c.MailsLost = 1, 1 }, true},
		{"a run lost", func(runs, _ map[string]fate, _ world) { delete(runs, "c") }, func(c *Count) {
			c.Failed, c.Unaccounted = 0, 1
			c.Lists[0] = Listed{"c", listUnaccounted, "it has no run"}
		}, true},
		{"an order lost", func(_, book map[string]fate, _ world) { delete(book, "c") }, func(c *Count) {
			c.Failed, c.Unaccounted = 0, 1
			c.Lists[0] = Listed{"c", listUnaccounted, "the shop does not know it"}
		}, true},
		{"engine and shop disagree", func(runs, _ map[string]fate, _ world) { runs["c"] = completed }, func(c *Count) {
			c.Failed, c.Unaccounted = 0, 1
			c.Lists[0] = Listed{"c", listUnaccounted, "its run is completed, and the shop has it as failed"}
		}, true},
		{"needs a person", func(runs, _ map[string]fate, _ world) { runs["c"] = fate{listNeedsPerson, "what now?"} }, func(c *Count) {
			c.Failed, c.NeedsPerson = 0, 1
			c.Lists[0] = Listed{"c", listNeedsPerson, "what now?"}
		}, false},
		{"waiting", func(runs, book map[string]fate, _ world) {
			runs["c"], book["c"] = fate{listWaiting, "need 2, have 1"}, fate{listWaiting, ""}
		}, func(c *Count) {
			c.Failed, c.Waiting = 0, 1
			c.Lists[0] = Listed{"c", listWaiting, "need 2, have 1"}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs, book, w := good()
			c.plant(runs, book, w)
			want := base
			want.Lists = append([]Listed{}, base.Lists...)
			c.want(&want)
			got := tally([]string{"a", "b", "c", "d"}, runs, shop{book, map[string]int{"b": 1}}, w)
			if !reflect.DeepEqual(*got, want) || got.Wrong() != c.wrong {
				t.Errorf("tally = %+v, wrong %v\nwant    %+v, wrong %v", *got, got.Wrong(), want, c.wrong)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	c := Count{Lists: []Listed{{"a", listFailed, "x"}, {"b", listFailed, "y"}, {"c", listRefused, "z"}, {"d", listFailed, "y"}}}
	if got, want := c.Reasons(listFailed), []string{"2 × y", "1 × x"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Reasons(failed) = %q, want %q", got, want)
	}
}

// An order is made of the good lines; the bad ones are told.
func TestOrderOfAWant(t *testing.T) {
	w := Want{ID: 42, Lines: []WantLine{{7, "101"}, {8, "NULL"}, {9, "102"}, {10, "101"}, {11, ""}, {12, "x"}, {13, "0"}}}
	o, faults := w.order(AnyItem)
	wantOrder := Order{ID: "order-42", Card: "card-0042", Items: []Item{{"item 101", 2, 2 * price("item 101")}, {"item 102", 1, price("item 102")}}}
	wantFaults := []Fault{{8, "no item"}, {11, "no item"}, {12, `item "x" is no number`}, {13, `item "0" is no number`}}
	if !reflect.DeepEqual(o, wantOrder) || !reflect.DeepEqual(faults, wantFaults) {
		t.Errorf("order = %+v, %+v\nwant    %+v, %+v", o, faults, wantOrder, wantFaults)
	}
	if o.Cents() != 2*price("item 101")+price("item 102") || price("item 101") < 500 {
		t.Errorf("an order of 2 × %d and %d costs %d", price("item 101"), price("item 102"), o.Cents())
	}
}
