package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// exchangeReader answers what is asked between boundaries, each call from one committed state.
type exchangeReader struct{ reader }

var _ store.ExchangeReader = exchangeReader{}

// Exchange implements store.Reader.
func (r reader) Exchange() store.ExchangeReader { return exchangeReader{r} }

const arrivalRowColumns = ` lane, batch, i, last, at_us, arrived, jumps, coalesce(drained_us, 0) `

func seeArrival(read scan) (row store.ArrivalRow, err error) {
	var when, drained int64
	err = read(&row.Lane, &row.Have.Batch, &row.Have.Index, &row.Have.Last, &when, &row.Arrived, &row.Jumps, &drained)
	if row.At = at(when); drained > 0 {
		row.DrainedAt = at(drained)
	}
	return row, err
}

const askArrivals = `select` + arrivalRowColumns + `from weir.arrivals where lane > $1 order by lane limit $2`

// Arrivals lists lanes by name, above after.
func (r exchangeReader) Arrivals(ctx context.Context, after string) ([]store.ArrivalRow, error) {
	if !storable(after) {
		return nil, nil
	}
	var out []store.ArrivalRow
	err := r.s.read(ctx, func(t *tx) error {
		return t.get(askArrivals, func(read scan) error {
			row, err := seeArrival(read)
			out = append(out, row)
			return err
		}, after, store.MaxList)
	})
	return out, err
}

const askWholeBatch = `select epoch, claimed_us, manifest from weir.batches where queue = $1 and no = $2`

// Batch is a batch as it was claimed, with what a person has replaced since.
func (r exchangeReader) Batch(ctx context.Context, queue store.QueueID, no int64) (*store.Batch, error) {
	b := &store.Batch{BatchRef: store.BatchRef{Queue: queue, No: no}}
	err := r.s.read(ctx, func(t *tx) error {
		t.do(sqlByIndex)
		var manifest []byte
		t.ask(askWholeBatch, func(read scan) error {
			var claimed int64
			err := read(&b.Epoch, &claimed, &manifest)
			b.ClaimedAt = at(claimed)
			return err
		}, int64(queue), no)
		w, err := newScribe(t)
		if err != nil {
			return err
		}
		var positions []int64
		if len(manifest) > 0 {
			if positions, err = batchrow.DecodeManifest(nil, manifest); err != nil {
				return fmt.Errorf("batch %d of queue %d: %w", no, queue, err)
			}
		}
		edits := map[int64]replaced{}
		t.ask(sqlEdits, func(read scan) error {
			var pos int64
			var e replaced
			err := read(&pos, &e.body, &e.headers)
			edits[pos] = e
			return err
		}, int64(queue), positions)
		found, err := w.read(positions, true)
		if err != nil {
			return err
		}
		for i, pos := range positions {
			if m := found[pos]; m != nil {
				edits[pos].apply(m)
				b.Deliveries = append(b.Deliveries, store.Delivery{Message: m, Index: i, Attempt: 1})
			}
		}
		if len(positions) == 0 || len(b.Deliveries) < len(positions) {
			return fmt.Errorf("%w: batch %d of queue %d was never claimed, or retention has deleted some of it", store.ErrNotFound, no, queue)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// replaced is what a person put in place of a body or of headers.
type replaced struct{ body, headers []byte }

func (e replaced) apply(m *store.Message) {
	if e.body != nil {
		m.Body = e.body
	}
	if e.headers != nil {
		m.Headers = e.headers
	}
}

const (
	stateColumns = ` key, version, contract, as_of_us, deleted, body `
	askState     = `select` + stateColumns + `from weir.states where entity = $1 and key = $2`
	askStates    = `select` + stateColumns + `from weir.states where entity = $1 and key > $2 and (not deleted or $3) order by key limit $4`
)

func seeState(read scan, entity string, more ...any) (store.State, error) {
	st := store.State{Entity: entity}
	var asOf int64
	err := read(append([]any{&st.Key, &st.Version, &st.Contract, &asOf, &st.Deleted, &st.Body}, more...)...)
	st.AsOf = at(asOf)
	return st, err
}

// State is one state, also a tombstone.
func (r exchangeReader) State(ctx context.Context, entity, key string) (store.State, error) {
	found, err := r.states(ctx, askState, entity, key)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: there is no state of %s %q", store.ErrNotFound, entity, key)
	}
	if err != nil {
		return store.State{}, err
	}
	return found[0], nil
}

// States lists a page of states, by key.
func (r exchangeReader) States(ctx context.Context, q store.StateQuery) ([]store.State, error) {
	return r.states(ctx, askStates, q.Entity, q.After, q.Deleted, listMax(q.Max))
}

func (r exchangeReader) states(ctx context.Context, query, entity, key string, args ...any) ([]store.State, error) {
	if !storable(entity) || !storable(key) {
		return nil, nil
	}
	var out []store.State
	err := r.s.read(ctx, func(t *tx) error {
		t.do(sqlByIndex)
		return t.get(query, func(read scan) error {
			st, err := seeState(read, entity)
			out = append(out, st)
			return err
		}, append([]any{entity, key}, args...)...)
	})
	return out, err
}

// What is new to a follower is what its mark's snapshot does not show: as with a queue's cursor,
// whatever the order in which transactions commit (cursor.go). Where that is more than a page, the
// mark also holds the snapshot of its first page, which all of them are read up to, and how far they came.
type mark struct {
	life         string // the incarnation: in another life snapshots say nothing
	seen, target string // target is "" between pages
	xid, key     string // the last one read, if there is a target
}

func (m mark) String() string {
	if m.target == "" {
		return m.life + " " + m.seen
	}
	return strings.Join([]string{m.life, m.seen, m.target, m.xid, m.key}, " ")
}

var errMark = errors.New("the mark is none of this store's: begin with the empty one")

// parseMark reads a mark. That of another life begins anew: what is repeated does no harm.
func parseMark(text, life string) (mark, error) {
	anew := mark{life: life, seen: "1:1:"}
	if text == "" {
		return anew, nil
	}
	parts := strings.SplitN(text, " ", 5)
	if len(parts) != 2 && len(parts) != 5 {
		return mark{}, errMark
	}
	m := mark{life: parts[0], seen: parts[1]}
	snapshots := parts[1:2]
	if len(parts) == 5 {
		m.target, m.xid, m.key = parts[2], parts[3], parts[4]
		snapshots = parts[1:3]
		if _, err := strconv.ParseUint(m.xid, 10, 64); err != nil || !storable(m.key) {
			return mark{}, errMark
		}
	}
	for _, s := range snapshots {
		if _, err := parseSnapshot(s); err != nil {
			return mark{}, errMark
		}
	}
	if m.life != life {
		return anew, nil
	}
	return m, nil
}

// askChanges reads what is not visible in $2, but in $3, above ($4, $5).
const askChanges = `select` + stateColumns + `, xid::text from (
		(select * from weir.states where entity = $1 and xid >= pg_snapshot_xmax($2::text::pg_snapshot) and (xid, key) > ($4::text::xid8, $5::text)
			and pg_visible_in_snapshot(xid, $3::text::pg_snapshot) order by xid, key limit $6)
		union all
		(select s.* from pg_snapshot_xip($2::text::pg_snapshot) as x cross join lateral (
				select * from weir.states where entity = $1 and xid = x and (xid, key) > ($4::text::xid8, $5::text) order by xid, key limit $6) s
			where pg_visible_in_snapshot(x, $3::text::pg_snapshot))) c
	order by c.xid, c.key limit $6`

// Changes lists states written after a mark.
func (r exchangeReader) Changes(ctx context.Context, entity, text string, max int) ([]store.State, string, error) {
	if !storable(entity) {
		return nil, text, nil
	}
	var out []store.State
	var m mark
	err := r.s.read(ctx, func(t *tx) error {
		t.do(sqlByIndex)
		t.askLives()
		var now string
		err := t.get(sqlSnapshot, func(read scan) error { return read(&now) })
		if err != nil {
			return err
		}
		if m, err = parseMark(text, string(t.s.lives().Current().Incarnation)); err != nil {
			return err
		}
		for _, until := range []string{m.target, now} { // first the rest of the pages begun
			if until == "" {
				continue
			}
			if m.target == "" {
				m.target, m.xid, m.key = until, "0", ""
			}
			room := listMax(max) - len(out)
			before := len(out)
			err = t.get(askChanges, func(read scan) error {
				st, err := seeState(read, entity, &m.xid)
				m.key = st.Key
				out = append(out, st)
				return err
			}, entity, m.seen, m.target, m.xid, m.key, room)
			if err != nil || len(out)-before == room {
				return err
			}
			m.seen, m.target = m.target, ""
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return out, m.String(), nil
}

// Each entity is found from the one before it, rather than by a look at all states.
const askEntities = `with recursive e(entity) as (
		(select entity from weir.states order by entity limit 1)
		union all
		select (select s.entity from weir.states s where s.entity > e.entity order by s.entity limit 1) from e where e.entity is not null)
	select e.entity, n.version, n.as_of_us, coalesce(c.live, 0), coalesce(c.deleted, 0)
	from e left join (select entity, sum(live)::bigint as live, sum(deleted)::bigint as deleted from weir.entity_tally group by entity) c on c.entity = e.entity
	cross join lateral (select version, as_of_us from weir.states s where s.entity = e.entity order by version desc limit 1) n
	order by e.entity limit $1`

// Entities lists by name what there are states of.
func (r exchangeReader) Entities(ctx context.Context) (out []store.EntityRow, err error) {
	err = r.s.read(ctx, func(t *tx) error {
		t.do(sqlByIndex)
		out, err = readEntities(t)
		return err
	})
	return out, err
}

func readEntities(t *tx) ([]store.EntityRow, error) {
	var out []store.EntityRow
	err := t.get(askEntities, func(read scan) error {
		var e store.EntityRow
		var asOf int64
		err := read(&e.Entity, &e.Newest, &asOf, &e.Live, &e.Deleted)
		e.AsOf = at(asOf)
		out = append(out, e)
		return err
	}, store.MaxList)
	return out, err
}
