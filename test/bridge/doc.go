// Package bridge connects two stores by real processes and counts what is left: a kitchen in a process of its own,
// brokers in theirs, and a floor in the test's, which takes orders as fast as it may while the others
// are killed.
//
// Each side writes what it does into a table of its own, in the transaction of the acknowledgement. So an effect that is there
// twice was accepted twice, one that is missing was lost, and the tables tell the order.
//
// WEIR_TEST_BRIDGE is how long each disturbance lasts, 2 s if it is not set; the long form is
//
//	WEIR_TEST_BRIDGE=60s go test ./test/bridge -v -timeout 30m
package bridge
