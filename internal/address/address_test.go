package address

import (
	"fmt"
	"net"
	"testing"
)

// Free addresses differ, can be listened at, and are none that the system gives to who asks for any.
func TestFree(t *testing.T) {
	free, err := Free(18)
	if err != nil || len(free) != 18 {
		t.Fatalf("Free(18) = %v, %v", free, err)
	}
	end := firstPort + ports(systemsRange())
	held := map[string]bool{}
	for _, at := range free {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; held[at] || port < firstPort || port >= end {
			t.Errorf("Free(18) has %s, want each once, from port %d to %d", at, firstPort, end-1)
		}
		held[at] = true
	}
}

// What is held is not found.
func TestListen(t *testing.T) {
	held := map[string]bool{}
	for range 100 {
		l, err := Listen("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if at := l.Addr().String(); held[at] {
			t.Errorf("Listen() = %s, where somebody listens", at)
		} else {
			held[at] = true
		}
	}
	if l, err := Listen("192.0.2.1"); err == nil { // an address for documentation: nobody has it
		t.Errorf("Listen() of another machine = %v, want an error", l.Addr())
	}
}

func TestPorts(t *testing.T) {
	for _, c := range []struct {
		systems string
		want    int
	}{
		{"32768\t60999\n", 20_000}, {"", 20_000}, {"49152 65535", 20_000},
		{"15000 65535", 5_000}, {"11000 20000", 1_000},
		{"1024 65535", 20_000}, {"10999 65535", 20_000}, // too few are left
		{"many", 20_000},
	} {
		if got := ports(c.systems); got != c.want {
			t.Errorf("ports(%q) = %d, want %d", c.systems, got, c.want)
		}
	}
	low, high := 0, 0
	if _, err := fmt.Sscan(systemsRange(), &low, &high); err == nil && low >= firstPort+fewestPorts && firstPort+ports(systemsRange()) > low {
		t.Errorf("ports go to %d, and the system's begin at %d", firstPort+ports(systemsRange())-1, low)
	}
}
