package sqlite

import (
	"context"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// exchangeReader answers what is asked between boundaries, each call from one snapshot.
type exchangeReader struct{ reader }

var _ store.ExchangeReader = exchangeReader{}

// Exchange answers what is asked between boundaries.
func (r reader) Exchange() store.ExchangeReader { return exchangeReader{r} }

const selectArrivals = `select lane, batch, ix, last, at_us, arrived, jumps, drained_us from weir_arrivals where lane > ?1 order by lane limit ?2`

// Arrivals lists lanes by name, above after.
func (r exchangeReader) Arrivals(ctx context.Context, after string) ([]store.ArrivalRow, error) {
	var out []store.ArrivalRow
	err := r.s.read(ctx, func(c *conn) error {
		return c.query(selectArrivals, []any{after, store.MaxList}, func(st *sqlite.Stmt) error {
			out = append(out, arrivalRow(st))
			return nil
		})
	})
	return out, err
}

func arrivalRow(st *sqlite.Stmt) store.ArrivalRow {
	row := store.ArrivalRow{Lane: st.ColumnText(0),
		Have: store.Place{Batch: st.ColumnInt64(1), Index: st.ColumnInt(2), Last: st.ColumnBool(3)},
		At:   moment(st, 4), Arrived: st.ColumnInt64(5), Jumps: st.ColumnInt64(6)}
	if !st.ColumnIsNull(7) {
		row.DrainedAt = moment(st, 7)
	}
	return row
}

const wholeBatch = `select b.epoch, b.claimed_us, b.manifest, t.name, t.kind
	from weir_batches b join weir_queues q on q.id = ?2 join weir_topics t on t.id = q.topic where b.id = ?1`

// Batch is a batch as it was claimed, with what a person has replaced since.
func (r exchangeReader) Batch(ctx context.Context, queue store.QueueID, no int64) (*store.Batch, error) {
	b := &store.Batch{BatchRef: store.BatchRef{Queue: queue, No: no}}
	gone := fmt.Errorf("%w: batch %d of queue %d was never claimed, or retention has deleted some of it", store.ErrNotFound, no, queue)
	if queue < 1 || no < 1 || no > numberMask {
		return nil, gone
	}
	err := r.s.read(ctx, func(c *conn) error {
		l := &loader{lives: r.s.lives()}
		var positions []int64
		err := c.query(wholeBatch, []any{batchID(b.BatchRef), int64(queue)}, func(st *sqlite.Stmt) (err error) {
			b.Epoch, b.ClaimedAt = st.ColumnInt64(0), moment(st, 1)
			l.topic, l.kind = st.ColumnText(3), store.Kind(st.ColumnInt64(4))
			positions, err = batchrow.DecodeManifest(nil, blob(st, 2))
			return err
		})
		if err != nil {
			return fmt.Errorf("batch %d of queue %d: %w", no, queue, err)
		}
		if len(positions) == 0 {
			return gone
		}
		for _, pos := range positions {
			found, err := l.one(c, pos)
			if err != nil {
				return err
			}
			if !found {
				return gone
			}
		}
		messages := l.done()
		for i := range messages {
			b.Deliveries = append(b.Deliveries, store.Delivery{Message: &messages[i], Index: i, Attempt: 1})
		}
		return editDeliveries(c, int64(queue), b.Deliveries)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

const (
	stateColumns = ` s.id, s.key, s.version, s.contract, s.as_of_us, s.body `
	stateOf      = `select` + stateColumns + `from weir_entities e join weir_states s indexed by weir_states_key on s.entity = e.id
		where e.name = ?1 and s.key = ?2`
	statesAfter = `select` + stateColumns + `from weir_entities e join weir_states s indexed by weir_states_key on s.entity = e.id
		where e.name = ?1 and s.key > ?2 and (s.body is not null or ?3) order by s.key limit ?4`
	statesChanged = `select` + stateColumns + `from weir_entities e join weir_states s on s.id > (e.id << 40 | ?2) and s.id <= (e.id << 40 | 0xffffffffff)
		where e.name = ?1 order by s.id limit ?3`
	selectEntities = `select name, live, deleted, newest, as_of_us from weir_entities order by name limit ?1`
)

// states reads by a statement with stateColumns, and gives the number of the last change.
func (r exchangeReader) states(ctx context.Context, entity, query string, args ...any) (out []store.State, last int64, err error) {
	err = r.s.read(ctx, func(c *conn) error {
		return c.query(query, append([]any{entity}, args...), func(st *sqlite.Stmt) error {
			last = numberOf(st.ColumnInt64(0))
			out = append(out, store.State{Entity: entity, Key: st.ColumnText(1), Version: st.ColumnInt64(2), Contract: st.ColumnInt(3),
				AsOf: moment(st, 4), Deleted: st.ColumnIsNull(5), Body: blob(st, 5)})
			return nil
		})
	})
	return out, last, err
}

// State is one state, also a tombstone.
func (r exchangeReader) State(ctx context.Context, entity, key string) (store.State, error) {
	found, _, err := r.states(ctx, entity, stateOf, key)
	if err != nil {
		return store.State{}, err
	}
	if len(found) == 0 {
		return store.State{}, fmt.Errorf("%w: there is no state of %s %q", store.ErrNotFound, entity, key)
	}
	return found[0], nil
}

// States lists a page of states, by key.
func (r exchangeReader) States(ctx context.Context, q store.StateQuery) ([]store.State, error) {
	out, _, err := r.states(ctx, q.Entity, statesAfter, q.After, q.Deleted, listMax(q.Max))
	return out, err
}

// Changes lists the states written after a mark. On one writer the order of writing is that of
// commits, so nothing below a mark can come later.
func (r exchangeReader) Changes(ctx context.Context, entity, mark string, max int) ([]store.State, string, error) {
	after := int64(0)
	if mark != "" {
		var err error
		if after, err = strconv.ParseInt(mark, 10, 64); err != nil || after < 0 || after > numberMask {
			return nil, "", fmt.Errorf("mark %q is none of this store's: begin with the empty one", mark)
		}
	}
	out, last, err := r.states(ctx, entity, statesChanged, after, listMax(max))
	if err != nil || len(out) == 0 {
		return nil, mark, err
	}
	return out, strconv.FormatInt(last, 10), nil
}

// Entities lists by name what there are states of.
func (r exchangeReader) Entities(ctx context.Context) ([]store.EntityRow, error) {
	var out []store.EntityRow
	err := r.s.read(ctx, func(c *conn) error {
		return c.query(selectEntities, []any{store.MaxList}, func(st *sqlite.Stmt) error {
			out = append(out, store.EntityRow{Entity: st.ColumnText(0), Live: st.ColumnInt64(1), Deleted: st.ColumnInt64(2),
				Newest: st.ColumnInt64(3), AsOf: moment(st, 4)})
			return nil
		})
	})
	return out, err
}
