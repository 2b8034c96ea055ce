package test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/weir-go/weir"
)

// script is a short evening of all that weir does. A process that finds it begun
// goes on where the one before it was ended: what has a deduplication key or a row
// of its own is sent again, what has not stays as it is, sent or not.
func (s *shop) script(ctx context.Context) error {
	s.serve()
	for _, step := range []func(context.Context) error{
		s.takeOrders, s.askPrice, s.cleanUp, s.sendSpoiled, s.sendLate, s.rest,
	} {
		if err := step(ctx); err != nil {
			if _, own := errors.AsType[ownError](err); own {
				return err // which the engine does not know of
			}
			return errors.Join(err, s.stopped(ctx)) // nothing but a failing store makes a step fail
		}
	}
	s.end()
	err := s.stopped(ctx)
	s.report.say("count %d", s.fuse.count)
	return err
}

// takeOrders takes two orders in transactions of its own, one directly, and one that comes to nothing.
func (s *shop) takeOrders(ctx context.Context) error {
	for _, tag := range []string{"own-1", "own-2"} {
		var known bool
		err := s.db.QueryRowContext(ctx, `select exists (select 1 from orders where tag = ?)`, tag).Scan(&known)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if err := s.own(ctx, job{Tag: tag, Lines: 2}); err != nil {
			return err
		}
	}
	if err := s.void(ctx, job{Tag: "void-1", Lines: 1}); err != nil {
		return err
	}
	return command(ctx, s, takeOrder, job{Tag: "o1", Lines: 1}, weir.Dedup("o1"))
}

// askPrice sends a request; its handler fails twice and is then not ready yet.
func (s *shop) askPrice(ctx context.Context) error {
	return command(ctx, s, quote, job{Tag: "q1", At: quote.Name(), Fails: 2, Deed: "not-yet"}, weir.Dedup("q1"))
}

// cleanUp sends five at once, if nobody has tried.
func (s *shop) cleanUp(ctx context.Context) error {
	tried, err := s.report.said("try")
	if err != nil {
		return err
	}
	for _, l := range tried {
		if l.of == clean.Name() && l.tags[0] == "c1" {
			return nil
		}
	}
	all := []job{{Tag: "c1"}, {Tag: "c2"}, {Tag: "c3"}, {Tag: "c4"}, {Tag: "c5"}}
	return s.sent(clean.Name(), tagsOf(all), func() error { return weir.SendAll(ctx, s.eng, clean, all) })
}

func tagsOf(jobs []job) string {
	tags := make([]string, len(jobs))
	for i := range jobs {
		tags[i] = jobs[i].Tag
	}
	return strings.Join(tags, ",")
}

// sendSpoiled sends what dies: one that nobody mends, and a dish that blocks the one behind it until somebody does.
func (s *shop) sendSpoiled(ctx context.Context) error {
	if err := command(ctx, s, clean, job{Tag: "rotten", Rotten: true}, weir.Dedup("rotten")); err != nil {
		return err
	}
	if err := command(ctx, s, prepare, job{Tag: "d1", Key: "t1", N: 1, Rotten: true}, weir.Dedup("d1")); err != nil {
		return err
	}
	return command(ctx, s, prepare, job{Tag: "d2", Key: "t1", N: 2, At: bill, Fails: 1}, weir.Dedup("d2"))
}

func (s *shop) sendLate(ctx context.Context) error {
	return command(ctx, s, clean, job{Tag: "late"}, weir.Delay(30*time.Millisecond), weir.Dedup("late"))
}
