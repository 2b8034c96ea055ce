// Package bubble keeps tests in fake time away from a fault of Go's runtime.
package bubble

import (
	"runtime"
	"runtime/debug"
	"slices"
)

// OnOneProcessor is called by the TestMain of a package whose tests run in bubbles of testing/synctest. Under the race detector it
// has the whole process run on one processor, and otherwise does nothing.
//
// When goroutines of one bubble meet timers that are due, on several processors at once, all run them with the one
// context that the detector has of the bubble (timers.raceCtx in Go 1.26), which nothing guards: the detector loses its
// bearings and the process dies, of SIGSEGV or a failed CHECK. It finds the same races on one processor, since what it looks at is
// whether something orders two accesses, not whether they met.
func OnOneProcessor() {
	build, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		runtime.GOMAXPROCS(1)
	}
}
