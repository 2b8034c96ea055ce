// Package transporttest holds the laws of package transport: a sentence each, and the
// check that proves it. Every adapter passes those of Run; those that have a broker
// beside them, which can die, pass those of RunBroker too.
//
// An adapter's test is one line and a Harness:
//
//	func TestLaws(t *testing.T) { transporttest.Run(t, open) }
//
// Laws speak to the port only. They wait for what must come, and look only briefly for
// what must not; nothing sleeps. Mutants prove that the laws bite: transports made
// cheaply bad, each of which must fail the law that it is named after.
package transporttest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weir-go/weir/transport"
)

// Settings are what a law wants of the adapter.
type Settings struct {
	// Capacity is how many packets an inlet holds.
	Capacity int
	// Redeliver is after what time a packet comes again that was neither acknowledged nor held, where
	// an adapter needs such a time.
	Redeliver time.Duration
}

// Open makes a fresh wire and gives it back. What it needs is cleaned up with t.
type Open func(t testing.TB, s Settings) Harness

// Harness is one wire with the processes that use it.
type Harness interface {
	// Open opens the transport as one more process would.
	Open(ctx context.Context) (transport.Transport, error)
	// Foreign sends a boundary what a program does that knows nothing of weir. Its
	// boundary has an inlet.
	Foreign(ctx context.Context, boundary string, h transport.Header, body []byte) error
}

// Broker is a Harness whose wire runs beside the processes.
type Broker interface {
	Harness
	// Kill ends the broker as a power cut does, as far as the harness can.
	Kill()
	// Start starts it again, at the same address, with what is on its disk.
	Start()
	// Wipe takes away what is on its disk, while it does not run.
	Wipe()
	// Crash does to a transport what the operating system does when its process dies.
	Crash(t transport.Transport)
}

// Law is what adapters keep.
type Law struct {
	Name  string // "order/lane", to run it alone
	Says  string // the sentence
	check func(s *scene)
}

// Laws lists the laws of all adapters.
func Laws() []Law {
	return slices.Concat(orderLaws(), ackLaws(), againLaws(), boundLaws(), foreignLaws(), noteLaws(), lifeLaws())
}

// BrokerLaws lists the laws of those with a broker beside them.
func BrokerLaws() []Law { return brokerLaws() }

// Run checks all laws, each on a wire of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	run(t, open, Laws())
}

// RunBroker checks the laws of brokers, each on a wire of its own.
func RunBroker(t *testing.T, open func(t testing.TB, s Settings) Broker) {
	t.Helper()
	run(t, func(t testing.TB, s Settings) Harness { return open(t, s) }, BrokerLaws())
}

func run(t *testing.T, open Open, laws []Law) {
	for _, l := range laws {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel() // mostly they wait
			l.Check(t, open)
		})
	}
}

// Check checks the law on a wire made by open.
func (l Law) Check(t testing.TB, open Open) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the law: %s", l.Says)
		}
	}()
	l.check(newScene(t, l, open, patience))
}
