package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/store/sqlite"
)

// demo starts the process that works the book, kills it, and starts it again until
// the book is settled.
//
// So that all kills happen before the work ends, whatever the machine's speed, each
// process but the last takes no more orders than its share of those that are left.
// It is killed after a random amount of work that its share contains.
type demo struct {
	demoWorkCmd
	book  restaurant.Book
	kills int
	app   *app

	self   string    // this program
	db     *sql.Conn // reads the tables
	luck   *rand.Rand
	killed int
	shown  *demoProgress
}

const (
	// Between two looks at the tables: a tenth of what a kill's process lives at the least.
	lookToKill = 2 * time.Millisecond
	lookToShow = 100 * time.Millisecond
	// A kill comes up to so much later, so that it does not always follow a commit.
	killDelayMax = 5 * time.Millisecond
	// The engine gives running handlers 10 s to end.
	stopPatience = 15 * time.Second
)

func (d *demo) run(ctx context.Context) (err error) {
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	db, err := sqlite.OpenDB(d.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if d.db, err = db.Conn(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.db.Close()) }()
	if _, err := d.db.ExecContext(ctx, `pragma query_only = on`); err != nil {
		return err
	}
	d.luck = newLuck(d.Seed, d.kills)
	d.shown = newDemoProgress(d.app.err, d.kills)
	defer d.shown.end()
	for {
		settled, err := d.live(ctx)
		if err != nil || settled {
			return err
		}
	}
}

// newLuck draws kills: the same for the same seed and number.
func newLuck(seed uint64, kills int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(kills))) }

// live is the life of one process: to the end of the book, or to its kill.
func (d *demo) live(ctx context.Context) (settled bool, err error) {
	begun, err := restaurant.Look(ctx, d.db)
	if err != nil {
		return false, err
	}
	kill, every := d.draw(begun), lookToKill
	if kill == nil {
		every = lookToShow
	}
	p, err := program{name: "the engine", self: d.self, args: d.arguments(), err: d.app.err}.start()
	if err != nil {
		return false, err
	}
	defer p.stop() // whatever happens, none is left behind
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-p.ended:
			return true, p.failure()
		case <-tick.C:
		}
		now, err := restaurant.Look(ctx, d.db)
		if err != nil {
			return false, err
		}
		d.shown.tell(d.line(now))
		if kill == nil || !kill.due(now) {
			continue
		}
		if err := pause(ctx, rand.N(killDelayMax)); err != nil {
			return false, err
		}
		if p.kill() {
			d.killed++
			d.shown.kill(d.line(now), "")
			return false, nil
		}
	}
}

// line is how far the work is, for people.
func (d *demo) line(now restaurant.Progress) demoLine {
	return func() string {
		return fmt.Sprintf("orders %d of %d, %d open; lines cooked %d, served %d", now.Orders, len(d.book.Orders), now.Open, now.Cooked, now.Servings)
	}
}

// killing is when to kill a process.
type killing struct {
	done  int // so many lines are cooked and served, or
	taken int // so many orders are taken and none of them is open
}

func (k *killing) due(p restaurant.Progress) bool {
	return p.Cooked+p.Servings >= k.done || p.Orders >= k.taken && p.Open == 0
}

// draw decides when to kill the next process, and how many orders it may take; nil
// when all kills are done.
func (d *demo) draw(begun restaurant.Progress) *killing {
	d.Take = -1
	left := d.kills - d.killed
	if left == 0 {
		return nil
	}
	d.Take = max(1, (len(d.book.Orders)-begun.Orders)/(left+1))
	work := 2 * d.Take * d.book.Lines / len(d.book.Orders) // each line is cooked and served
	return &killing{
		done:  begun.Cooked + begun.Servings + 1 + d.luck.IntN(1+work*8/10), // all of it is only there without bad lines
		taken: begun.Orders + d.Take,
	}
}

// pause waits so long, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
