package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir/internal/bubble"
)

func TestMain(m *testing.M) {
	bubble.OnOneProcessor()
	m.Run()
}

// On several processors, under the race detector, this ends the process now and then (-count=40 suffices), with the Go that has the fault.
func TestTimersThatAreDue(t *testing.T) {
	t.Logf("%d processors of %d", runtime.GOMAXPROCS(0), runtime.NumCPU())
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 500 {
						select {
						case <-time.After(0):
						case <-t.Context().Done():
						}
					}
				})
			}
			all.Wait()
		})
	}
}
