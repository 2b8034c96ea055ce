package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/weir-go/weir/store"
)

// A caller's transaction that does not see what was committed since it began repeats no message and starts
// no run a second time for that: it is to be tried again, as PostgreSQL has it for such transactions.
func TestCallersOldSnapshot(t *testing.T) {
	t.Parallel()
	_, s, queue := processes(t, 1)
	once := func(key string) *store.Change {
		return &store.Change{Sends: []*store.Message{{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Dedup: key, Body: []byte("x")}}}
	}
	start := func(key string) *store.Change {
		return &store.Change{Runs: []*store.RunStart{{Workflow: "a.flow", ID: key, Version: 1}}}
	}
	elsewhere := func(key string) *store.Change {
		return &store.Change{Sends: []*store.Message{{Topic: "a.since-" + key, Kind: store.KindCommand, Version: 1, Body: []byte("x")}}}
	}
	for _, c := range bothCallers() {
		for _, level := range []string{"repeatable read", "serializable"} {
			for what, x := range map[string]struct {
				change func(key string) *store.Change
				want   string
			}{"message": {once, serializationFailure}, "run": {start, serializationFailure}, "topic": {elsewhere, "READ COMMITTED"}} {
				t.Run(c.name+"/"+level+"/"+what, func(t *testing.T) {
					tx := c.begin(t, dsn(t))
					if err := tx.exec("set transaction isolation level " + level); err != nil {
						t.Fatal(err)
					}
					if err := tx.exec("select 1"); err != nil {
						t.Fatal(err)
					}
					key := strings.NewReplacer("/", "-", " ", "-").Replace(c.name + "-" + level)
					first := x.change(key)
					if err := s[0].Commit(context.Background(), &store.Group{Changes: []*store.Change{first}}); err != nil || first.Err != nil {
						t.Fatalf("Commit() = %v and %v, want nil", err, first.Err)
					}
					err := s[0].AppendIn(t.Context(), tx.Tx, x.change(key))
					if err == nil {
						err = tx.commit()
					} else if end := tx.rollback(); end != nil {
						t.Fatal(end)
					}
					if err == nil || !strings.Contains(err.Error(), x.want) {
						t.Errorf("AppendIn() of what was committed since = %v, want %s", err, x.want)
					}
				})
			}
		}
	}
	if b := claimSome(t, s[0], queue, 99); b == nil || len(b.Deliveries) != 4 {
		t.Errorf("Claim() = %+v, want each message once", b)
	}
}
