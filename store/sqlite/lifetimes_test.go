package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store/sqlite"
)

// Each connection keeps its guard, whatever others of the process are opened and closed meanwhile.
func TestStoresAreOpenedWhileOthersAreClosed(t *testing.T) {
	dir := t.TempDir()
	end := time.Now().Add(2 * time.Second)
	var users sync.WaitGroup
	for n := range 16 {
		users.Go(func() {
			for time.Now().Before(end) {
				s, err := sqlite.File(filepath.Join(dir, fmt.Sprint(n)))(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
}
