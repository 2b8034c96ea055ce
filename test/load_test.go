package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// senders is how many goroutines send at once.
const senders = 4

// load serves while many send, until it is told to stop, or killed.
func (s *shop) load(ctx context.Context) error {
	s.serve()
	failed := make([]error, senders)
	var group sync.WaitGroup
	up := sync.OnceFunc(func() { fmt.Println("up") })
	for g := range senders {
		p := &producer{
			shop: s, up: up, luck: rand.New(rand.NewPCG(uint64(number(envSeed)), uint64(s.life*senders+g))),
			name: fmt.Sprintf("%d-%d", s.life, g),
		}
		group.Go(func() { failed[g] = p.produce(ctx) })
	}
	group.Wait()
	return errors.Join(failed...)
}

// calm is load under which nothing fails.
func (s *shop) calmLoad(ctx context.Context) error {
	s.calm = true
	return s.load(ctx)
}

// pruned does what work does, while retention deletes as fast as it can what nobody needs any more, and then what is left.
func pruned(work func(*shop, context.Context) error) func(*shop, context.Context) error {
	return func(s *shop, ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		over := make(chan struct{})
		var failed error
		var group sync.WaitGroup
		group.Go(func() {
			if failed = s.prune(ctx, over); failed != nil {
				cancel()
			}
		})
		err := work(s, ctx)
		close(over)
		group.Wait()
		return errors.Join(err, failed)
	}
}

// prune deletes until ctx is done, or it finds nothing more once over is closed.
func (s *shop) prune(ctx context.Context, over <-chan struct{}) error {
	for {
		last := false
		select {
		case <-over:
			last = true
		default:
		}
		done, err := s.store.Prune(ctx, store.Retention{Max: 20})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case last && done.Messages+done.Batches+done.Other == 0:
			return nil
		}
	}
}

// drain works until nothing is left to do.
func (s *shop) drain(ctx context.Context) error {
	s.serve()
	return s.rest(ctx)
}

// workOff works until nothing is left but the dead, which it leaves alone.
func (s *shop) workOff(ctx context.Context) error {
	s.alone = true
	return s.drain(ctx)
}

// producer sends one thing after another.
type producer struct {
	*shop
	up   func()
	luck *rand.Rand
	name string
	sent int
	n    [3]int // of its keys
}

func (p *producer) produce(ctx context.Context) error {
	for ctx.Err() == nil {
		err := p.one(ctx)
		_, full := errors.AsType[*weir.FullError](err)
		_, own := errors.AsType[ownError](err) // it may have waited for the file in vain
		switch {
		case err == nil:
			p.up()
		case full, own, ctx.Err() != nil:
		default:
			return err
		}
	}
	return nil
}

// one sends one thing, of one of several kinds.
func (p *producer) one(ctx context.Context) error {
	p.sent++
	b := p.trouble(job{Tag: fmt.Sprintf("%s-%d", p.name, p.sent)})
	const room = weir.WaitForRoom(50 * time.Millisecond)
	switch p.luck.IntN(12) {
	case 0, 1:
		b.Tag = "own-" + b.Tag
		b.Lines, b.Smooth = p.luck.IntN(4), p.calm
		return p.own(ctx, b)
	case 2:
		return p.void(ctx, b)
	case 3:
		all := make([]job, 2+p.luck.IntN(20))
		for i := range all {
			all[i] = b
			all[i].Tag = fmt.Sprintf("%s-%d", b.Tag, i)
		}
		return p.shop.sent(clean.Name(), tagsOf(all), func() error { return weir.SendAll(ctx, p.eng, clean, all, room) })
	case 4, 5:
		err := command(ctx, p.shop, quote, b, room, weir.Dedup(b.Tag))
		if err == nil { // again: it must not be there twice, and there is room for what is there
			err = weir.Send(ctx, p.eng, quote, b, weir.Dedup(b.Tag))
			if _, full := errors.AsType[*weir.FullError](err); full {
				err = fmt.Errorf("Send of what was sent before = %v, want nil", err)
			}
		}
		return err
	case 6:
		return command(ctx, p.shop, clean, b, room, weir.Delay(time.Duration(p.luck.IntN(50))*time.Millisecond))
	}
	k := p.luck.IntN(len(p.n))
	p.n[k]++
	b.Key, b.N = fmt.Sprintf("%s-%d", p.name, k), p.n[k]
	return command(ctx, p.shop, prepare, b, room)
}

// trouble makes some jobs harder than others.
func (p *producer) trouble(b job) job {
	if p.calm {
		switch p.luck.IntN(20) {
		case 0:
			b.Deed = "long"
		case 1, 2, 3:
			b.Deed = "dawdle"
		}
		return b
	}
	switch p.luck.IntN(20) {
	case 0:
		b.Fails, b.At = 1+p.luck.IntN(3), []string{takeOrder.Name(), prepare.Name(), clean.Name(), quote.Name(), bringFood, bill, hearQuote}[p.luck.IntN(7)]
	case 1:
		b.Deed = "not-yet"
	case 2, 3, 4, 5:
		b.Deed = "dawdle"
	case 6:
		b.Rotten = p.luck.IntN(4) == 0
	}
	return b
}

// fill serves and sends large things until the store takes no more.
func (s *shop) fill(ctx context.Context) error {
	s.serve()
	first := command(ctx, s, clean, job{Tag: "first"})
	if err := errors.Join(first, s.rest(ctx), limitFiles()); err != nil { // from here on it runs
		return err
	}
	pad := strings.Repeat("x", 8<<10)
	for n := 1; ; n++ {
		if err := command(ctx, s, clean, job{Tag: fmt.Sprintf("f%d-%d", s.life, n), Pad: pad}, weir.WaitForRoom(time.Minute)); err != nil {
			return errors.Join(err, s.stopped(ctx))
		}
	}
}

// stopped waits for Run to give up.
func (s *shop) stopped(ctx context.Context) error {
	select {
	case err := <-s.ran:
		s.ran <- err
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
