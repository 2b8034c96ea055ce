package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

// refresh is a question for one key that callers wait for: all who came before it left.
type refresh struct {
	key  string
	want int64         // memory is to have this version before they go on
	err  error         // set before done is closed
	done chan struct{} // closed when memory has what the owner answered
}

// asks coalesces what is asked of the owner. A caller joins a question that has not left yet, never one
// that has: so what it gets is what the owner had after it called. No I/O.
type asks struct {
	next     map[string]*refresh // not asked yet
	order    []string            // of next
	flights  map[string]*asking  // by nonce
	answers  []*refresh          // answered, and not in memory yet
	capacity int
}

// asking is what was asked in one message.
type asking struct {
	at     time.Time
	left   map[string]*refresh // not answered yet
	looked time.Time           // when its answer was last looked for; see look
}

// look gives the nonces whose answers are to be looked for now, where another process may have taken them in: ever
// more seldom, lest those of an owner that is away cost much.
func (q *asks) look(now time.Time) (nonces []string) {
	for nonce, f := range q.flights {
		if now.Sub(f.looked) >= max(answerPoll, now.Sub(f.at)/20) {
			f.looked = now
			nonces = append(nonces, nonce)
		}
	}
	return nonces
}

const (
	flightsMax = 4                // asks under way before others wait and gather
	flightSlow = 30 * time.Second // after which one counts no more
	flightLost = time.Hour        // after which nobody waits for it any more
	refreshMax = 10_000           // keys that wait to be asked for
)

func newAsks() asks {
	return asks{next: map[string]*refresh{}, flights: map[string]*asking{}, capacity: refreshMax}
}

var errAsksFull = fmt.Errorf("weir: %d refreshes wait to be asked for: the owner does not answer", refreshMax)

// join gives the question to wait for.
func (q *asks) join(key string) (*refresh, error) {
	if r := q.next[key]; r != nil {
		return r, nil
	}
	if len(q.next) >= q.capacity {
		return nil, errAsksFull
	}
	r := &refresh{key: key, done: make(chan struct{})}
	q.next[key] = r
	q.order = append(q.order, key)
	return r, nil
}

// leave gives the keys of the next message, which is named nonce; none when enough are under way.
func (q *asks) leave(nonce string, now time.Time) []string {
	under := 0
	for _, f := range q.flights {
		if now.Sub(f.at) < flightSlow {
			under++
		}
	}
	n := min(len(q.order), pageStates)
	if under >= flightsMax || n == 0 {
		return nil
	}
	keys := append([]string(nil), q.order[:n]...)
	q.order = append(q.order[:0], q.order[n:]...)
	f := &asking{at: now, left: make(map[string]*refresh, n)}
	for _, key := range keys {
		f.left[key] = q.next[key]
		delete(q.next, key)
	}
	q.flights[nonce] = f
	return keys
}

// answered takes in a page of what was asked for.
func (q *asks) answered(nonce string, there []store.State, missing []checked) {
	f := q.flights[nonce]
	if f == nil {
		return
	}
	answer := func(key string, want int64) {
		if r := f.left[key]; r != nil {
			delete(f.left, key)
			r.want = want
			q.answers = append(q.answers, r)
		}
	}
	for i := range there {
		answer(there[i].Key, there[i].Version)
	}
	for _, m := range missing {
		want := int64(0)
		if m.Version > 0 {
			want = m.Version + 1 // its tombstone's
		}
		answer(m.Key, want)
	}
	if len(f.left) == 0 {
		delete(q.flights, nonce)
	}
}

// met lets those go whose answer memory has.
func (q *asks) met(version func(key string) int64) {
	rest := q.answers[:0]
	for _, r := range q.answers {
		if version(r.key) >= r.want {
			close(r.done)
		} else {
			rest = append(rest, r)
		}
	}
	clear(q.answers[len(rest):])
	q.answers = rest
}

// fail ends a flight with an error.
func (q *asks) fail(nonce string, err error) {
	f := q.flights[nonce]
	if f == nil {
		return
	}
	delete(q.flights, nonce)
	for _, r := range f.left {
		r.err = err
		close(r.done)
	}
}

var errNoAnswer = errors.New("weir: the owner has not answered within an hour")

// expire gives up flights that nobody can wait for any more.
func (q *asks) expire(now time.Time) {
	for nonce, f := range q.flights {
		if now.Sub(f.at) >= flightLost {
			q.fail(nonce, errNoAnswer)
		}
	}
}

// Refresh asks the owner for one key, and returns when memory has what the owner had after the call.
func (f *Following) Refresh(ctx context.Context, key string) error {
	if f.e.Detached() {
		return nil
	}
	if f.by == "" {
		s, err := f.exchange().State(ctx, f.entity, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			f.memory.Put([]store.State{s})
		}
		return err
	}
	f.mu.Lock()
	r, err := f.asks.join(key)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.hurry()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("weir: refresh %s %q: the owner has not answered yet: %w", f.entity, key, context.Cause(ctx))
	}
}

// hurry has the asker look.
func (f *Following) hurry() {
	select {
	case f.asking <- struct{}{}:
	default:
	}
}

// met lets refreshes go that memory has the answers of.
func (f *Following) met() {
	f.mu.Lock()
	f.asks.met(f.memory.Version)
	more := len(f.asks.order) > 0
	f.mu.Unlock()
	if more {
		f.hurry()
	}
}

// answerPoll is how often is looked for answers that another process of the store has taken in.
const answerPoll = 50 * time.Millisecond

// asker sends what is to be asked, as a member of the crew.
func (f *Following) asker(ctx context.Context, l *life) error {
	poll := l.intervals.Poll
	if l.st.Info().Lease > 0 {
		poll = answerPoll
	}
	return every(ctx, poll, f.asking, func(prodded bool) error {
		if !prodded {
			if err := f.lookForAnswers(ctx); err != nil && !away(err) {
				return ignoreStop(ctx, err)
			}
		}
		for {
			nonce := f.nonce()
			f.mu.Lock()
			f.asks.expire(time.Now())
			keys := f.asks.leave(nonce, time.Now())
			f.mu.Unlock()
			if len(keys) == 0 {
				return nil
			}
			if err := f.askFor(ctx, nonce, keys); err != nil {
				f.mu.Lock()
				f.asks.fail(nonce, err)
				f.mu.Unlock()
			}
		}
	})
}

func (f *Following) askFor(ctx context.Context, nonce string, keys []string) error {
	q := ask{Check: make([]checked, len(keys))}
	for i, key := range keys {
		q.Check[i] = checked{Key: key, Version: f.memory.Version(key)}
	}
	m, err := f.ask(&q, nonce)
	if err != nil {
		return err
	}
	m.BestEffort = true // others wait for theirs; this caller may ask again
	f.refreshed.Add(int64(len(keys)))
	return f.e.Send(ctx, []*store.Message{m}, nil)
}

// lookForAnswers finds those that another process has taken in.
func (f *Following) lookForAnswers(ctx context.Context) error {
	var nonces []string
	if f.e.st.Info().Lease > 0 {
		f.mu.Lock()
		nonces = f.asks.look(time.Now())
		f.mu.Unlock()
	}
	reader := f.e.st.Reader()
	for _, nonce := range nonces {
		list, err := reader.Messages(ctx, store.MessageQuery{Topic: pagesOf(f.entity).Name, Key: nonce, Max: store.MaxList})
		if err != nil {
			return err
		}
		for i := range list {
			story, err := reader.Message(ctx, list[i].ID)
			if errors.Is(err, store.ErrNotFound) {
				continue // retention has just taken it
			}
			if err != nil {
				return err
			}
			if p, there, err := decodePage(f.entity, story.Body); err == nil {
				f.fetched(nonce, p, there)
			}
		}
	}
	f.met()
	return nil
}
