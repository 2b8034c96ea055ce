package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// What is killed in a demo.
const (
	ofProcesses   = iota // a worker, or an outside system
	ofDatabase           // the PostgreSQL server
	ofBrokers            // one of the brokers
	ofBrokersData        // all brokers, with all that they have
	kinds
)

// tally is how often something is to be killed, and was.
type tally struct{ planned, done int }

func (t tally) left() int { return t.planned - t.done }

func (s *stage) killsPlanned() (n int) {
	for _, k := range s.kills {
		n += k.planned
	}
	return n
}

func (s *stage) killsLeft() (n int) {
	for _, k := range s.kills {
		n += k.left()
	}
	return n
}

// kill kills somebody, or the database, or a broker, and starts it again.
func (s *stage) kill(ctx context.Context, now outlook) error {
	n := s.luck.IntN(s.killsLeft())
	for kind, deal := range [kinds]func(context.Context, outlook) error{s.killProcess, s.killDB, s.killBroker, s.wipeBrokers} {
		if n -= s.kills[kind].left(); n < 0 {
			return deal(ctx, now)
		}
	}
	return nil
}

// oneIn is of how many killed processes one is a worker, if there are others.
const oneIn = 2

func (s *stage) killProcess(ctx context.Context, now outlook) error {
	some := s.workers
	if len(s.others) > 0 && s.luck.IntN(oneIn) == 0 {
		some = s.others
	}
	a := some[s.luck.IntN(len(some))]
	if !a.now.kill() {
		return nil // it has ended by itself: the next look tells why, and draws another
	}
	s.killed[a.role]++
	s.dealt(ofProcesses, now, a.name)
	restarted, err := a.start(ctx)
	if err == nil {
		a.now = restarted
	}
	return err
}

// killDB kills the database, and starts it again.
func (s *stage) killDB(ctx context.Context, now outlook) error {
	if err := s.place.server.Kill(); err != nil {
		return err
	}
	s.dealt(ofDatabase, now, "PostgreSQL")
	if err := pause(ctx, rand.N(awayDelayMax)); err != nil {
		return err
	}
	return s.place.server.Up(ctx)
}

// killBroker kills one of the brokers, and starts it again.
func (s *stage) killBroker(ctx context.Context, now outlook) error {
	a := s.brokers[s.luck.IntN(len(s.brokers))]
	if !a.now.kill() {
		return nil // the next look tells why
	}
	s.dealt(ofBrokers, now, a.name)
	return s.startBrokers(ctx, a)
}

// wipeBrokers kills all brokers, and starts them again without anything of what they had.
func (s *stage) wipeBrokers(ctx context.Context, now outlook) error {
	for _, a := range s.brokers {
		if !a.now.kill() {
			return errors.Join(fmt.Errorf("the process of %s has ended by itself", a.name), a.now.failure())
		}
	}
	for _, a := range s.brokers {
		if err := os.RemoveAll(a.dir); err != nil {
			return err
		}
	}
	s.dealt(ofBrokersData, now, "all brokers, whose data is removed")
	return s.startBrokers(ctx, s.brokers...)
}

// startBrokers starts what was killed, after a while.
func (s *stage) startBrokers(ctx context.Context, brokers ...*actor) error {
	if err := pause(ctx, rand.N(awayDelayMax)); err != nil {
		return err
	}
	for _, a := range brokers {
		p, err := a.start(ctx)
		if err != nil {
			return err
		}
		a.now = p
	}
	return nil
}

// dealt counts a kill, and gives out what the next one takes.
func (s *stage) dealt(kind int, now outlook, who string) {
	s.kills[kind].done++
	s.shown.kill(now.line, who)
	s.release()
	for _, a := range s.workers {
		s.tell(a.now)
	}
}

// startMax is how long a process may take to say where it listens, on a machine that has much else to do.
const startMax = 3 * time.Minute

// begin starts a program and waits for the first line that it says, on its standard output.
func begin(ctx context.Context, g program) (*process, string, error) {
	said := announced{line: make(chan string, 1)}
	g.out = &said
	p, err := g.start()
	if err != nil {
		return nil, "", err
	}
	patience := time.NewTimer(startMax)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-patience.C:
		err = fmt.Errorf("the process of %s does not say where it listens", g.name)
	case <-p.ended:
		err = errors.Join(fmt.Errorf("the process of %s has ended before it listened", g.name), p.failure())
	case line := <-said.line:
		return p, line, nil
	}
	p.stop()
	return nil, "", err
}
