package postgres

import "github.com/weir-go/weir/store"

// tails are the topics that a transaction sends to, by their names, with the queues that work from them.
type tails struct {
	known   map[string]*tail
	asked   []string // names
	outside bool     // they are sent to from outside: what is full refuses it
	// depthsSeen is the snapshot that the queues' depths were read with, if any was.
	depthsSeen string
	depths     bool // are asked for
}

// tail is a topic, with the queues that work from it.
type tail struct {
	id     int64
	name   string
	kind   store.Kind
	queues []*queueTail
	added  int64 // by this transaction
}

// queueTail is a queue as far as appending is concerned.
type queueTail struct {
	id               int64
	name             string
	capacity, maxLag int64
	required, parked bool
	depth            int64 // if it is asked for: with what this transaction has appended
	wanted           int64 // by the change under decision
}

// bounds are which of its queues' depths a topic's senders have to know.
type bounds struct {
	room bool // from outside
	lag  bool
}

func (b bounds) matter(outside bool) bool { return b.lag || b.room && outside }

const (
	sqlDepth = `(select (s.appended - q.base - w.done - w.gone)::bigint from weir.topic_counts s, weir.queue_counts w
		where s.topic = q.topic and w.queue = q.id)`
	sqlTails = `select t.id, t.name, t.kind, coalesce(q.id, 0), coalesce(q.name, ''), coalesce(q.capacity, 0), coalesce(q.max_lag, 0),
		coalesce(q.required, false), q.parked_us is not null
		from weir.topics t left join weir.queues q on q.topic = t.id where t.name = any($1::text[])`
	// sqlDepths stands apart: to make it ready costs as much as to write ten messages, also when no queue is bounded.
	sqlDepths = `select t.name, q.id, ` + sqlDepth + `, pg_current_snapshot()::text
		from weir.topics t join weir.queues q on q.topic = t.id where t.name = any($1::text[]) and ($2 and q.capacity > 0 or q.max_lag > 0)`
)

// askTails queues a look at topics, and at the depths of those queues that were bounded when they were last seen.
func (a *appender) askTails(names map[string]bool, outside bool) {
	list, matter := make([]string, 0, len(names)), false
	for n := range names {
		if storable(n) {
			list = append(list, n)
			b, _ := a.s.bounds.Load(n)
			matter = matter || b != nil && b.(bounds).matter(outside)
		}
	}
	a.asked, a.outside, a.depths = append(a.asked, list...), outside, false
	a.ask(sqlTails, a.readTail, list)
	if matter {
		a.askDepths()
	}
}

func (a *appender) readTail(read scan) error {
	var t tail
	var q queueTail
	err := read(&t.id, &t.name, &t.kind, &q.id, &q.name, &q.capacity, &q.maxLag, &q.required, &q.parked)
	if err != nil {
		return err
	}
	known := a.known[t.name]
	if known == nil {
		known = &t
		a.known[t.name] = known
	}
	if q.id != 0 {
		known.queues = append(known.queues, &q)
	}
	return nil
}

func (a *appender) askDepths() {
	a.depths = true
	a.ask(sqlDepths, func(read scan) error {
		var name string
		var id, depth int64
		if err := read(&name, &id, &depth, &a.depthsSeen); err != nil {
			return err
		}
		if t := a.known[name]; t != nil {
			for _, q := range t.queues {
				if q.id == id {
					q.depth = depth
				}
			}
		}
		return nil
	}, a.asked, a.outside)
}

// completeTails reads depths that were not asked for with the topics, since no queue was known to be bounded.
func (a *appender) completeTails() error {
	matter := false
	for _, name := range a.asked {
		t := a.known[name]
		if t == nil {
			continue
		}
		var b bounds
		for _, q := range t.queues {
			b.room, b.lag = b.room || q.capacity > 0, b.lag || q.maxLag > 0
		}
		if before, _ := a.s.bounds.Load(name); before != b {
			a.s.bounds.Store(name, b)
		}
		matter = matter || b.matter(a.outside)
	}
	if !matter || a.depths {
		return nil
	}
	a.askDepths()
	return a.flush()
}

// limited reports whether a full queue refuses senders: a command's always, an
// event's subscriber if it was declared to.
func (q *queueTail) limited(t *tail) bool {
	return q.capacity > 0 && (t.kind == store.KindCommand || q.required)
}

// falls reports whether a queue is to be parked: its lag has grown past its bound,
// or, since it was resumed beyond it, past the next multiple of that.
func (q *queueTail) falls(t *tail) bool {
	if t.kind == store.KindCommand || q.required || q.maxLag == 0 || q.parked {
		return false
	}
	return (q.depth-1)/q.maxLag > max(q.depth-t.added-1, 0)/q.maxLag
}
