// Package address finds addresses of this machine for who is killed, and must listen again where it did.
//
// A port that the system chose will not do: while nobody listens there, the system gives it to the next connection, or
// to the next program that listens on port 0.
package address

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

const (
	firstPort = 10_000
	mostPorts = 20_000
	// fewestPorts: where the system leaves fewer, those that it gives away are taken all the same.
	fewestPorts = 1_000
	tries       = 1_000
)

// Listen listens at a host on a port that nobody has, and that the system gives to nobody who asks for any. It is chosen by
// chance, so that several who look at once find others.
func Listen(host string) (net.Listener, error) {
	n := ports(systemsRange())
	var taken error
	for range tries {
		var l net.Listener
		if l, taken = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(firstPort+rand.N(n)))); taken == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no free port of %s from %d to %d in %d tries: %w", host, firstPort, firstPort+n-1, tries, taken)
}

// Free finds n addresses of this machine, host:port, like that of [Listen], which nobody has when it returns.
func Free(n int) ([]string, error) {
	free := make([]string, 0, n)
	for range n {
		l, err := Listen("127.0.0.1")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are chosen, so that they differ
		free = append(free, l.Addr().String())
	}
	return free, nil
}

// ports is how many there are from firstPort on below those that the system gives away.
func ports(systems string) int {
	first := firstPort + mostPorts // below where they begin on all systems that are left as they come
	_, _ = fmt.Sscan(systems, &first)
	if n := first - firstPort; n >= fewestPorts {
		return min(n, mostPorts)
	}
	return mostPorts
}

// systemsRange is "32768 60999" on Linux as it comes, and empty elsewhere.
func systemsRange() string {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return ""
	}
	return string(text)
}
