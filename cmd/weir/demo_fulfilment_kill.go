package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
)

// fulfilmentDemo fulfils a book with the outside systems, which are processes, too.
type fulfilmentDemo struct {
	*stage
	work    fulfilmentWorkCmd
	book    []fulfilment.Want
	trouble outside.Trouble
	restock time.Duration
	address map[outside.Name]string // host:port, the same for all lives of a system
}

// castAll makes the actors.
func (d *fulfilmentDemo) castAll() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range outside.Names() {
		d.others = append(d.others, &actor{name: string(name), role: string(name), start: func(ctx context.Context) (*process, error) {
			return d.startSystem(ctx, self, name)
		}})
	}
	return d.cast(d.work.Workers, func(worker int) []string {
		d.work.Warehouse, d.work.Payments = d.address[outside.Warehouse], d.address[outside.Payments]
		d.work.Billing, d.work.Mail = d.address[outside.Billing], d.address[outside.Mail]
		return d.work.arguments(worker)
	})
}

// lookAt tells how far the work is.
func (d *fulfilmentDemo) lookAt(ctx context.Context, db *database.Database) (outlook, error) {
	now, err := fulfilment.Look(ctx, db)
	return outlook{taken: now.Taken, open: now.Open, done: now.Taken - now.Open, line: func() string {
		return fmt.Sprintf("orders %d of %d, %d open", now.Taken, d.orders, now.Open)
	}}, err
}

// startSystem starts an outside system and waits until it listens: where it did before, if
// it has lived before.
func (d *fulfilmentDemo) startSystem(ctx context.Context, self string, name outside.Name) (*process, error) {
	c := demoOutsideCmd{System: string(name), Dir: d.work.Dir, Listen: d.address[name], Seed: d.seed,
		Fail: d.trouble.Fail, Silent: d.trouble.Silent, Slow: d.trouble.Slow, Restock: d.restock}
	if name == outside.Mail {
		c.Fail = min(demoMailFails*c.Fail, demoShareMost)
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	p, address, err := begin(ctx, program{name: string(name), self: self, args: c.arguments(), err: d.app.err})
	if err == nil {
		d.address[name] = address
	}
	return p, err
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
