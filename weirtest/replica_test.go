package weirtest_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

type dish struct{ Price int }

var dishes = weir.NewEntity[dish]("kitchen.dish")

// A handler that reads a replica is called with one that the test has made.
func TestReplica(t *testing.T) {
	r := weirtest.Replica(t, dishes, map[string]dish{"soup": {4}, "fish": {9}})
	if e, err := r.Get("soup"); err != nil || e.Value.Price != 4 || e.Version == 0 {
		t.Errorf("Get = %+v, %v, want a price of 4", e, err)
	}
	if e, err := r.Refresh(t.Context(), "fish"); err != nil || e.Value.Price != 9 {
		t.Errorf("Refresh = %+v, %v, want a price of 9", e, err)
	}
	if _, err := r.Get("cake"); !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("Get of what is not there = %v, want ErrNotFound", err)
	}
	if r.Len() != 2 || !r.Loaded() {
		t.Errorf("Len = %d and Loaded %v, want 2 and true", r.Len(), r.Loaded())
	}
}

// A handler that changes an entity does so with a message of a test's.
func TestPutWithAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own *weir.Owned[dish]
		weirtest.New(t, weir.Config{Owns: []string{"kitchen"}}, func(e *weir.Engine) { own = weir.Own(e, dishes) })
		m := weirtest.Message(t, dish{5})
		if err := own.Put(weirtest.Context(t, m), m, "soup", m.Body); err != nil {
			t.Errorf("Put = %v", err)
		}
	})
}
