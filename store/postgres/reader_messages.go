package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// The newest messages of all topics are the newest few of each, put in order. Only
// then their rows are read.
const (
	askNewest = `select n.pos from (
			select t.id::bigint << 40 | m.seq as pos, m.seq from weir.topics t cross join lateral (
				select seq from weir.messages where topic = t.id and seq < $1 order by seq desc limit $2) m
			where $3 = '' or t.name = $3
			union
			select t.id::bigint << 40 | k.seq, k.seq from weir.topics t cross join lateral (
				select seq from weir.kept where topic = t.id and seq < $1 order by seq desc limit $2) k
			where $3 = '' or t.name = $3) n
		order by n.seq desc limit $2`
	askNewestOfKey = `select n.pos from (
			select topic::bigint << 40 | seq as pos, seq from weir.messages where key = $4 and seq < $1
				and ($3 = '' or topic = (select id from weir.topics where name = $3))
			union
			select topic::bigint << 40 | seq, seq from weir.kept where key = $4 and seq < $1
				and ($3 = '' or topic = (select id from weir.topics where name = $3))) n
		order by n.seq desc limit $2`
)

// sinceSlack is by how much the order of sending and the order of positions may differ:
// a list that goes back to a time stops that much earlier.
const sinceSlack = time.Minute

// Messages lists messages, newest first.
func (r reader) Messages(ctx context.Context, q store.MessageQuery) ([]store.Message, error) {
	if !storable(q.Topic) || !storable(q.Key) {
		return nil, nil
	}
	var out []store.Message
	err := r.s.read(ctx, func(t *tx) error {
		w, err := newScribe(t)
		if err != nil {
			return err
		}
		out, err = w.list(q)
		return err
	})
	return out, err
}

// list reads page by page until it has enough, or what is left is too old.
func (w *scribe) list(q store.MessageQuery) ([]store.Message, error) {
	var out []store.Message
	page := listMax(q.Max)
	before := int64(math.MaxInt64)
	if q.Before > 0 {
		before = seqOf(int64(q.Before))
	}
	for {
		positions, err := w.newest(q, before, page)
		if err != nil || len(positions) == 0 {
			return out, err
		}
		found, err := w.read(positions, false)
		if err != nil {
			return nil, err
		}
		for _, pos := range positions {
			m := found[pos]
			switch {
			case m == nil:
			case w.came[m.Pos].Before(q.Since.Add(-sinceSlack)):
				return out, nil
			case !w.came[m.Pos].Before(q.Since):
				out = append(out, *m)
			}
			if len(out) == page {
				return out, nil
			}
		}
		before = seqOf(positions[len(positions)-1])
		if len(positions) < page {
			return out, nil
		}
	}
}

// newest gives positions below a seq, newest first.
func (w *scribe) newest(q store.MessageQuery, before int64, max int) ([]int64, error) {
	if q.Key != "" {
		return w.t.numbers(askNewestOfKey, before, max, q.Topic, q.Key)
	}
	return w.t.numbers(askNewest, before, max, q.Topic)
}

// Message is one message with its body and everything that happened to it.
func (r reader) Message(ctx context.Context, id string) (store.MessageStory, error) {
	var out store.MessageStory
	err := r.s.read(ctx, func(t *tx) error {
		w, err := newScribe(t)
		if err != nil {
			return err
		}
		pos, err := t.locate(id)
		if err != nil {
			return err
		}
		found, err := w.read([]int64{pos}, true)
		if err != nil {
			return err
		}
		if found[pos] == nil {
			return fmt.Errorf("%w: message %s was never sent, or retention has deleted it", store.ErrNotFound, id)
		}
		out.Message = *found[pos]
		told, err := tell(t, []int64{pos})
		out.Queues = told[pos]
		return err
	})
	return out, err
}

// bySeq orders positions of any topics by their seq.
func bySeq(positions []int64) {
	slices.SortFunc(positions, func(a, b int64) int { return cmp.Compare(seqOf(a), seqOf(b)) })
}
