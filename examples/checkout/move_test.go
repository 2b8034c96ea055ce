package checkout_test

import (
	"os"
	"testing"

	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/store"
)

// A shop that was one process on one store goes on as three on three: each gets a copy of the store, of
// which the two that are moved out are renewed. No order is counted, charged or closed again, though
// subscribers begin with the earliest event that their publisher keeps.
func TestMoveOut(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, nil)
	stop := s.run(t, contract.Boundaries())
	s.buy(t, 30, nil)
	before := s.count(t, 30)
	stop()
	old := s.file(contract.Ordering)
	for _, b := range contract.Boundaries() {
		if err := s.stores[b].Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.wire = inProcess(t, s)
	for _, b := range contract.Boundaries() {
		text, err := os.ReadFile(old)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.file(b), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if s.stores[b], err = database.File(s.file(b)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.stores[b].Close() })
		if b != contract.Ordering {
			renew(t, s.stores[b])
		}
	}
	for _, owns := range s.processes() {
		s.run(t, owns)
	}
	s.buy(t, 60, nil) // of which 30 are bought
	after := s.count(t, 60)
	if after.Paid <= before.Paid {
		t.Errorf("after the move %d orders are paid, before it were %d", after.Paid, before.Paid)
	}
}

// renew begins a new life of a store.
func renew(t *testing.T, db *database.Database) {
	t.Helper()
	st, err := db.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Operate(t.Context(), store.Act{Verb: store.RenewStore, By: "the test", Why: "it is a copy"}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
