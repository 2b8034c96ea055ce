// Package weirtest is for the tests of programs that use weir: handlers and
// workflows run on a real engine and a real SQLite file, in fake time, and are crashed
// everywhere.
//
// # Fake time
//
// [New] gives an engine within a bubble of testing/synctest. A run that sleeps for
// 30 days ends in some 20 ms, since time passes when nothing else is left to do:
//
//	func TestReminder(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			shop := &Shop{mail: &fakeMail{}}
//			e := weirtest.New(t, weir.Config{Owns: []string{"orders"}}, shop.register)
//			if _, err := weir.Start(t.Context(), e, Fulfil, "order-7", order); err != nil {
//				t.Fatal(err)
//			}
//			weirtest.RequireStarted(t, e, Fulfil, "order-7")
//			e.Settle() // until nothing happens any more by itself
//			weirtest.RequireSent(t, e, PrepareFood, func(o Ticket) bool { return o.Table == "7" })
//			receipt := weirtest.RequireRun(t, e, Fulfil, "order-7", weirtest.Completed)
//			…
//		})
//	}
//
// To let only some time pass, sleep: time.Sleep(time.Hour). What waits for a network
// or a file waits in real time, while fake time stands still; what waits for a
// sync.Mutex holds time up, too, so a fake must not sleep with its lock held.
//
// # Handlers as functions
//
// [Message] makes a message to call a handler with, and records what is sent through it:
//
//	m := weirtest.Message(t, Ticket{Table: "7"})
//	plate, err := kitchen.prepare(weirtest.Context(t, m), m)
//	weirtest.RequirePublished(t, m, FoodReady)
//
// # Crashes everywhere
//
// [CrashEverywhere] runs a [Scenario] undisturbed, and then once for each moment at
// which it could crash. The outside world is fakes that report their effects:
//
//	func TestFulfilChargesOnce(t *testing.T) {
//		weirtest.CrashEverywhere(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
//			bank := &fakeBank{world: w} // stays through the crash
//			return weirtest.Scenario{
//				Config: weir.Config{Owns: []string{"orders"}},
//				Register: func(e *weir.Engine) { // again in each process
//					shop := &Shop{bank: bank}
//					weir.Register(e, Fulfil, shop.fulfil)
//				},
//				Act: func(ctx context.Context, e *weirtest.Engine) error { // again until it has an answer
//					_, err := weir.Start(ctx, e, Fulfil, "order-7", order)
//					return err
//				},
//			}
//		})
//	}
//
//	func (b *fakeBank) Charge(ctx context.Context, o Order) (Charge, error) {
//		time.Sleep(50 * time.Millisecond) // before the lock; who does not wait is found
//		b.mu.Lock()
//		defer b.mu.Unlock()
//		b.world.Effect("charge", o.ID) // each time: this bank refuses no duplicate
//		…
//	}
//
// With weir.Step in the place of weir.Once it fails, and says:
//
//	charge order-7 happened 2 times with a crash before commit 3 (orders.fulfil order-7: step charge-card recorded)
//
// A trial's crash is as sudden as a real one, seen from the file: the store answers
// nothing any more, contexts are done, all that was in memory is gone, and a new
// engine is opened on the file, which finds what was in work. The trials are:
//
//   - a crash before each commit of the engine, and one after it, whose answer is lost;
//     changes that would have met in one commit are committed apart;
//   - a crash within each commit that runs OnCommit or StepTx closures: it is rolled back;
//   - a crash before each effect;
//   - each message delivered twice: its handler succeeds, what it sends and writes
//     through weir is dropped, and it is called again later;
//   - Act repeated, at once and when all is done;
//   - with [Scenario.Cancels], all runs cancelled after each commit, then undisturbed, and with a crash at each of the commits and
//     effects that follow.
//
// What differs from the undisturbed run is a fault: an effect that happened more or
// less often, a run that ends otherwise, a dead message. An effect may repeat where
// it does no harm: an outside system that refuses duplicates reports only what it
// does, and what may happen twice is reported by [World.Repeatable]. What undoes an effect, as a refund does, reports
// [World.Undo]: of a run that was cancelled nothing must be left but what may be repeated.
//
// A trial takes some 10 ms for a small scenario and 40 ms for three orders of
// 58 commits. Many trials open and close SQLite files at once, so run it apart from
// tests that measure time.
package weirtest
