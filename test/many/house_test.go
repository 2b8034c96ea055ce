package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
)

// lease is the shortest that there is.
const lease = time.Second

type task struct{ Name, Key string }

var (
	chore = weir.NewCommand[task]("house.chore", weir.KeyedBy(func(t task) string { return t.Key }))
	tidy  = weir.NewWorkflow[task, weir.None]("house.tidy")
)

// house does chores and runs. begun are the attempts, written at once; done is what the
// store has accepted.
type house struct {
	db     *pgxpool.Pool
	schema string
	pause  time.Duration // that each thing takes
}

const houseTables = `
	create table %[1]s.begun (what text not null, pid int not null, at timestamptz not null default clock_timestamp());
	create table %[1]s.done (what text not null, key text not null, n bigserial, pid int not null, at timestamptz not null default clock_timestamp())`

// work works the house until ctx is done.
func work(ctx context.Context, dsn, schema string) error {
	db, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	h := &house{db: db, schema: schema, pause: 20 * time.Millisecond}
	eng, err := h.open(ctx, dsn)
	if err != nil {
		return err
	}
	return errors.Join(eng.Run(ctx), eng.Close())
}

// open opens an engine that works the house once it runs.
func (h *house) open(ctx context.Context, dsn string) (*weir.Engine, error) {
	eng, err := weir.Open(ctx, postgres.DB(dsn, postgres.Schema(h.schema), postgres.Lease(lease)), weir.Config{
		Owns: []string{"house"}, StopTimeout: 2 * time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return nil, err
	}
	weir.Handle(eng, chore, h.chore, weir.Queue{Retry: weir.Retry{Max: 1_000, Base: time.Millisecond, Cap: time.Second}})
	weir.Register(eng, tidy, h.tidy)
	return eng, nil
}

func (h *house) begin(ctx context.Context, what string) error {
	_, err := h.db.Exec(ctx, "insert into "+h.schema+".begun (what, pid) values ($1, $2)", what, os.Getpid())
	if err != nil {
		return err
	}
	timer := time.NewTimer(h.pause)
	defer timer.Stop()
	<-timer.C // whatever ctx says: as one that is deaf for a short time
	return nil
}

func (h *house) end(ctx context.Context, tx weir.Tx, what, key string) error {
	_, err := postgres.Pgx(tx).Exec(ctx, "insert into "+h.schema+".done (what, key, pid) values ($1, $2, $3)", what, key, os.Getpid())
	return err
}

func (h *house) chore(ctx context.Context, m *weir.Message[task]) error {
	if err := h.begin(ctx, m.Body.Name); err != nil {
		return err
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error { return h.end(ctx, tx, m.Body.Name, m.Body.Key) })
	return nil
}

func (h *house) tidy(r *weir.Run, t task) (weir.None, error) {
	for _, step := range []string{"sweep", "wipe", "air"} {
		what := t.Name + " " + step
		if err := weir.Do(r, step, func(ctx context.Context) error { return h.begin(ctx, what) }); err != nil {
			return weir.None{}, err
		}
		_, err := weir.StepTx(r, step+"-noted", func(ctx context.Context, tx weir.Tx) (weir.None, error) {
			return weir.None{}, h.end(ctx, tx, what, "")
		})
		if err != nil {
			return weir.None{}, err
		}
	}
	return weir.None{}, nil
}

// giver gives the house work, until it is told to stop; and then says what it gave.
type giver struct {
	t     *testing.T
	eng   *weir.Engine
	tasks int // each is a chore, and every fourth a run too
}

// give gives one task. What the database does not answer is given again: a message with its
// deduplication key, a run by its ID.
func (g *giver) give(ctx context.Context) {
	name := fmt.Sprint("task-", g.tasks)
	key := ""
	if g.tasks%2 == 0 {
		key = fmt.Sprint("key-", g.tasks%10)
	}
	insist(g.t, ctx, func() error {
		return weir.Send(ctx, g.eng, chore, task{name, key}, weir.Dedup(name))
	})
	if g.tasks%4 == 0 {
		insist(g.t, ctx, func() error {
			_, err := weir.Start(ctx, g.eng, tidy, name, task{name, ""})
			return err
		})
	}
	g.tasks++
}

func insist(t *testing.T, ctx context.Context, f func() error) {
	t.Helper()
	for {
		err := f()
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnresolved) {
			if err != nil {
				t.Error(err)
			}
			return
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			t.Error(ctx.Err())
			return
		}
	}
}

// wanted is how many rows tell that all is done.
func (g *giver) wanted() int { return g.tasks + 3*((g.tasks+3)/4) }

// audit waits until all that was given is done, and wants it done once and each key in order.
func (g *giver) audit(h *house) (begun, done int) {
	g.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := false; ; {
		done = h.count(g.t, "select count(distinct what) from %s.done")
		if done >= g.wanted() || late {
			break
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			late = true
		}
	}
	if done != g.wanted() {
		g.t.Errorf("%d things were done, want %d", done, g.wanted())
	}
	if n := h.count(g.t, "select count(*) - count(distinct what) from %s.done"); n != 0 {
		g.t.Errorf("%d outcomes were accepted that had been accepted before, want 0", n)
	}
	g.showInverted(h)
	if n := h.count(g.t, `select count(*) from (select substr(what, 6)::int as no, lag(substr(what, 6)::int) over (partition by key order by n) as before
		from %s.done where key <> '') d where before > no`); n != 0 {
		g.t.Errorf("%d messages were done after a later one of their key, want 0", n)
	}
	return h.count(g.t, "select count(*) from %s.begun"), done
}

func (h *house) count(t *testing.T, query string) (n int) {
	t.Helper()
	for range 100 { // the server may have been killed
		err := h.db.QueryRow(t.Context(), fmt.Sprintf(query, h.schema)).Scan(&n)
		if err == nil {
			return n
		}
		h.db.Reset()
	}
	t.Error("the database does not answer")
	return -1
}

// inversionsShown is how many are worth reading.
const inversionsShown = 10

// showInverted shows what was done after a later one of its key, with what was done between.
func (g *giver) showInverted(h *house) {
	g.t.Helper()
	rows, err := h.db.Query(g.t.Context(), fmt.Sprintf(`with d as (select *, substr(what, 6)::int as no from %[1]s.done where key <> ''),
		late as (select d.key, d.n, d.no, (select min(e.n) from d e where e.key = d.key and e.n < d.n and e.no > d.no) as since from d)
		select l.no, string_agg(d.no || ' by ' || d.pid || ' at ' || to_char(d.at, 'MI:SS.MS'), ', ' order by d.n)
		from late l join d on d.key = l.key and d.n >= l.since and d.n <= l.n where l.since is not null group by l.no, l.n order by l.n limit $1`, h.schema), inversionsShown)
	if err != nil {
		g.t.Error(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var no int
		var all string
		if err := rows.Scan(&no, &all); err != nil {
			g.t.Error(err)
			return
		}
		g.t.Logf("task %d was late: %s", no, all)
	}
	if err := rows.Err(); err != nil {
		g.t.Error(err)
	}
}
