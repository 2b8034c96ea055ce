package fulfilment

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Order is what a run fulfils.
type Order struct {
	ID    string `json:"id"` // "order-42": the run's ID, too
	Card  string `json:"card"`
	Items []Item `json:"items"` // each dish once, in the order of the book
}

// Item is so many of a dish.
type Item struct {
	Dish     string `json:"dish"`
	Quantity int64  `json:"quantity"`
	Cents    int64  `json:"cents"` // all of them
}

// Cents is what the order costs.
func (o Order) Cents() int64 {
	var sum int64
	for _, item := range o.Items {
		sum += item.Cents
	}
	return sum
}

// Want is an order as it is written in the book, good or bad.
type Want struct {
	ID    int64
	Lines []WantLine
}

// WantLine is a line of it.
type WantLine struct {
	Row  int    // its line in the file
	Item string // as written: it may be no item at all
}

// Fault is a line that cannot be fulfilled, and why.
type Fault struct {
	Row    int
	Reason string
}

// Menu is the dish of an item as it is written; the error says why there is none.
type Menu func(item string) (dish string, err error)

// AnyItem is the menu of those who have none: a number is an item.
func AnyItem(item string) (string, error) {
	if n, err := strconv.ParseUint(item, 10, 32); err == nil && n > 0 {
		return "item " + item, nil
	}
	if item == "" || strings.EqualFold(item, "null") {
		return "", errors.New("no item")
	}
	return "", fmt.Errorf("item %q is no number", item)
}

// Key is the order's business key: "order-42".
func (w Want) Key() string { return "order-" + strconv.FormatInt(w.ID, 10) }

// order makes an order of the good lines, and tells the bad ones. Without a good line it has
// no items.
func (w Want) order(menu Menu) (Order, []Fault) {
	o := Order{ID: w.Key(), Card: fmt.Sprintf("card-%04d", w.ID)}
	at := map[string]int{} // in o.Items
	var faults []Fault
	for _, line := range w.Lines {
		dish, err := menu(line.Item)
		if err != nil {
			faults = append(faults, Fault{line.Row, err.Error()})
			continue
		}
		i, known := at[dish]
		if !known {
			i = len(o.Items)
			at[dish] = i
			o.Items = append(o.Items, Item{Dish: dish})
		}
		o.Items[i].Quantity++
		o.Items[i].Cents += price(dish)
	}
	return o, faults
}

const centsLeast, centsRange = 500, 1500

// price is a dish's, in cents. The book has none, so it is made of the dish's name.
func price(dish string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(dish)) // it never fails
	return centsLeast + int64(h.Sum32()%centsRange)
}
