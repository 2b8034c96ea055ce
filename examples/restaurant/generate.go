package restaurant

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// ownMenu is the menu of those who bring none.
var ownMenu = []string{
	"Onion Soup", "Green Salad", "Trout with Almonds", "Roast Chicken", "Pea Risotto", "Lentil Stew",
	"Potato Gratin", "Beef Cheeks", "Plum Dumplings", "Cheese Plate", "Apple Tart", "Lemon Sorbet",
}

const firstItem = 101

// GenerateMenu is a small menu as CSV.
func GenerateMenu() []byte {
	var b bytes.Buffer
	b.WriteString("menu_item_id,item_name\n")
	for i, dish := range ownMenu {
		fmt.Fprintf(&b, "%d,%s\n", firstItem+i, dish)
	}
	return b.Bytes()
}

// GenerateBook is an order book for the generated menu as CSV, the same for the
// same seed. It has the dirt of a real one: a byte-order mark, both forms of date,
// lines without an item or with one that is not on the menu, orders of only such lines.
func GenerateBook(seed uint64, orders int) []byte {
	luck := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	b.WriteString(byteOrderMark + "order_details_id,order_id,order_date,order_time,item_id\n")
	at := time.Date(2024, time.January, 10, 11, 30, 0, 0, time.UTC)
	line := 0
	for order := 1; order <= orders; order++ {
		at = at.Add(time.Duration(30+luck.IntN(15*60)) * time.Second)
		date := at.Format("1/2/06")
		if at.Day() <= 12 {
			date = at.Format("01-02-2006")
		}
		hopeless := luck.IntN(100) == 0
		for range 1 + luck.IntN(4) {
			line++
			item := fmt.Sprint(firstItem + luck.IntN(len(ownMenu)))
			switch n := luck.IntN(100); {
			case n == 0 || hopeless:
				item = "NULL"
			case n == 1:
				item = fmt.Sprint(firstItem + len(ownMenu) + luck.IntN(100))
			}
			fmt.Fprintf(&b, "%d,%d,%s,%s,%s\n", line, order, date, at.Format("3:04:05 PM"), item)
		}
	}
	return b.Bytes()
}
