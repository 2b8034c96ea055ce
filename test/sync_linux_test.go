package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// At every sync: the disk fails, or the process is killed, while a commit is on its
// way to the disk, at the n-th sync of a thread. A failing disk stops the engine,
// whoever's commit met it. The next process finds a file in order, and finishes;
// what was being committed then may be there or not, what was acknowledged is.
func TestEverySync(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: it makes system calls fail")
	}
	most := 12
	if long() {
		most = 30
	}
	for _, fault := range []string{"error=EIO", "signal=KILL"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			met := 0
			for n := 1; n <= most; n++ {
				t.Run(strconv.Itoa(n), func(t *testing.T) {
					file := filepath.Join(t.TempDir(), "weir.db")
					openTables(t, file)
					inject := fmt.Sprintf("inject=fdatasync,fsync:%s:when=%d", fault, n)
					c := startUnder(t, []string{strace, "-f", "-qq", "-o", file + ".strace", "-e", "trace=fdatasync,fsync", "-e", inject},
						"script", file, life(1), envDoubt+"=yes")
					switch code := c.wait(); code {
					case 0:
					case -1, exitFailed:
						met++
					default:
						t.Fatalf("the child ended with %d, want 0, %d or killed; it said:\n%s", code, exitFailed, c.said())
					}
					start(t, "script", file, life(2)).succeed()
					wantOneRotten(t, audit(t, file))
				})
			}
			if met == 0 {
				t.Errorf("no process has met %s", fault)
			}
			t.Logf("%d of %d processes met %s", met, most, fault)
		})
	}
}
