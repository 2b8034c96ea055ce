package page

type Ticket struct{}

var (
	PrepareFood = weir.NewCommand[Ticket]("kitchen.prepare-food")

	ctx    context.Context
	eng    *weir.Engine
	pool   *pgxpool.Pool
	ticket Ticket
)
