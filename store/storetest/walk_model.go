package storetest

import (
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// The walk's model: what each queue must hold, kept beside the store in the
// plainest way. It does not foretell what a claim returns, it judges it.

// fate is what has become of a message in a queue.
type fate uint8

const (
	waits     fate = iota // not claimed yet
	leased                // in an open batch
	postponed             // retried, not yet possible, or behind another of its key
	died
	worked
	dropped
)

func (f fate) String() string {
	return [...]string{"waiting", "leased", "deferred", "dead", "done", "discarded"}[f]
}

// copyOf is a message in one queue.
type copyOf struct {
	*store.Message
	queue   string
	fate    fate
	batch   store.BatchRef // the last that leased it
	before  store.BatchRef // the one that leased it before
	index   int
	mine    bool      // leased to the process that lives
	due     time.Time // of the postponed; zero when it waits for no time
	attempt int       // the number the next attempt gets
	first   time.Time // when the first attempt began
	retried bool      // by a person: its first attempt is another now
	claimed bool      // once at least
	deaths  int64     // how often it joined the dead
}

// line is a queue.
type line struct {
	store.Queue
	id      store.QueueID
	copies  []*copyOf // by position
	paused  bool
	newest  int64          // number of its newest batch
	suspect map[int64]bool // its abandoned batches: did their process crash?
}

func (l *line) at(pos store.Pos) *copyOf {
	i, ok := slices.BinarySearchFunc(l.copies, pos, func(c *copyOf, p store.Pos) int { return int(c.Pos - p) })
	if !ok {
		return nil
	}
	return l.copies[i]
}

// append takes a message into the queue.
func (l *line) append(m *store.Message) {
	l.copies = append(l.copies, &copyOf{Message: m, queue: l.Name, attempt: 1})
}

func (l *line) count(fates ...fate) int64 {
	n := int64(0)
	for _, c := range l.copies {
		if slices.Contains(fates, c.fate) {
			n++
		}
	}
	return n
}

// deaths is how often a message joined the queue's dead.
func (l *line) deaths() int64 {
	n := int64(0)
	for _, c := range l.copies {
		n += c.deaths
	}
	return n
}

// oldest is when the oldest of the depth was sent.
func (l *line) oldest() time.Time {
	var oldest time.Time
	for _, c := range l.copies {
		pending := c.fate == waits || c.fate == leased || c.fate == postponed
		if pending && (oldest.IsZero() || c.SentAt.Before(oldest)) {
			oldest = c.SentAt
		}
	}
	return oldest
}

func (l *line) depth() int64 { return l.count(waits, leased, postponed) }

// earlier yields the earlier messages of c's key.
func (l *line) earlier(c *copyOf) []*copyOf {
	var before []*copyOf
	if c.Key == "" {
		return nil
	}
	for _, e := range l.copies {
		if e.Pos >= c.Pos {
			break
		}
		if e.Key == c.Key {
			before = append(before, e)
		}
	}
	return before
}

// blocked reports whether c may not be delivered because of an earlier one of its
// key that waits for something.
func (l *line) blocked(c *copyOf) bool {
	return slices.ContainsFunc(l.earlier(c), func(e *copyOf) bool {
		return e.fate == postponed || e.fate == died && l.OnDead != store.Skip
	})
}

// inTurn reports whether c could be delivered to this process after all earlier
// ones of its key: each is over, or in the hands of this process.
func (l *line) inTurn(c *copyOf) bool {
	if l.OnDead == store.Skip && c.claimed {
		return true // what was skipped past, or came back, is out of turn for good
	}
	return !slices.ContainsFunc(l.earlier(c), func(e *copyOf) bool {
		switch e.fate {
		case worked, dropped:
			return false
		case leased:
			return !e.mine
		case died:
			return l.OnDead != store.Skip
		}
		return true
	})
}

// ready reports whether a claim that finds nothing has overlooked c.
func (l *line) ready(c *copyOf, now time.Time) bool {
	if c.fate != waits && c.fate != postponed {
		return false
	}
	if c.fate == waits && c.Due.After(now) || c.due.After(now) {
		return false
	}
	return !slices.ContainsFunc(l.earlier(c), func(e *copyOf) bool { return e.fate != worked && e.fate != dropped })
}

// nextDue is the earliest time that something postponed or delayed waits for.
func (l *line) nextDue(now time.Time) time.Time {
	var next time.Time
	for _, c := range l.copies {
		due := c.due
		if c.fate == waits {
			due = c.Due
		} else if c.fate != postponed {
			continue
		}
		if due.After(now) && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

// workable lists the leased copies whose turn it is in this process: of each key the first.
func (l *line) workable() []*copyOf {
	seen := map[string]bool{}
	var list []*copyOf
	for _, c := range l.copies {
		if c.fate != leased || !c.mine || c.Key != "" && seen[c.Key] {
			continue
		}
		seen[c.Key] = true
		list = append(list, c)
	}
	return list
}

// followers are the copies in the hands of this process that follow c in its key.
func (l *line) followers(c *copyOf) []*copyOf {
	var after []*copyOf
	for _, f := range l.copies {
		if c.Key != "" && f.Key == c.Key && f.Pos > c.Pos && f.fate == leased && f.mine {
			after = append(after, f)
		}
	}
	return after
}

// abandoned lists the batches that no living process holds, by number.
func (l *line) abandoned() []int64 {
	var open []int64
	for _, c := range l.copies {
		if c.fate == leased && !c.mine && !slices.Contains(open, c.batch.No) {
			open = append(open, c.batch.No)
		}
	}
	slices.Sort(open)
	return open
}

// leave makes the batches of the process abandoned.
func (l *line) leave(crashed bool) {
	for _, c := range l.copies {
		if c.fate == leased && c.mine {
			c.mine = false
			l.suspect[c.batch.No] = crashed
		}
	}
}

// settled makes a settlement true.
func (c *copyOf) settled(s store.Settlement) {
	c.mine = false
	if !s.Started.IsZero() && c.first.IsZero() {
		c.first = s.Started
	}
	switch s.Verdict {
	case store.Done:
		c.fate = worked
	case store.Discarded:
		c.fate = dropped
	case store.Dead:
		c.fate = died
		c.deaths++
	case store.Retry:
		c.fate, c.due, c.attempt = postponed, s.Due, c.attempt+1
	case store.NotYet:
		c.fate, c.due = postponed, s.Due
	case store.Behind:
		c.fate, c.due = postponed, time.Time{}
	}
}
