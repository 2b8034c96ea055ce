package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// A commit whose answer is lost with the connection is neither believed to have come about,
// nor run again: on another connection the server is asked what became of the transaction,
// by its number. A server that has started anew since, or a standby in its place, may have
// given the number to another transaction; so then what was written is looked for, too.

// errNoEvidence is returned when what a transaction wrote does not tell whether it committed.
var errNoEvidence = errors.New("nothing tells whether it came about")

// commit sends what is queued and commits. When the answer is lost with the connection,
// it finds out what became of it.
func (t *tx) commit(c *pgxpool.Conn) error {
	t.todo = append(t.todo, question{query: t.s.text(sqlCommit), row: func(scan) error { return nil }, met: &t.ending})
	err := t.flush()
	if err == nil {
		t.over = true
		t.settled()
		return nil
	}
	if !c.Conn().IsClosed() || errors.Is(err, store.ErrLeaseLost) {
		return err
	}
	if !errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if t.again {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), fateTime)
	defer cancel()
	done, asked := t.fate(ctx)
	switch {
	case asked != nil:
		return fmt.Errorf("%w (%w): %w", store.ErrUnresolved, asked, err)
	case done:
		t.over = true
		return nil
	}
	return err
}

// fateTime is how long a commit whose answer was lost is asked after: the server may be starting anew.
const fateTime = 15 * time.Second

// fate asks until it is told, on other connections, whether the transaction was committed.
func (t *tx) fate(ctx context.Context) (committed bool, err error) {
	for wait := fateWaitMin; ; wait = min(2*wait, fateWaitMax) {
		committed, known, err := t.askFate(ctx)
		switch {
		case known, errors.Is(err, errNoEvidence):
			return committed, err
		case ctx.Err() != nil:
			return false, errors.Join(errors.New("the server does not say"), err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, errors.Join(context.Cause(ctx), err)
		}
	}
}

const (
	fateWaitMin = 10 * time.Millisecond
	fateWaitMax = time.Second

	sqlFate = `select coalesce(pg_xact_status($1::text::xid8), ''), pg_postmaster_start_time()::text`

	invalidParameter = "22023"
)

// askFate asks once. known is false when it is too early to say, or the server does not answer.
func (t *tx) askFate(ctx context.Context) (committed, known bool, err error) {
	if t.xid == "" { // not even the answer to the transaction's beginning came back
		return t.askEvidence(ctx)
	}
	var status, server string
	err = t.s.aside.QueryRow(ctx, sqlFate, t.xid).Scan(&status, &server)
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == invalidParameter {
		return false, true, nil // the server has forgotten in a crash that it ever gave the number out
	}
	if err != nil {
		return false, false, err
	}
	if server == t.server {
		return status == "committed", status == "committed" || status == "aborted", nil
	}
	switch status {
	case "committed": // it, or another that was given its number since
		return t.askEvidence(ctx)
	case "aborted", "in progress": // a crash ends all; so this is another that has the number now
		return false, true, nil
	}
	return t.askEvidence(ctx)
}

func (t *tx) askEvidence(ctx context.Context) (committed, known bool, err error) {
	if t.done == nil {
		return false, false, errNoEvidence
	}
	committed, err = t.done(ctx)
	return committed, err == nil, err
}

const (
	sqlSentBy    = `select exists (select 1 from weir.messages where topic = $1 and seq = $2 and sent_us = $3)`
	sqlSettledBy = `select get_bit(bits, $3) = 1 from weir.batches where queue = $1 and no = $2 and epoch = $4`
	sqlStartedBy = `select exists (select 1 from weir.runs where no = $1 and id = $2 and started_us = $3)`
	// A run is ours until an update of ours releases it, so a row of its that is of a
	// transaction with this number is of this one. Rows show the lower half of it.
	sqlRecordedBy = `select exists (select 1 from weir.steps where run = $1 and n = $2 and xmin::text = ($3::text::numeric % 4294967296)::text)`
	sqlReleasedBy = `select xmin::text = ($4::text::numeric % 4294967296)::text from weir.runs where no = $1
		and (epoch = $2 and wake = $3 or xmin::text = ($4::text::numeric % 4294967296)::text)`
)

// evidence looks whether what the transaction wrote is there. Nobody else can have written
// it: a position is given out once in the life of a server, a delivery is settled once, and
// only who has a run leased writes what is the run's. What others have taken over since
// tells nothing.
func (t *commit) evidence(ctx context.Context) (committed bool, err error) {
	ask := func(query string, args ...any) (bool, error) {
		err := t.s.aside.QueryRow(ctx, t.s.text(query), args...).Scan(&committed)
		if errors.Is(err, pgx.ErrNoRows) {
			err = errNoEvidence
		}
		return committed, err
	}
	if len(t.appended) > 0 {
		pos := int64(t.appended[0].Pos)
		return ask(sqlSentBy, topicOf(pos), seqOf(pos), t.now)
	}
	for _, ch := range t.changes {
		if ch.Err != nil || t.isApart(ch) {
			continue
		}
		if len(ch.Settle) > 0 {
			s := &ch.Settle[0]
			return ask(sqlSettledBy, int64(s.Batch.Queue), s.Batch.No, s.Index, s.Batch.Epoch)
		}
		if len(ch.Runs) > 0 && !ch.Runs[0].Existed {
			st := ch.Runs[0]
			return ask(sqlStartedBy, int64(st.No), st.ID, t.now)
		}
		if u := ch.Run; u != nil && t.xid != "" {
			if len(u.Records) > 0 {
				return ask(sqlRecordedBy, int64(u.No), u.Records[0].N, t.xid)
			}
			if u.Verdict != store.Leased {
				return ask(sqlReleasedBy, int64(u.No), u.Epoch, runwake.LeasedBy(t.process), t.xid)
			}
		}
	}
	return t.evidenceOfOthers(ask)
}

// evidenceOfOthers looks for what another may have written, to the same effect: how far lanes have
// come, and states. It has to be there of all changes.
func (t *commit) evidenceOfOthers(ask func(query string, args ...any) (bool, error)) (committed bool, err error) {
	err = errNoEvidence
	for _, ch := range t.changes {
		if ch.Err != nil || t.isApart(ch) {
			continue
		}
		if a := ch.Arrival; a != nil {
			if committed, err = ask(sqlArrivedBy, a.Lane, a.To.Batch, a.To.Index); err != nil || !committed {
				return false, noneIsNo(err)
			}
		}
		for i := range ch.States {
			st := &ch.States[i]
			if committed, err = ask(sqlPutBy, st.Entity, st.Key, st.Version); err != nil || !committed {
				return false, noneIsNo(err)
			}
		}
	}
	if errors.Is(err, errNoEvidence) {
		return t.evidenceOfDrained(ask)
	}
	return committed, err
}

// evidenceOfDrained looks for what is said of lanes, where that is all. It does no harm to say it again.
func (t *commit) evidenceOfDrained(ask func(query string, args ...any) (bool, error)) (committed bool, err error) {
	for _, ch := range t.changes {
		if ch.Err == nil && len(ch.Drained) > 0 {
			committed, err = ask(sqlDrainedBy, ch.Drained[0].Lane, t.now)
			return committed, noneIsNo(err)
		}
	}
	return false, errNoEvidence
}

// noneIsNo: a row that is not there tells that nothing was committed.
func noneIsNo(err error) error {
	if errors.Is(err, errNoEvidence) {
		return nil
	}
	return err
}
