// Package checks is what both adapters refuse of what runs and other stores write. It reads no table.
package checks

import (
	"errors"
	"fmt"

	"github.com/weir-go/weir/store"
)

// ValueMax bounds inputs, results and values of steps, in bytes.
const ValueMax = 1 << 20

// TooLong refuses an input, a result or a value of more than ValueMax bytes.
func TooLong(what string, b []byte) error {
	if len(b) > ValueMax {
		return fmt.Errorf("%s has %d bytes, at most %d", what, len(b), ValueMax)
	}
	return nil
}

// Update refuses a run's update.
func Update(u *store.RunUpdate) error {
	for _, r := range u.Records {
		switch {
		case r == nil:
			return errors.New("a record is nil")
		case r.N < 1 || r.N > store.MaxRecords:
			return fmt.Errorf("record %d: want a number from 1 to %d", r.N, store.MaxRecords)
		}
		if err := TooLong("value", r.Value); err != nil {
			return fmt.Errorf("record %d: %w", r.N, err)
		}
	}
	for i := range u.Attempts {
		if n := u.Attempts[i].N; n < 1 || n > store.MaxRecords {
			return fmt.Errorf("attempt of record %d: want a number from 1 to %d", n, store.MaxRecords)
		}
	}
	if len(u.Locks) > store.MaxLocks {
		return fmt.Errorf("%d acts on locks in one update, at most %d", len(u.Locks), store.MaxLocks)
	}
	for i := range u.Locks {
		if a := &u.Locks[i]; a.Name == "" || len(a.Name) > store.MaxRunID {
			return fmt.Errorf("the name of a lock has %d bytes, want 1 to %d", len(a.Name), store.MaxRunID)
		}
	}
	if err := TooLong("result", u.Result); err != nil {
		return err
	}
	if u.Verdict > store.Ended {
		return fmt.Errorf("verdict %d: unknown", u.Verdict)
	}
	if u.Verdict == store.Ended && (u.Outcome < store.Completed || u.Outcome > store.Cancelled) {
		return fmt.Errorf("ended with outcome %d: want completed, failed or cancelled", u.Outcome)
	}
	return nil
}
