// Package many has several real processes work one store on PostgreSQL, stops and kills
// them, and the server too, and counts what is left.
//
// A process is this package's own test binary, started as a child. Each handler and each
// step writes a row of its own in the transaction of its acknowledgement: so a message, or a
// step, with two such rows is one whose outcome was accepted twice. See house.
//
// WEIR_TEST_POSTGRES names a server to test on; else one is started. WEIR_TEST_STOPS is how
// often processes are stopped, 6 if it is not set; the long form is
//
//	WEIR_TEST_STOPS=200 go test ./test/many -run Stopped -timeout 30m
package many
