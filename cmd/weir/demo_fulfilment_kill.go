package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/store/sqlite"
)

// fulfilmentDemo starts the engine's process and those of the outside systems, kills one of
// them now and then, and starts again what has been killed, until the book is settled.
//
// So that all kills happen before the work ends, whatever the machine's speed, the engine is
// told to take no more orders than a kill's share of those left, until it is done. Each comes
// after a random amount of work that is there to be done.
type fulfilmentDemo struct {
	work    fulfilmentWorkCmd
	book    []fulfilment.Want
	trouble outside.Trouble
	restock time.Duration
	seed    uint64
	kills   int
	app     *app

	self   string
	db     *sql.Conn // reads the shop's table
	luck   *rand.Rand
	killed map[string]int
	shown  *demoProgress

	engine  *process
	systems map[outside.Name]*process
	address map[outside.Name]string // host:port, the same for all lives of a system

	upTo    int // orders that the engine may take
	killAt  int // so many are settled; -1: no more kills
	settled int
	moved   time.Time // when settled last changed
}

const (
	lookToFulfil = 5 * time.Millisecond
	// A kill comes up to so much later, so that it does not always follow a commit.
	fulfilmentKillDelayMax = 30 * time.Millisecond
	// Nothing in the demo waits so long: whoever does would wait for ever, and is counted as waiting.
	stallMax = 2 * time.Minute
	// startMax is how long a system may take to say where it listens.
	startMax = 20 * time.Second
	// engineShare is how many of three kills are the engine's.
	engineShare = 1
)

func (d *fulfilmentDemo) run(ctx context.Context) (err error) {
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	db, err := sqlite.OpenDB(d.work.files().Orders)
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
	d.luck = newLuck(d.seed, d.kills)
	d.shown = newDemoProgress(d.app.err, d.kills)
	defer d.shown.end()
	d.systems, d.address = map[outside.Name]*process{}, map[outside.Name]string{}
	defer d.stop() // whatever happens, none is left behind
	for _, name := range outside.Names() {
		if err := d.startSystem(ctx, name); err != nil {
			return err
		}
	}
	d.moved = time.Now()
	d.release()
	if err := d.startEngine(); err != nil {
		return err
	}
	return d.watch(ctx)
}

// stop ends all processes, the engine first.
func (d *fulfilmentDemo) stop() {
	if d.engine != nil {
		d.engine.stop()
	}
	for _, p := range d.systems {
		p.stop()
	}
}

// startSystem starts an outside system and waits until it listens: where it did before, if
// it has lived before.
func (d *fulfilmentDemo) startSystem(ctx context.Context, name outside.Name) error {
	c := demoOutsideCmd{System: string(name), Dir: d.work.Dir, Listen: d.address[name], Seed: d.seed,
		Fail: d.trouble.Fail, Silent: d.trouble.Silent, Slow: d.trouble.Slow, Restock: d.restock}
	if name == outside.Mail {
		c.Fail = min(demoMailFails*c.Fail, demoShareMost)
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	said := announced{line: make(chan string, 1)}
	p, err := program{name: string(name), self: d.self, args: c.arguments(), out: &said, err: d.app.err}.start()
	if err != nil {
		return err
	}
	d.systems[name] = p
	patience := time.NewTimer(startMax)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return fmt.Errorf("the process of %s does not say where it listens", name)
	case <-p.ended:
		return errors.Join(fmt.Errorf("the process of %s has ended before it listened", name), p.failure())
	case d.address[name] = <-said.line:
		return nil
	}
}

// startEngine starts the engine's process.
func (d *fulfilmentDemo) startEngine() (err error) {
	d.work.Warehouse, d.work.Payments = d.address[outside.Warehouse], d.address[outside.Payments]
	d.work.Billing, d.work.Mail = d.address[outside.Billing], d.address[outside.Mail]
	d.engine, err = program{name: "the engine", self: d.self, args: d.work.arguments(), err: d.app.err}.start()
	if err == nil {
		d.tell()
	}
	return err
}

// tell tells the engine how many orders it may take. That it has died meanwhile is noticed elsewhere.
func (d *fulfilmentDemo) tell() { _, _ = fmt.Fprintln(d.engine.life, d.upTo) }

// release draws the next kill, and gives out the orders that it takes.
func (d *fulfilmentDemo) release() {
	left := d.kills - d.allKilled()
	if left == 0 {
		d.upTo, d.killAt = len(d.book), -1
		return
	}
	d.upTo += max(1, (len(d.book)-d.upTo)/(left+1))
	d.killAt = d.settled + 1 + d.luck.IntN(max(1, (d.upTo-d.settled)*6/10))
}

func (d *fulfilmentDemo) allKilled() (n int) {
	for _, k := range d.killed {
		n += k
	}
	return n
}

// watch looks after the processes until the engine has ended because all is settled.
func (d *fulfilmentDemo) watch(ctx context.Context) error {
	tick := time.NewTicker(lookToFulfil)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		ended, err := d.raise(ctx)
		if ended || err != nil {
			return err
		}
		now, err := fulfilment.Look(ctx, d.db)
		if err != nil {
			return err
		}
		if settled := now.Taken - now.Open; settled != d.settled {
			d.settled, d.moved = settled, time.Now()
		}
		d.shown.tell(d.line(now))
		if time.Since(d.moved) > stallMax {
			d.app.progress("nothing has moved for %v: what is open is counted as waiting", stallMax)
			return nil
		}
		if d.killAt < 0 || d.settled < d.killAt {
			continue
		}
		if err := pause(ctx, rand.N(fulfilmentKillDelayMax)); err != nil {
			return err
		}
		if err := d.kill(ctx, now); err != nil {
			return err
		}
	}
}

func (d *fulfilmentDemo) line(now fulfilment.Progress) demoLine {
	return func() string {
		return fmt.Sprintf("orders %d of %d, %d open", now.Taken, len(d.book), now.Open)
	}
}

// raise starts again what somebody else has killed. ended: the engine has done its work.
func (d *fulfilmentDemo) raise(ctx context.Context) (ended bool, err error) {
	select {
	case <-d.engine.ended:
		if d.engine.died() {
			return false, d.startEngine()
		}
		return true, d.engine.failure()
	default:
	}
	for name, p := range d.systems {
		select {
		case <-p.ended:
			if !p.died() {
				return false, errors.Join(fmt.Errorf("the process of %s has ended by itself", name), p.failure())
			}
			if err := d.startSystem(ctx, name); err != nil {
				return false, err
			}
		default:
		}
	}
	return false, nil
}

// kill kills somebody, and starts it again.
func (d *fulfilmentDemo) kill(ctx context.Context, now fulfilment.Progress) error {
	who, restart := "engine", d.startEngine
	p := d.engine
	if d.luck.IntN(3) >= engineShare {
		name := outside.Names()[d.luck.IntN(len(outside.Names()))]
		who, p = string(name), d.systems[name]
		restart = func() error { return d.startSystem(ctx, name) }
	}
	if !p.kill() {
		return nil // it has ended by itself: the next look tells why
	}
	d.killed[who]++
	d.shown.kill(d.line(now), who)
	d.release()
	if who != "engine" {
		d.tell()
	}
	return restart()
}

// killsText tells how often who was killed.
func killsText(kills map[string]int) string {
	var text []string
	for _, who := range slices.Sorted(maps.Keys(kills)) {
		text = append(text, fmt.Sprintf("%s %d", who, kills[who]))
	}
	return strings.Join(text, ", ")
}

// announced is an output whose first line is told, and the rest dropped.
type announced struct {
	line chan string // of capacity 1
	text []byte
	told bool
}

func (f *announced) Write(b []byte) (int, error) {
	if f.told {
		return len(b), nil
	}
	f.text = append(f.text, b...)
	if line, _, ok := bytes.Cut(f.text, []byte("\n")); ok {
		f.told, f.text = true, nil
		f.line <- string(line)
	}
	return len(b), nil
}
