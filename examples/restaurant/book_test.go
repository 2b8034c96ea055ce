package restaurant_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/restaurant"
)

const header = "order_details_id,order_id,order_date,order_time,item_id\n"

func TestReadBookDirt(t *testing.T) {
	book, err := restaurant.ReadBook(strings.NewReader("\ufeff" + header +
		"1,7,01-02-2023,11:38:36 AM,109\n" +
		"2,7,1/2/23,11:38:36 AM,NULL\n" +
		"\n" +
		"3,8,1/31/23,12:01:00 PM, 110 \r\n" +
		",,,,\n" +
		"4,9,02-12-2023,12:01:00 AM,\n" +
		"5,8,1/31/23,12:01:00 PM,\"Soup, of the day\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		at, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	want := restaurant.Book{Lines: 5, Orders: []restaurant.Order{
		{ID: 7, TakenAt: at("2023-01-02 11:38:36"), Lines: []restaurant.Line{{ID: 1, Row: 2, Item: "109"}, {ID: 2, Row: 3, Item: "NULL"}}},
		{ID: 8, TakenAt: at("2023-01-31 12:01:00"), Lines: []restaurant.Line{{ID: 3, Row: 5, Item: "110"}, {ID: 5, Row: 8, Item: "Soup, of the day"}}},
		{ID: 9, TakenAt: at("2023-02-12 00:01:00"), Lines: []restaurant.Line{{ID: 4, Row: 7, Item: ""}}},
	}}
	if got, want := fmt.Sprintf("%+v", book), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("ReadBook = %s,\nwant %s", got, want)
	}
}

func TestReadBookColumnsByName(t *testing.T) {
	book, err := restaurant.ReadBook(strings.NewReader("item_id,Order_ID,waiter,order_date,order_time,order_details_id\n109,7,Ada,1/2/23,1:00:00 PM,1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if o := book.Orders[0]; o.ID != 7 || o.Lines[0].Item != "109" || o.Lines[0].ID != 1 {
		t.Errorf("ReadBook = %+v, want line 1 of order 7: item 109", o)
	}
}

func TestReadBookRefuses(t *testing.T) {
	good := "1,1,1/2/23,1:00:00 PM,109\n"
	many := header
	for i := range 201 {
		many += fmt.Sprintf("%d,1,1/2/23,1:00:00 PM,109\n", i+1)
	}
	wrong := header
	for range 50 {
		wrong += "x,1,1/2/23,1:00:00 PM,109\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "it is empty"},
		{"only a header", header, "there is no order in it"},
		{"no header", good, "its first line does not name the columns order_details_id, order_id, order_date, order_time, item_id"},
		{"another encoding", "\xff\xfeo\x00r\x00d\x00e\x00r\x00", "its first line does not name the columns order_details_id, order_id"},
		{"a field too few", header + good + "2,1,1/2/23,1:00:00 PM\n", "line 3: it has 4 fields, the first line has 5"},
		{"a line that is no number", header + "one,1,1/2/23,1:00:00 PM,109\n", `line 2: order_details_id is "one", want a whole number from 1`},
		{"an order that is no number", header + "1,-1,1/2/23,1:00:00 PM,109\n", `line 2: order_id is "-1", want a whole number from 1`},
		{"a day that is none", header + "1,1,02-30-2023,1:00:00 PM,109\n", `line 2: order_date and order_time are "02-30-2023" and "1:00:00 PM"`},
		{"a month that is none", header + "1,1,31/1/23,1:00:00 PM,109\n", `"31/1/23"`},
		{"an hour of 24", header + "1,1,1/2/23,13:00:00 PM,109\n", `"13:00:00 PM"`},
		{"a line twice", header + good + good, "line 3: order_details_id 1 is that of line 2, too"},
		{"an order at two times", header + good + "2,1,1/3/23,1:00:00 PM,109\n", "line 3: order 1 was taken 2023-01-02 13:00:00 in line 2, 2023-01-03 13:00:00 here"},
		{"a broken quote", header + "1,1,1/2/23,1:00:00 PM,\"109\n", `extraneous or missing " in quoted-field`},
		{"an endless field", header + "1,1,1/2/23,1:00:00 PM," + strings.Repeat("9", 201) + "\n", "line 2: its field 5 has 201 bytes, want at most 200"},
		{"an endless order", many, "line 202: order 1 has more than 200 lines"},
		{"many faults", wrong, "there may be more such lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := restaurant.ReadBook(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadBook = %v, want %q", err, c.want)
			}
			if err != nil && strings.Count(err.Error(), "\n") > 11 {
				t.Errorf("ReadBook's error has %d lines, want at most 11", strings.Count(err.Error(), "\n")+1)
			}
		})
	}
}

func TestReadMenu(t *testing.T) {
	menu, err := restaurant.ReadMenu(strings.NewReader("\ufeffmenu_item_id,item_name,category,price\n101,Chips & Salsa,Mexican,7.00\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ item, dish, reason string }{
		{"101", "Chips & Salsa", ""},
		{"NULL", "", "no item"},
		{"", "", "no item"},
		{"102", "", `item "102" is not on the menu`},
	} {
		dish, err := menu.Dish(c.item)
		if dish != c.dish || (err != nil) != (c.reason != "") || err != nil && err.Error() != c.reason {
			t.Errorf("Dish(%q) = %q, %v, want %q, %q", c.item, dish, err, c.dish, c.reason)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"menu_item_id,item_name\n", "there is no dish in it"},
		{"menu_item_id,item_name\n1,Soup\n1,Salad\n", "line 3: item 1 is Soup and Salad"},
		{"menu_item_id,item_name\n1,\n", "line 2: item 1 has no name"},
		{"menu_item_id,item_name\nNULL,Soup\n", `line 2: menu_item_id is "NULL"`},
		{"menu_item_id\n1\n", "does not name the columns item_name"},
	} {
		if _, err := restaurant.ReadMenu(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ReadMenu(%q) = %v, want %q", c.text, err, c.want)
		}
	}
}

func TestGenerate(t *testing.T) {
	if !bytes.Equal(restaurant.GenerateBook(7, 50), restaurant.GenerateBook(7, 50)) {
		t.Error("GenerateBook(7, 50) differs from itself")
	}
	if bytes.Equal(restaurant.GenerateBook(7, 50), restaurant.GenerateBook(8, 50)) {
		t.Error("GenerateBook(8, 50) is that of seed 7")
	}
	book, menu := generated(t, 1, 300)
	bad, hopeless := 0, 0
	for _, o := range book.Orders {
		good := 0
		for _, line := range o.Lines {
			if _, err := menu.Dish(line.Item); err == nil {
				good++
			}
		}
		bad += len(o.Lines) - good
		if good == 0 {
			hopeless++
		}
	}
	if len(book.Orders) != 300 || bad == 0 || hopeless == 0 || bad > book.Lines/10 {
		t.Errorf("GenerateBook(1, 300): %d orders, %d of %d lines bad, %d orders without a good one; want 300, and a few",
			len(book.Orders), bad, book.Lines, hopeless)
	}
}

// generated is a made-up book with its menu.
func generated(t *testing.T, seed uint64, orders int) (restaurant.Book, restaurant.Menu) {
	t.Helper()
	book, err := restaurant.ReadBook(bytes.NewReader(restaurant.GenerateBook(seed, orders)))
	if err != nil {
		t.Fatal(err)
	}
	menu, err := restaurant.ReadMenu(bytes.NewReader(restaurant.GenerateMenu()))
	if err != nil {
		t.Fatal(err)
	}
	return book, menu
}

// FuzzReadBook: whatever a file holds, each of its lines is in one order or told of.
func FuzzReadBook(f *testing.F) {
	f.Add([]byte(header + "1,7,01-02-2023,11:38:36 AM,109\n2,7,1/2/23,11:38:36 AM,NULL\n"))
	f.Add([]byte("\ufeff" + header + "1,7,01-02-2023,11:38:36 AM,\"1\n09\"\n,,,,\n"))
	f.Add(restaurant.GenerateBook(3, 5))
	f.Fuzz(func(t *testing.T, text []byte) {
		book, err := restaurant.ReadBook(bytes.NewReader(text))
		if err != nil {
			return
		}
		orders, lines := map[int64]bool{}, map[int64]bool{}
		for _, o := range book.Orders {
			if orders[o.ID] || len(o.Lines) == 0 || o.TakenAt.IsZero() {
				t.Fatalf("order %+v is there twice, or empty, or at no time", o)
			}
			orders[o.ID] = true
			for _, line := range o.Lines {
				if lines[line.ID] || line.ID < 1 || line.Row < 2 {
					t.Fatalf("line %+v of order %d is there twice, or nowhere", line, o.ID)
				}
				lines[line.ID] = true
			}
		}
		if len(lines) != book.Lines || book.Lines > bytes.Count(text, []byte("\n")) {
			t.Fatalf("Lines = %d, want %d, and not more than the file's %d", book.Lines, len(lines), bytes.Count(text, []byte("\n")))
		}
	})
}
