package page

type (
	Order   struct{ ID string }
	Receipt struct{ Charge string }
	Ticket  struct{ Table string }
	Plate   struct{ Table string }

	Kitchen  struct{}
	Shop     struct{ bank *fakeBank }
	fakeBank struct{ world *weirtest.World }
)

var (
	FoodReady = weir.NewEvent[Plate]("kitchen.food-ready")
	Bill      = weir.NewCommand[Ticket]("kitchen.bill")
	Fulfil    = weir.NewWorkflow[Order, Receipt]("orders.fulfil")
	Approved  = weir.NewSignal[string]("orders.approved")

	t       *testing.T
	tx      *sql.Tx
	order   Order
	kitchen Kitchen
	shop    Shop
)

func (Kitchen) prepare(context.Context, *weir.Message[Ticket]) error { return nil }
func (*Shop) register(*weir.Engine)                                  {}
