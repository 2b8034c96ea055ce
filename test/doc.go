// Package test kills real processes and counts what is left.
//
// A test starts this package's own test binary as a child, which works a file
// with weir as a program of a user would: a restaurant, see type shop. The child
// is killed, stopped, or run out of disk, another takes over, and at the end the
// books are audited: see type books. What a child was told to be true before its
// end it has said in a report, so that the auditor knows what must be there.
package test
