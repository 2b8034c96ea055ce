package sqlite

import (
	"errors"
	"fmt"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

// A wait meets the lowest message of its topic and key. Messages that come later
// than the wait are matched as they are appended, whoever appends them; those that
// were there before it, when it is written.

const (
	sqlAwaited        = `select 1 from weir_waits indexed by weir_waits_key where topic = ?1 limit 1`
	sqlWaiters        = `select run, n, since_us, after_pos from weir_waits indexed by weir_waits_key where topic = ?1 and key = ?2`
	sqlUnwait         = `delete from weir_waits where run = ?1 and n = ?2`
	sqlNoWaits        = `delete from weir_waits where run = ?1`
	sqlNewWait        = `insert or replace into weir_waits (run, n, topic, key, since_us, after_pos) values (?1, ?2, ?3, ?4, ?5, ?6)`
	sqlRecordsWaiting = `select n from weir_waits where run = ?1`
	sqlLookBack       = `select pos, sent_us from weir_messages indexed by weir_messages_key
		where key = ?1 and pos > ?2 and pos < ?3 order by pos desc`
	sqlLookKept = `select pos, sent_us from weir_kept indexed by weir_kept_key
		where key = ?1 and pos > ?2 and pos < ?3 order by pos desc`
	sqlFirstOf = `select pos, sent_us from weir_messages indexed by weir_messages_key
		where key = ?1 and pos > ?2 and pos < ?3 order by pos limit 1`
	sqlFirstKept = `select pos, sent_us from weir_kept indexed by weir_kept_key
		where key = ?1 and pos > ?2 and pos < ?3 order by pos limit 1`
	sqlReplyTo = `select pos from weir_messages where pos > ?1 and pos < ?2 and cause = ?3 order by pos limit 1`
)

// checkWaits refuses waits that cannot be met.
func (t *commit) checkWaits(ch *store.Change, l *lease) (refused, err error) {
	u := ch.Run
	if len(u.Waits) > store.MaxWaits {
		return fmt.Errorf("%d waits in one update, at most %d", len(u.Waits), store.MaxWaits), nil
	}
	for i := range u.Waits {
		w := &u.Waits[i]
		switch {
		case w.N < 1 || w.N > store.MaxRecords:
			return fmt.Errorf("wait of record %d: want a number from 1 to %d", w.N, store.MaxRecords), nil
		case w.Topic.Name == "" || w.Topic.Kind < store.KindEvent || w.Topic.Kind > store.KindSignal:
			return fmt.Errorf("wait for topic %q as %s: want a name, and event, reply or signal", w.Topic.Name, w.Topic.Kind), nil
		case w.Reply < 0 || w.Reply > len(ch.Sends):
			return fmt.Errorf("wait for the reply to message %d of %d", w.Reply, len(ch.Sends)), nil
		case w.Reply == 0 && w.Key == "":
			return errors.New("wait without a key"), nil
		}
		top, err := t.tail(&store.Message{Topic: w.Topic.Name, Kind: w.Topic.Kind})
		if err != nil {
			return nil, err
		}
		if top.kind != w.Topic.Kind {
			return fmt.Errorf("wait for %s as %s: it is declared as %s", w.Topic.Name, w.Topic.Kind, top.kind), nil
		}
	}
	if l.waits >= 0 && l.waits+len(u.Waits) <= store.MaxWaits {
		return nil, nil
	}
	n, err := t.countWaits(l, u)
	if err == nil && n > store.MaxWaits {
		refused = fmt.Errorf("%d waits of one run, at most %d", n, store.MaxWaits)
	}
	return refused, err
}

// countWaits says how many waits a run would have after an update.
func (t *commit) countWaits(l *lease, u *store.RunUpdate) (int, error) {
	after := map[int]bool{}
	err := t.c.query(sqlRecordsWaiting, []any{l.no}, func(st *sqlite.Stmt) error {
		after[st.ColumnInt(0)] = true
		return nil
	})
	if err != nil {
		return 0, err
	}
	t.save(l)
	l.waits = len(after)
	for _, n := range u.Unwait {
		delete(after, n)
	}
	for i := range u.Waits {
		after[u.Waits[i].N] = true
	}
	return len(after), nil
}

// unwait ends a record's wait.
func (t *commit) unwait(l *lease, n int) error {
	if !l.ties {
		return nil
	}
	if err := t.c.exec(sqlUnwait, l.no, n); err != nil {
		return err
	}
	if l.waits > 0 && t.c.changes() > 0 {
		t.save(l)
		l.waits--
	}
	return nil
}

// wait begins a wait, or meets it at once.
func (t *commit) wait(ch *store.Change, l *lease, w *store.Wait) error {
	top, err := t.tail(&store.Message{Topic: w.Topic.Name, Kind: w.Topic.Kind})
	if err != nil {
		return err
	}
	if top.id == 0 {
		if err := t.makeTopic(top); err != nil {
			return err
		}
	}
	if err := t.unwait(l, w.N); err != nil {
		return err
	}
	key, since, pos := any(w.Key), us(w.Since), int64(0)
	if w.Reply > 0 {
		request := int64(ch.Sends[w.Reply-1].Pos)
		key, since = request, 0
		if numberOf(request) < t.first { // it repeats an earlier one
			pos, err = t.replyTo(top, request)
		}
	} else {
		pos, err = t.lookBack(top, w)
	}
	if err != nil {
		return err
	}
	if pos != 0 {
		return t.deliver(parcel{run: l.no, kind: store.Arrived, n: int64(w.N), pos: pos})
	}
	t.save(l)
	l.ties = true
	if l.waits >= 0 {
		l.waits++
	}
	t.tables.waits = true
	return t.c.exec(sqlNewWait, l.no, w.N, top.id, key, since, int64(w.After))
}

// lookBackPast is how many messages older than the wait a look back passes: a clock
// that was set back may have left newer ones before them.
const lookBackPast = 100

// lookBack finds the lowest message that meets a wait; 0 if there is none yet.
func (t *commit) lookBack(top *tail, w *store.Wait) (int64, error) {
	if top.lastPos == 0 {
		return 0, nil
	}
	after, before := idRange(top.id)
	after = max(after, int64(w.After))
	queries, since := [...]string{sqlFirstKept, sqlFirstOf}, us(w.Since)
	if since > 0 {
		queries = [...]string{sqlLookKept, sqlLookBack}
	}
	lowest := int64(0)
	for _, query := range queries {
		older := 0
		err := t.c.query(query, []any{w.Key, after, before}, func(st *sqlite.Stmt) error {
			pos := st.ColumnInt64(0)
			switch {
			case st.ColumnInt64(1) < since:
				if older++; older > lookBackPast {
					return errEnough
				}
			case lowest == 0 || pos < lowest:
				lowest = pos
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return 0, err
		}
	}
	return lowest, nil
}

// replyTo finds the reply to a request that was sent before.
func (t *commit) replyTo(top *tail, request int64) (int64, error) {
	after, before := idRange(top.id)
	pos, _, err := t.c.number(sqlReplyTo, after|numberOf(request), before, request)
	return pos, err
}

// meetWaits makes mail of the waits that the messages appended meet.
func (b *runbook) meetWaits() error {
	for _, m := range b.appended {
		t := b.tails[m.Topic]
		if t.kind == store.KindCommand {
			continue
		}
		if !t.asked {
			t.asked = true
			if err := b.j.rows(sqlAwaited, []any{t.id}, []any{&t.awaited}, func() error { return nil }); err != nil {
				return err
			}
		}
		if t.awaited == 0 {
			continue
		}
		if m.Key != "" {
			if err := b.meetAll(t, m, m.Key); err != nil {
				return err
			}
		}
		if request, ok := b.lives.Local(m.Cause); ok && t.kind == store.KindReply {
			if err := b.meetAll(t, m, int64(request)); err != nil {
				return err
			}
		}
	}
	return nil
}

// meetAll meets the waits of a topic with a key, or for the reply to a request.
func (b *runbook) meetAll(t *tail, m *store.Message, key any) error {
	var met []parcel
	var run, n, since, after int64
	err := b.j.rows(sqlWaiters, []any{t.id, key}, []any{&run, &n, &since, &after}, func() error {
		if b.now >= since && int64(m.Pos) > after {
			met = append(met, parcel{run: run, kind: store.Arrived, n: n, pos: int64(m.Pos)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range met {
		if err := b.j.exec(sqlUnwait, p.run, p.n); err != nil {
			return err
		}
		if err := b.deliver(p); err != nil {
			return err
		}
	}
	return nil
}
