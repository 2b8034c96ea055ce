// Package witness shows that a check can fail: it runs one where what it checks is broken, and
// tells how it failed. For the laws of ports, and their mutants.
package witness

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// Failures runs a check with a testing.TB of its own, in a goroutine of its own since Fatal ends that, and returns
// how it failed; nothing when it held. t itself does not fail; it only cleans up.
func Failures(t testing.TB, check func(testing.TB)) []string {
	w := &witness{TB: t}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if p := recover(); p != nil {
				w.note(fmt.Sprint("panic: ", p))
			}
		}()
		check(w)
	}()
	<-over
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failures
}

// witness is a testing.TB that remembers failures instead of failing.
type witness struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (w *witness) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, s)
}

func (w *witness) Helper()                      {}
func (w *witness) Log(...any)                   {}
func (w *witness) Logf(string, ...any)          {}
func (w *witness) Fail()                        { w.note("failed") }
func (w *witness) Error(args ...any)            { w.note(fmt.Sprint(args...)) }
func (w *witness) Errorf(f string, args ...any) { w.note(fmt.Sprintf(f, args...)) }
func (w *witness) FailNow()                     { w.note("failed"); runtime.Goexit() }
func (w *witness) Fatal(args ...any)            { w.note(fmt.Sprint(args...)); runtime.Goexit() }
func (w *witness) Fatalf(f string, args ...any) { w.note(fmt.Sprintf(f, args...)); runtime.Goexit() }

func (w *witness) Failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failures) > 0
}
