package page

type (
	Order struct {
		ID, SKU  string
		Quantity int
	}
	Receipt struct{ Invoice, Charge string }
	Charge  struct{ ID string }
	Invoice struct{ Number string }
	Stock   struct{ SKU string }
	Ticket  struct{ Table, Dish string }
	Plate   struct{ Table, Dish string }

	Shop struct {
		warehouse interface {
			Free(ctx context.Context, sku string) (int, error)
		}
	}
	Kitchen struct {
		stove interface {
			Cook(context.Context, Ticket) (Plate, error)
		}
	}
	Staff struct{ eng *weir.Engine }
)

func (t Ticket) TableNo() string { return t.Table }

var (
	StockChanged                    = weir.NewEvent[Stock]("warehouse.stock-changed")
	ErrDeclined, ErrAlreadyReserved = errors.New("declined"), errors.New("reserved already")

	ctx   context.Context
	eng   *weir.Engine
	wire  transport.Transport
	order Order
)

func (s *Shop) release(Order) func(context.Context) error            { return nil }
func (s *Shop) refund(Order) func(context.Context) error             { return nil }
func (s *Shop) credit(Order) func(context.Context) error             { return nil }
func (s *Shop) reserve(Order) func(context.Context) error            { return nil }
func (s *Shop) thank(Order) func(context.Context) error              { return nil }
func (s *Shop) charge(Order) func(context.Context) (Charge, error)   { return nil }
func (s *Shop) invoice(Order) func(context.Context) (Invoice, error) { return nil }

func (s *Shop) findCharge(Order) func(context.Context) (Charge, weir.Outcome, error) { return nil }

func (s *Staff) bring(context.Context, *weir.Message[Plate]) error { return nil }
