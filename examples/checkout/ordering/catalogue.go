package ordering

import "fmt"

// Line is so many of an article.
type Line struct {
	Article  string `json:"article"`
	Quantity int64  `json:"quantity"`
}

// The bounds of an order.
const (
	linesMax    = 100
	quantityMax = 1000
)

// catalogue is what is sold, and for how many cents.
var catalogue = map[string]int64{
	"kettle": 3490, "teapot": 2850, "cup": 790, "saucer": 450, "tray": 1990, "strainer": 620,
	"green-tea": 1240, "black-tea": 1090, "mint-tea": 880, "honey": 950, "shortbread": 540,
}

// price is what the lines cost, less a discount in percent.
func price(lines []Line, discount int64) (cents int64, err error) {
	if len(lines) == 0 || len(lines) > linesMax {
		return 0, refused("an order has 1 to %d lines, not %d", linesMax, len(lines))
	}
	for _, line := range lines {
		each, sold := catalogue[line.Article]
		if !sold || line.Quantity < 1 || line.Quantity > quantityMax {
			return 0, refused("%d of %q: there is no such article, or not so many", line.Quantity, line.Article)
		}
		cents += each * line.Quantity
	}
	return cents * (100 - discount) / 100, nil
}

// Refusal is why an order cannot be placed, whoever tries again.
type Refusal struct{ reason string }

func (r *Refusal) Error() string { return r.reason }

func refused(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }
