package outside

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// Trouble is what goes wrong in a system, as shares of its requests, 0 to 0.9. They
// are drawn apart: a request may be slow and silent.
type Trouble struct {
	Fail   float64 // answers 500: half of them before it has acted, half after
	Silent float64 // acts, and does not answer
	Slow   float64 // begins late, by up to SlowMax
	// SlowMax is 0 to 800 ms; zero: 300 ms. Beyond, a system would give a request up by itself.
	SlowMax time.Duration
}

const (
	shareMax       = 0.9
	slowMaxDefault = 300 * time.Millisecond
	slowMaxMost    = 800 * time.Millisecond
)

func (t Trouble) check() error {
	var faults []error
	for _, share := range []struct {
		name string
		is   float64
	}{{"Fail", t.Fail}, {"Silent", t.Silent}, {"Slow", t.Slow}} {
		if !(share.is >= 0 && share.is <= shareMax) {
			faults = append(faults, fmt.Errorf("outside: Trouble.%s is %v, want 0 to %v", share.name, share.is, shareMax))
		}
	}
	if t.SlowMax < 0 || t.SlowMax > slowMaxMost {
		faults = append(faults, fmt.Errorf("outside: Trouble.SlowMax is %v, want 0 to %v", t.SlowMax, slowMaxMost))
	}
	return errors.Join(faults...)
}

// failing is when a request fails.
type failing int

const (
	never failing = iota
	beforeActing
	afterActing
)

// mishap is what goes wrong with one request.
type mishap struct {
	fails  failing
	silent bool
	slow   time.Duration
}

// luck draws mishaps.
type luck struct {
	seed    uint64
	life    uint64 // how often the system was started
	trouble Trouble

	mu   sync.Mutex
	seen map[uint64]uint64 // how often, by request
}

const lifeBits = 32 // times stays below

// seenMax bounds the requests remembered. Beyond, a request's luck begins anew.
const seenMax = 1 << 20

func newLuck(seed uint64, t Trouble) *luck {
	if t.SlowMax == 0 {
		t.SlowMax = slowMaxDefault
	}
	return &luck{seed: seed, trouble: t, seen: map[uint64]uint64{}}
}

// draw is the same for the same request at its same repetition in the same life.
func (l *luck) draw(r *request) mishap {
	which := hash(r.Method, r.URL.RequestURI(), string(r.body))
	l.mu.Lock()
	if len(l.seen) >= seenMax {
		clear(l.seen)
	}
	l.seen[which]++
	times := l.seen[which]
	l.mu.Unlock()
	dice := rand.New(rand.NewPCG(l.seed^times^l.life<<lifeBits, which))
	var m mishap
	if dice.Float64() < l.trouble.Slow {
		m.slow = time.Duration(dice.Float64() * float64(l.trouble.SlowMax))
	}
	switch n := dice.Float64(); {
	case n < l.trouble.Fail/2:
		m.fails = beforeActing
	case n < l.trouble.Fail:
		m.fails = afterActing
	}
	m.silent = dice.Float64() < l.trouble.Silent
	return m
}

// share is between 0 and 1, the same for the same seed and name.
func share(seed uint64, name string) float64 {
	return rand.New(rand.NewPCG(seed, hash(name))).Float64()
}

func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write(append([]byte(p), 0)) // it never fails
	}
	return h.Sum64()
}
