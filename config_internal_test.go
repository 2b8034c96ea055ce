package weir

import (
	"testing"
	"time"

	"github.com/weir-go/weir/internal/engine"
)

// The defaults that the options' comments promise.
func TestZeroOptionsMeanTheDocumentedDefaults(t *testing.T) {
	c, err := Config{}.withDefaults()
	if err != nil || c.MaxBody != 256<<10 || c.Keep != 7*24*time.Hour || c.StopTimeout != 10*time.Second || c.Log == nil || c.Codec != (JSON{}) {
		t.Errorf("Config{}.withDefaults() = %+v, %v", c, err)
	}
	s, err := handling{}.settings("kitchen.clean")
	want := engine.Retry{Max: 20, Base: time.Second, Cap: 10 * time.Minute}
	if err != nil || s.Concurrency != 8 || s.Timeout != time.Minute || s.Retry != want {
		t.Errorf("settings of zero options = %+v, %v, want 8 at once, 1m, %+v", s, err, want)
	}
	s, err = handling{queue: Queue{Retry: Retry{Base: time.Hour}}}.settings("kitchen.clean")
	if err != nil || s.Retry.Cap != time.Hour {
		t.Errorf("Cap = %v (%v) beside a Base of 1h, want 1h: never below Base", s.Retry.Cap, err)
	}
}
