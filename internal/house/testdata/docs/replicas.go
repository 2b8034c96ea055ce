package page

type CustomerV1 struct{ First, Last, Address string }

var (
	ctx           context.Context
	eng           *weir.Engine
	db            *sql.DB
	id            string
	name, address string
	customers     *weir.Replica[Customer]
)
