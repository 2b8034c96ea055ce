package postgres

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A process that has sent something rings: the others hear of it at once, by NOTIFY, and
// claim, rather than at their next look for changes. It is a hint. Whoever does not hear (for a
// pooler is between, or the connection was lost) looks all the same.
//
// It rings after its own commits, in a transaction apart: one that notifies holds, while it is
// committed, a lock that all of the server's that notify wait for. So what is sent in a caller's
// own transaction does not ring. However much is sent, it rings once every ringEvery.
type bell struct {
	wakes  chan struct{} // has room for one
	others atomic.Bool   // other processes are alive, as far as is known

	mu   sync.Mutex
	rung time.Time
	due  bool               // it will ring
	hush context.CancelFunc // ends the listening; nil when nobody listens
	ears sync.WaitGroup
}

const (
	ringEvery = 20 * time.Millisecond
	ringTime  = time.Second // that one ring may take
	earMin    = 100 * time.Millisecond
	earMax    = 10 * time.Second // that is waited before listening again

	sqlRing   = `select pg_notify($1, $2)`
	sqlListen = `listen `
	sqlOthers = `select exists (select 1 from weir.processes where ended_us is null and lost_us is null and id <> $1)`
)

// Wakes implements store.Waker.
func (s *Store) Wakes() <-chan struct{} { return s.bell.wakes }

// readOthers notes whether other processes are alive.
func (s *Store) readOthers(read scan) error {
	var others bool
	err := read(&others)
	s.bell.others.Store(others)
	return err
}

// channel is what the processes of one schema ring and listen on.
func (s *Store) channel() string { return "weir_" + s.schema }

// ring tells the other processes, soon, that there is something to claim.
func (s *Store) ring() {
	b := &s.bell
	if s.process.Load() != 0 && !b.others.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due {
		b.due = true
		time.AfterFunc(ringEvery-time.Since(b.rung), s.strike)
	}
}

func (s *Store) strike() {
	s.bell.mu.Lock()
	s.bell.due, s.bell.rung = false, time.Now()
	s.bell.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), ringTime)
	defer cancel()
	if s.checkOpen() == nil { // what fails is not heard; others look by themselves
		_, _ = s.aside.Exec(ctx, sqlRing, s.channel(), strconv.FormatInt(s.process.Load(), 10))
	}
}

// listen begins to listen for others, on a connection of its own, until the process ends.
func (s *Store) listen(process int64) {
	s.deafen()
	if !s.direct { // a pooler would give the connection to others
		return
	}
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	b.hush = cancel
	b.ears.Go(func() { s.hear(ctx, strconv.FormatInt(process, 10)) })
}

// deafen ends the listening and waits until it has.
func (s *Store) deafen() {
	b := &s.bell
	b.mu.Lock()
	if b.hush != nil {
		b.hush()
		b.hush = nil
	}
	b.mu.Unlock()
	b.ears.Wait()
}

// hear listens, on one connection after another.
func (s *Store) hear(ctx context.Context, process string) {
	for wait := earMin; ; wait = min(2*wait, earMax) {
		heard := s.hearOn(ctx, process)
		if ctx.Err() != nil || s.checkOpen() != nil {
			return
		}
		if heard {
			wait = earMin
		}
		_ = pause(ctx, wait/2+rand.N(wait/2))
	}
}

// hearOn listens until the connection is lost, and reports whether it did.
func (s *Store) hearOn(ctx context.Context, process string) (heard bool) {
	c, err := s.ear.Acquire(ctx)
	if err != nil {
		return false
	}
	defer c.Release()
	defer func() { // it would go on listening
		ctx, cancel := context.WithTimeout(context.Background(), ringTime)
		defer cancel()
		_ = c.Conn().Close(ctx)
	}()
	if _, err := c.Exec(ctx, sqlListen+`"`+s.channel()+`"`); err != nil {
		return false
	}
	for {
		n, err := c.Conn().WaitForNotification(ctx)
		if err != nil {
			return true
		}
		if n.Payload == process {
			continue
		}
		s.bell.others.Store(true)
		select {
		case s.bell.wakes <- struct{}{}:
		default:
		}
	}
}
