package postgres

import "fmt"

// life compares the store's newest life with how far its numbers are: a schema put together from several, or
// edited by hand, would give out IDs that there have been.
func (k *checkup) life() error {
	k.t.askLives()
	reached, _, err := k.t.number(sqlLastSeq)
	if err != nil {
		return err
	}
	if l := k.s.lives().Current(); reached < l.First-1 {
		k.found(fmt.Sprintf("the store's life %s began with message number %d, and %d is the newest", l.Incarnation, l.First, reached),
			"the schema is not as weir left it: stop all who send, and restore the latest backup; then run weir store renew")
	}
	return nil
}
