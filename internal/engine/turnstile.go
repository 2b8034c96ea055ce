package engine

// turnstile is a lock for what lasts as long as a call of the store. Who waits at it waits
// for a channel, and not for a lock of package sync: that would hold up the fake time of
// a test's bubble (testing/synctest), and it may be time that the holder waits for.
type turnstile chan struct{}

func newTurnstile() turnstile { return make(turnstile, 1) }

func (t turnstile) Lock() { t <- struct{}{} }

func (t turnstile) Unlock() { <-t }

func (t turnstile) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}
