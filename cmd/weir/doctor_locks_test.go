package main

import (
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// Runs that wait for each other's locks are told of, once, and not those that only wait for them.
func TestLockCircles(t *testing.T) {
	t.Parallel()
	now := time.Now()
	lock := func(name, holder string, line ...string) weir.LockRow {
		no := func(id string) store.RunNo { return store.RunNo(id[0]) }
		l := weir.LockRow{Name: name, Holder: no(holder), HolderID: "orders.fulfil/" + holder, Since: now.Add(-time.Hour)}
		for _, id := range line {
			l.Waiters = append(l.Waiters, store.LockWaiter{Run: no(id), RunID: "orders.fulfil/" + id, Since: now.Add(-2 * time.Minute)})
		}
		return l
	}
	young := lock("1", "a", "b")
	young.Waiters[0].Since = now.Add(-time.Second)
	for _, c := range []struct {
		says  string
		locks []weir.LockRow
		want  []string
	}{
		{"a line", []weir.LockRow{lock("1", "a", "b", "c"), lock("2", "b", "c"), lock("3", "c")}, nil},
		{"two", []weir.LockRow{lock("1", "a", "x", "b"), lock("2", "b", "x", "a")},
			[]string{"2 runs wait for each other's locks: orders.fulfil/a is in line for 2, which orders.fulfil/b holds; orders.fulfil/b is in line for 1, which orders.fulfil/a holds"}},
		{"three, and one that leads there", []weir.LockRow{lock("0", "d"), lock("1", "a", "c"), lock("2", "b", "a", "d"), lock("3", "c", "b")}, []string{"3 runs wait"}},
		{"two circles", []weir.LockRow{lock("1", "a", "b"), lock("2", "b", "a"), lock("3", "c", "d"), lock("4", "d", "c")}, []string{"2 runs wait", "2 runs wait"}},
		{"one that begins to wait", []weir.LockRow{young, lock("2", "b", "a")}, nil},
		{"one lock taken twice", []weir.LockRow{lock("1", "a", "a")}, nil},
	} {
		got := lockCircles(c.locks, now)
		if len(got) != len(c.want) {
			t.Errorf("lockCircles(%s) = %v, want %d", c.says, got, len(c.want))
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(got[i].What, want) {
				t.Errorf("lockCircles(%s) = %q, want %q", c.says, got[i].What, want)
			}
		}
	}
}
