package engine

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// chapter is what a run writes in one change. While one is being committed the
// next one gathers, so that the result of a last step and the end of its run are
// often one.
type chapter struct {
	change store.Change
	update store.RunUpdate
	gen    uint64
	// alone: nothing else of the run may be in it, because it may be refused.
	alone bool
	undos []*record // registrations of compensations, which must not be lost when it is refused
	one   [1]*store.Record
}

// scribe commits what runs write, many runs at a time.
type scribe struct {
	e      *life
	signal chan struct{} // capacity 1

	mu      sync.Mutex
	pending []*slice
	spare   []*slice
	at      int  // how many commit
	ended   bool // nobody commits any more
}

// scribes is how many goroutines commit: while one tells runs that they may go on, the
// other offers what has come meanwhile.
const scribes = 2

// push queues a slice that has something to write; the slice sees to it that it is
// queued once.
func (k *scribe) push(s *slice) {
	k.mu.Lock()
	if k.ended { // a step that was not waited for has returned: nobody may wait for what it writes
		k.mu.Unlock()
		go func() {
			s.take()
			s.written(ErrStopping)
		}()
		return
	}
	k.pending = append(k.pending, s)
	first := len(k.pending) == 1
	k.mu.Unlock()
	if first {
		select {
		case k.signal <- struct{}{}:
		default:
		}
	}
}

// run commits until done is closed and nothing is left.
func (k *scribe) run(done <-chan struct{}) {
	var changes []*store.Change
	var apart sync.WaitGroup
	for {
		select {
		case <-k.signal:
			k.flush(&changes, &apart)
		case <-done:
			apart.Wait()
			if k.flush(&changes, &apart) && k.close() {
				return
			}
		}
	}
}

// close lets one of those who commit go, unless slices have come: the last takes no more.
func (k *scribe) close() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) > 0 {
		return false
	}
	k.at--
	k.ended = k.at == 0
	return true
}

// flush commits one chapter of each slice that is pending; true if there was none.
func (k *scribe) flush(changes *[]*store.Change, apart *sync.WaitGroup) bool {
	k.mu.Lock()
	batch := k.pending
	if len(batch) == 0 {
		k.mu.Unlock()
		return true
	}
	k.pending, k.spare = k.spare[:0], nil
	k.mu.Unlock()
	*changes = (*changes)[:0]
	for _, s := range batch {
		*changes = append(*changes, &s.take().change)
	}
	err := k.e.commit(k.e.patience, *changes)
	for i, s := range batch {
		if change := (*changes)[i]; err == nil && change.Err != nil && errors.Is(change.Err, store.ErrKeyHeld) {
			apart.Go(func() {
				err := k.e.commitApart(change)
				s.written(err)
				if err != nil {
					k.e.fail(err)
				}
			})
			continue
		}
		s.written(err)
	}
	if err != nil {
		k.e.fail(err)
	}
	clear(batch)
	clear(*changes)
	k.mu.Lock()
	k.spare = batch[:0]
	k.mu.Unlock()
	return false
}

// open is the chapter that what is written now goes into; with room for an act on a
// lock, of which an update has a bound. The caller holds s.mu.
func (s *slice) open() *chapter {
	if n := len(s.pending); n > 0 && !s.pending[n-1].alone && len(s.pending[n-1].update.Locks) < store.MaxLocks {
		return s.pending[n-1]
	}
	return s.newChapter()
}

func (s *slice) newChapter() *chapter {
	s.gen++
	c := s.spare
	switch {
	case s.gen == 1:
		c = &s.first
	case c == nil:
		c = new(chapter)
	}
	s.spare = nil
	*c = chapter{gen: s.gen}
	c.update.RunRef = s.run.RunRef
	c.update.Records = c.one[:0]
	c.change.Run = &c.update
	s.pending = append(s.pending, c)
	if !s.queued {
		s.queued = true
		s.w.e.scribe.push(s)
	}
	return c
}

// write has a record written, in place of an earlier one of its number.
func (c *chapter) write(r *store.Record) {
	for i, known := range c.update.Records {
		if known.N == r.N {
			c.update.Records[i] = r
			return
		}
	}
	c.update.Records = append(c.update.Records, r)
}

// write has a record written, as it is now. The caller holds s.mu.
func (s *slice) write(c *chapter, rec *record) {
	c.write(rec.get())
	s.ledger.weigh(rec)
	if s.undos.noted < len(s.undos.slots) {
		s.noteUndos(c)
	}
}

// take gives the scribe the slice's next chapter.
func (s *slice) take() *chapter {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = s.pending[0]
	n := copy(s.pending, s.pending[1:])
	s.pending[n] = nil
	s.pending = s.pending[:n]
	return s.taken
}

// withoutWaits offers a chapter that was refused again without its waits, too many as a rule: what was done is recorded
// all the same. The run is parked as soon as its strands have come to something new; in a replay the waits are begun
// again. The caller holds s.mu.
func (s *slice) withoutWaits(c *chapter, err error) {
	c.update.Waits, c.change.Err = nil, nil
	s.halted = clip(err.Error(), store.MaxReason)
	s.pending = slices.Insert(s.pending, 0, c)
	for _, later := range s.pending {
		if u := &later.update; u.Verdict == store.Waiting {
			u.Verdict, u.Wake, u.Reason = store.Parked, time.Time{}, s.halted
			s.w.e.log.Error(logParked, keyWorkflow, s.w.settings.Name, keyRun, s.run.ID, keyError, firstLine(s.halted))
		}
	}
	s.queued = true
	s.w.e.scribe.push(s)
}

// written tells the slice what became of the chapter that was taken.
func (s *slice) written(err error) {
	s.mu.Lock()
	c := s.taken
	s.taken = nil
	lost := err != nil // the database's own error: the life ends
	if !lost {
		err = c.change.Err
		lost = errors.Is(err, store.ErrFenced) || isOver(err)
	}
	switch {
	case lost:
		s.retire(err)
		s.pending, s.over = nil, true
	case err != nil && !c.alone && len(c.update.Waits) > 0:
		s.withoutWaits(c, err)
		s.mu.Unlock()
		return
	case err != nil && !c.alone:
		// The store takes not what the run wrote: nothing that comes after may stand without it.
		s.retire(err)
		s.pending = nil
		s.read = 0 // what the mail was turned into is lost with it: it is read again
		s.leave(store.Parked, err.Error())
	case err != nil && s.retired == nil && !s.sealed:
		for _, rec := range c.undos {
			s.write(s.open(), rec)
		}
	case err == nil && c.update.Verdict != store.Leased:
		s.over = true
	}
	s.durable = c.gen
	if s.queued = len(s.pending) > 0; s.queued {
		s.w.e.scribe.push(s)
	}
	rest := s.awaiting[:0]
	for _, st := range s.awaiting {
		if st.awaits <= s.durable || s.retired != nil {
			st.wake <- struct{}{}
		} else {
			rest = append(rest, st)
		}
	}
	clear(s.awaiting[len(rest):])
	s.awaiting = rest
	over := s.over
	if !over && !c.alone {
		s.spare = c
	}
	s.mu.Unlock()
	if over {
		s.w.released(s, c, err)
	}
	if isOver(err) {
		s.w.e.fail(err)
	}
}
