package page

var (
	ctx    context.Context
	wire   transport.Transport
	config weir.Config
)
