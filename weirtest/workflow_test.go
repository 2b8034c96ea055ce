package weirtest_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

type order struct {
	ID    string
	Cents int
}

type receipt struct{ Charge, Invoice string }

var (
	fulfil   = weir.NewWorkflow[order, receipt]("orders.fulfil")
	remind   = weir.NewWorkflow[order, weir.None]("orders.remind")
	approved = weir.NewSignal[string]("orders.approved")
	shipped  = weir.NewEvent[order]("orders.shipped")
	orders   = weir.Config{Owns: []string{"orders"}}
	order7   = order{ID: "order-7", Cents: 1250}
)

func TestRunThatSleepsForDays(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := weirtest.New(t, orders, func(e *weir.Engine) {
			weir.Register(e, fulfil, func(r *weir.Run, o order) (receipt, error) {
				weir.Sleep(r, "wait-for-the-month", 30*24*time.Hour)
				err := weir.Publish(r.Context(), r, shipped, o)
				return receipt{Invoice: r.Now().Sub(start).Round(time.Hour).String()}, err
			})
		})
		if _, err := weir.Start(t.Context(), e, fulfil, order7.ID, order7); err != nil {
			t.Fatal(err)
		}
		if in := weirtest.RequireStarted(t, e, fulfil, order7.ID); in != order7 {
			t.Errorf("RequireStarted = %+v, want %+v", in, order7)
		}
		weirtest.RequireNothingSent(t, e)
		e.Settle()
		if took := time.Since(start); took < 30*24*time.Hour || took > 30*24*time.Hour+time.Second {
			t.Errorf("it took %s of fake time, want 30 days", took)
		}
		got := weirtest.RequireRun(t, e, fulfil, order7.ID, weirtest.Completed)
		if got.Invoice != "720h0m0s" {
			t.Errorf("RequireRun = %+v", got)
		}
		weirtest.RequirePublished(t, e, shipped)
	})
	if took := time.Since(began); took > patience {
		t.Errorf("30 days took %s", took)
	} else {
		t.Logf("30 days took %s", took)
	}
}

// Who waits for a result waits as long, and no tick of a poll more.
func TestResultOfARunThatSleepsForDays(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := weirtest.New(t, orders, func(e *weir.Engine) {
			weir.Register(e, remind, func(r *weir.Run, o order) (weir.None, error) {
				weir.Sleep(r, "wait-for-the-month", 30*24*time.Hour)
				return weir.None{}, nil
			})
		})
		run, err := weir.Start(t.Context(), e, remind, order7.ID, order7)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 30*24*time.Hour || took > 30*24*time.Hour+time.Second {
			t.Errorf("it took %s of fake time, want 30 days", took)
		}
	})
	if took := time.Since(began); took > patience {
		t.Errorf("30 days took %s", took)
	}
}

func TestRunsAreToldOfInFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, orders, func(e *weir.Engine) {
			weir.Register(e, fulfil, func(r *weir.Run, o order) (receipt, error) {
				who, err := weir.WaitFor(r, "approval", approved)
				if err == nil && who == "nobody" {
					err = weir.Do(r, "refuse", func(context.Context) error { return weir.Permanent(errors.New("nobody approves")) })
				}
				return receipt{Charge: who}, err
			})
			weir.Register(e, remind, func(r *weir.Run, o order) (weir.None, error) { return weir.None{}, nil })
		})
		wantFailure(t, "want run order-7 of orders.fulfil started, there is none", func(t testing.TB) { weirtest.RequireStarted(t, e, fulfil, "order-7") })
		for _, id := range []string{"order-7", "order-8"} {
			if _, err := weir.Start(t.Context(), e, fulfil, id, order{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		e.Settle()
		wantFailure(t, "want run order-9 of orders.fulfil started, there are only\n  order-8 of orders.fulfil, waiting",
			func(t testing.TB) { weirtest.RequireStarted(t, e, fulfil, "order-9") })
		wantFailure(t, "want run order-7 of orders.fulfil completed, it is waiting", func(t testing.TB) {
			weirtest.RequireRun(t, e, fulfil, "order-7", weirtest.Completed)
		})
		weirtest.RequireRun(t, e, fulfil, "order-7", weirtest.Waiting)
		for id, who := range map[string]string{"order-7": "Ada", "order-8": "nobody"} {
			if err := weir.Tell(t.Context(), e, approved, id, who); err != nil {
				t.Fatal(err)
			}
		}
		weirtest.RequireTold(t, e, approved, "order-7", func(who string) bool { return who == "Ada" })
		wantFailure(t, "of orders.approved to order-7 is none as wanted; sent were\n  orders.approved, key order-7: \"Ada\"",
			func(t testing.TB) {
				weirtest.RequireTold(t, e, approved, "order-7", func(who string) bool { return who == "nobody" })
			})
		e.Settle()
		if got := weirtest.RequireRun(t, e, fulfil, "order-7", weirtest.Completed); got.Charge != "Ada" {
			t.Errorf("RequireRun = %+v, want Ada's", got)
		}
		weirtest.RequireRun(t, e, fulfil, "order-8", weirtest.Failed)
		wantFailure(t, "it is failed: ", func(t testing.TB) { weirtest.RequireRun(t, e, fulfil, "order-8", weirtest.Completed) })
	})
}

func TestHandlerStartsARun(t *testing.T) {
	m := weirtest.Message(t, order7)
	if _, err := weir.Start(t.Context(), m, remind, m.Body.ID, m.Body); err != nil {
		t.Fatal(err)
	}
	if in := weirtest.RequireStarted(t, m, remind, order7.ID); in != order7 {
		t.Errorf("RequireStarted = %+v, want %+v", in, order7)
	}
	wantFailure(t, "want run order-7 of orders.fulfil started, there are only\n  order-7 of orders.remind",
		func(t testing.TB) { weirtest.RequireStarted(t, m, fulfil, order7.ID) })
}

// process is how an order is processed in the tests of crashes, with outside systems.
type process func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error)

// fulfilling is a scenario of one order, that a run works.
func fulfilling(f process) func(*testing.T, *weirtest.World) weirtest.Scenario {
	return func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
		b := &bank{world: w, charges: map[string]string{}}
		return weirtest.Scenario{
			Config: orders,
			Register: func(e *weir.Engine) {
				weir.Register(e, fulfil, func(r *weir.Run, o order) (receipt, error) { return f(r, o, b, w) })
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				_, err := weir.Start(ctx, e, fulfil, order7.ID, order7)
				return err
			},
		}
	}
}

// chargeOnce is right for a bank that refuses no duplicate: it can be asked.
func chargeOnce(r *weir.Run, o order, b *bank) (string, error) {
	return weir.Once(r, "charge-card",
		func(context.Context) (string, error) { return b.charge("", o.ID), nil },
		func(context.Context) (string, weir.Outcome, error) {
			if id := b.find(o.ID); id != "" {
				return id, weir.Happened, nil
			}
			return "", weir.NotHappened, nil
		})
}

func invoice(r *weir.Run, o order, w *weirtest.World, b *bank) (string, error) {
	return weir.Step(r, "create-invoice", func(ctx context.Context) (string, error) {
		b.charge(weir.IdempotencyKey(ctx), "invoice of "+o.ID)
		return "invoice-1", nil
	})
}

func right(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
	charge, err := chargeOnce(r, o, b)
	if err != nil {
		return receipt{}, err
	}
	weir.Sleep(r, "grace", 14*24*time.Hour)
	number, err := invoice(r, o, w, b)
	return receipt{charge, number}, err
}

func TestCrashesOfRuns(t *testing.T) {
	for _, c := range []struct {
		name    string
		process process
		commits int // at least, however slow the disk is
		apart   int // so many more at most: what the function comes to next may leave with a step's result, or come too late for it
		want    []string
	}{
		{"right", right, 7, 2, nil}, // the pause, and the end
		{"Step where Once is needed", func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
			charge, err := weir.Step(r, "charge-card", func(context.Context) (string, error) { return b.charge("", o.ID), nil })
			if err != nil {
				return receipt{}, err
			}
			number, err := invoice(r, o, w, b)
			return receipt{charge, number}, err
		}, 4, 1, []string{"charge order-7 happened 2 times with a crash before commit "}},
		{"an effect outside of steps", func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
			charge, err := chargeOnce(r, o, b)
			mail(w, o.ID)
			return receipt{Charge: charge}, err
		}, 5, 1, []string{"mail order-7 happened 2 times with a crash "}},
		{"an effect that nobody waits for", func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
			charge, err := chargeOnce(r, o, b)
			weir.Try(r, "send-mail", func(context.Context) error {
				go mail(w, o.ID)
				return nil
			})
			return receipt{Charge: charge}, err
		}, 5, 1, []string{"mail order-7 did not happen with a crash after commit "}},
		{"Once that nobody can verify", func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
			charge, err := weir.Once(r, "charge-card", func(context.Context) (string, error) { return b.charge("", o.ID), nil }, nil)
			return receipt{Charge: charge}, err
		}, 4, 1, []string{
			"run orders.fulfil order-7 is needs-person and not completed (",
			"charge order-7 did not happen with a crash after commit ",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := weirtest.CrashReport(t, fulfilling(c.process))
			t.Log(report)
			if more := report.Commits - c.commits; more < 0 || more > c.apart || len(report.Faults) != len(c.want) {
				t.Fatalf("%d commits, %d faults, want %d to %d, %d", report.Commits, len(report.Faults), c.commits, c.commits+c.apart, len(c.want))
			}
			for i, want := range c.want {
				if got := report.Faults[i].String(); !strings.HasPrefix(got, want) {
					t.Errorf("fault %q, want %q", got, want)
				}
			}
		})
	}
}

// A run that needs a person is a good end to who says so, and one trial can be asked for.
func TestPersonsActAndOneTrial(t *testing.T) {
	unverified := fulfilling(func(r *weir.Run, o order, b *bank, w *weirtest.World) (receipt, error) {
		charge, err := weir.Once(r, "charge-card", func(context.Context) (string, error) { return b.charge("", o.ID), nil }, nil)
		return receipt{Charge: charge}, err
	})
	weirtest.CrashEverywhere(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		s := unverified(t, w)
		s.PersonsAct = true
		return s
	})
	report := weirtest.CrashReport(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		s := unverified(t, w)
		s.Config.Log = slog.New(slog.DiscardHandler)
		s.Only = "before effect 1"
		return s
	})
	if report.Trials != 3 || len(report.Faults) != 2 {
		t.Errorf("%s, want 3 trials and 2 faults", report)
	}
}
