package weir_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// Each state of a run, and each thing that it may wait for, is told in a sentence.
func TestWhyNotRunning(t *testing.T) {
	start := time.Date(2026, 3, 14, 19, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return start.Add(d) }
	now := after(10 * time.Minute)
	till := weir.Process{ID: 3, PID: 4711, Host: "till", Owns: []string{"orders"}}
	bar := weir.Process{ID: 4, PID: 4712, Host: "till", Owns: []string{"bar"}}
	run := func(state weir.RunState, change func(*weir.RunStory), records ...weir.RunRecord) weir.RunStory {
		s := weir.RunStory{RunRow: weir.RunRow{No: 45, Workflow: "orders.fulfil", ID: "order-7", State: state, StartedAt: start}, Records: records}
		if change != nil {
			change(&s)
		}
		for i := range s.Records {
			s.Records[i].N, s.Records[i].StartedAt = i+1, after(time.Minute)
		}
		return s
	}
	record := func(kind store.StepKind, state store.StepState, name string) weir.RunRecord {
		return weir.RunRecord{Kind: kind, State: state, Name: name}
	}
	due := func(r weir.RunRecord, at time.Time, reason string) weir.RunRecord {
		r.Due, r.Reason = at, reason
		return r
	}
	failed := func(s *weir.RunStory) {
		s.Attempts = []weir.RunAttempt{
			{N: 1, Attempt: 2, StartedAt: after(time.Minute), Reason: "first"},
			{N: 1, Attempt: 3, StartedAt: after(9 * time.Minute), Took: 48 * time.Second, Reason: "503 from the bank\nstack"},
		}
	}
	for _, c := range []struct {
		name  string
		story weir.RunStory
		live  []weir.Process
		want  []string
	}{
		{"ended", run("completed", func(s *weir.RunStory) { s.EndedAt = after(time.Minute) }), nil,
			[]string{"has ended: completed at 2026-03-14 19:01:00Z"}},
		{"failed", run("failed", func(s *weir.RunStory) { s.EndedAt, s.Reason = after(time.Minute), "declined\nstack" }), nil,
			[]string{"has ended: failed at 2026-03-14 19:01:00Z: declined"}},
		{"no process", run(weir.RunReady, nil), nil,
			[]string{"is ready, but no live process works the store: start the service that owns orders"}},
		{"no owner", run(weir.RunReady, nil), []weir.Process{bar},
			[]string{"is ready, but no live process owns orders: start the service that does"}},
		{"ready", run(weir.RunReady, nil), []weir.Process{bar, till},
			[]string{"is ready: process 3 takes it when it has room; if it does not, see that it registers the workflow orders.fulfil"}},
		{"suspect", run(weir.RunReady, func(s *weir.RunStory) { s.Crashes = 2 }), []weir.Process{till},
			[]string{"crashed its process 2 times; it waits to run alone"}},
		{"running", run(weir.RunRunning, func(s *weir.RunStory) { s.Process = 3 }), []weir.Process{till},
			[]string{"is running in process 3 (pid 4711 on till); it has done no step yet"}},
		{"running on", run(weir.RunRunning, func(s *weir.RunStory) { s.Process = 3 }, record(store.KindStep, store.StepDone, "reserve"), record(store.KindOnce, store.StepIntent, "charge-card")), []weir.Process{till},
			[]string{"is running in process 3 (pid 4711 on till); its last step reserve was done at 2026-03-14 19:01:00Z",
				"step charge-card is under way since 2026-03-14 19:01:00Z: attempt 1"}},
		{"running between attempts", run(weir.RunRunning, func(s *weir.RunStory) { s.Process = 3; failed(s) }, due(record(store.KindStep, 0, "reserve"), after(11*time.Minute), "")), []weir.Process{till},
			[]string{"is running in process 3 (pid 4711 on till); it has done no step yet",
				"step reserve retries: attempt 3 failed 12s ago: 503 from the bank; next at 2026-03-14 19:11:00Z (in 1m00s)"}},
		{"lost", run(weir.RunRunning, func(s *weir.RunStory) { s.Process = 2; s.Crashes = 1 }), []weir.Process{till},
			[]string{"was running in process 2, which is gone: the next process to work the store takes it over", "crashed its process once since it last got on"}},
		{"not begun", run(weir.RunWaiting, func(s *weir.RunStory) { s.Wake = after(34 * time.Hour) }), nil,
			[]string{"begins at 2026-03-16 05:00:00Z (in 1d09h)"}},
		{"left for later", run(weir.RunWaiting, func(s *weir.RunStory) { s.Wake, s.Epoch = after(11*time.Minute), 1 }), nil,
			[]string{"rests until 2026-03-14 19:11:00Z (in 1m00s): the log of its process says why"}},
		{"full queue", run(weir.RunWaiting, nil, due(record(store.KindAsk, store.StepPending, "ask-kitchen"), after(11*time.Minute), "queue kitchen.cook is full")), nil,
			[]string{"step ask-kitchen is not sent yet: queue kitchen.cook is full; next at 2026-03-14 19:11:00Z (in 1m00s)"}},
		{"asleep", run(weir.RunWaiting, nil, due(record(store.KindSleep, store.StepPending, "cool-off"), after(2*time.Hour), "")), nil,
			[]string{"waits until 2026-03-14 21:00:00Z (in 1h50m): sleep cool-off"}},
		{"constraint", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Waits = []weir.RunWait{{N: 1, Topic: "warehouse.stock-changed", Key: "12", Since: start}}
		}, due(record(store.KindUntil, store.StepPending, "stock-available"), after(15*time.Minute), "need 5 of 12, have 2")), nil,
			[]string{"waits until stock-available: need 5 of 12, have 2; asked again at 2026-03-14 19:15:00Z (in 5m00s), or when it comes: " +
				"warehouse.stock-changed with key 12 (look-back from 2026-03-14 19:00:00Z)"}},
		{"event", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Waits = []weir.RunWait{{N: 1, Topic: "warehouse.stock-changed", Key: "12", Since: start}}
		}, record(store.KindWaitFor, store.StepPending, "restocked")), nil,
			[]string{"waits for warehouse.stock-changed with key 12 (look-back from 2026-03-14 19:00:00Z): wait-for restocked"}},
		{"reply", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Records[0].Attempt = 1
			s.Waits = []weir.RunWait{{N: 1, Topic: "kitchen.cook.reply", Key: "k7q2xw-2r"}}
		}, due(record(store.KindAsk, store.StepPending, "left/ask#2"), after(11*time.Minute), "")), nil,
			[]string{"waits for the reply to kitchen.cook k7q2xw-2r: ask left/ask#2; gives up at 2026-03-14 19:11:00Z (in 1m00s)"}},
		{"child", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Records[0].Attempt = 1
			s.Children = []weir.RunRow{{Workflow: "orders.ship", ID: "order-7/ship", State: weir.RunNeedsPerson, Reason: "no van"}}
		}, record(store.KindChild, store.StepPending, "ship")), nil,
			[]string{"waits for its child run orders.ship/order-7/ship, which is needs-person: no van: see weir run why orders.ship/order-7/ship"}},
		{"child, ending", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Records[0].Attempt = 1
			s.Children = []weir.RunRow{{Workflow: "orders.ship", ID: "order-7/ship", State: weir.RunWaiting}}
		}, record(store.KindChild, store.StepPending, "ship"), due(record(store.KindNote, store.StepDone, ":ending"), time.Time{}, "declined")), nil,
			[]string{"is ending: declined; its compensations are run first", "waits for its child run orders.ship/order-7/ship, which is waiting"}},
		{"deadline", run(weir.RunWaiting, func(s *weir.RunStory) { s.Deadline = after(time.Hour) }, due(record(store.KindSleep, store.StepPending, "nap"), after(2*time.Hour), "")), nil,
			[]string{"waits until 2026-03-14 21:00:00Z (in 1h50m): sleep nap", "is cancelled at 2026-03-14 20:00:00Z (in 50m00s): its deadline"}},
		{"deadline of a parked one", run(weir.RunNeedsPerson, func(s *weir.RunStory) { s.Deadline, s.Reason = after(time.Minute), "no van" }), nil,
			[]string{"needs a person: no van", "goes on after: weir run retry orders.fulfil/order-7 --why REASON (when the cause is mended; or abandon)",
				"has its deadline at 2026-03-14 19:01:00Z (now): past that it is cancelled once a person has decided"}},
		{"lock", run(weir.RunWaiting, func(s *weir.RunStory) {
			s.Locks = []weir.LockRow{{Name: "order/7", HolderID: "orders.refund/7", Since: start, Waiters: []weir.LockWaiter{{Run: 44}, {Run: 45}}}}
		}, record(store.KindLock, store.StepPending, "left/lock[order/7]#2")), nil,
			[]string{"is in line for lock order/7, as number 2 of 2; it is held by run orders.refund/7 since 2026-03-14 19:00:00Z"}},
		{"retry", run(weir.RunWaiting, failed, due(record(store.KindCompensate, store.StepPending, "release"), after(11*time.Minute), "")), nil,
			[]string{"compensation release retries: attempt 3 failed 12s ago: 503 from the bank; next at 2026-03-14 19:11:00Z (in 1m00s)"}},
		{"unknown", run(weir.RunWaiting, nil, due(record(store.KindOnce, store.StepUnknown, "charge-card"), after(11*time.Minute), "outcome unknown: timeout")), nil,
			[]string{"step charge-card: it is not known whether attempt 1 has happened: outcome unknown: timeout; that is asked at 2026-03-14 19:11:00Z (in 1m00s)"}},
		{"crashed in a call", run(weir.RunWaiting, nil, record(store.KindOnce, store.StepIntent, "charge-card")), nil,
			[]string{"step charge-card: attempt 1 was under way, and its outcome is to be found out"}},
		{"step needs a person", run(weir.RunNeedsPerson, nil, due(record(store.KindOnce, store.StepParked, "item[7]"), time.Time{}, "outcome unknown")), nil,
			[]string{"needs a person: step item[7]: outcome unknown",
				"goes on after: weir run settle orders.fulfil/order-7 --step 'item[7]' --value JSON --why REASON (or with --failed; or retry, skip or abandon)"}},
		{"decided", run(weir.RunReady, func(s *weir.RunStory) {
			s.Mail = []weir.RunMail{{Kind: store.RetryMail, Step: "left/charge", At: start, By: "anna", Why: "it is back"}}
		}, record(store.KindOnce, store.StepParked, "left/charge"), due(record(store.KindStep, store.StepParked, "right/charge"), time.Time{}, "no attempts left")), nil,
			[]string{"has yet to read that anna decided 10m00s ago to retry left/charge: it is back",
				"needs a person: step right/charge: no attempts left",
				"goes on after: weir run settle orders.fulfil/order-7 --step right/charge --value JSON --why REASON (or with --failed; or retry, skip or abandon)",
				"is ready, but no live process works the store: start the service that owns orders"}},
		{"run needs a person", run(weir.RunNeedsPerson, func(s *weir.RunStory) { s.Reason = "panicked: nil map\nstack" }), nil,
			[]string{"needs a person: panicked: nil map",
				"goes on after: weir run retry orders.fulfil/order-7 --why REASON (when the cause is mended; or abandon)"}},
		{"ending", run(weir.RunReady, nil, due(record(store.KindNote, store.StepDone, ":ending"), time.Time{}, "cancelled by anna: sold out")), []weir.Process{till},
			[]string{"is ending: cancelled by anna: sold out; its compensations are run first",
				"is ready: process 3 takes it when it has room; if it does not, see that it registers the workflow orders.fulfil"}},
		{"compensating", run(weir.RunNeedsPerson, nil, record(store.KindSleep, store.StepPending, "nap"), due(record(store.KindOnce, store.StepUnknown, "charge"), time.Time{}, "timeout"),
			due(record(store.KindNote, store.StepDone, ":ending"), time.Time{}, "declined"), due(record(store.KindCompensate, store.StepParked, "undo"), time.Time{}, "no route")), nil,
			[]string{"is ending: declined; its compensations are run first", "needs a person: compensation undo: no route",
				"goes on after: weir run retry orders.fulfil/order-7 --step undo --why REASON (when the cause is mended; or skip or abandon)",
				"step charge: it is not known whether attempt 1 has happened: timeout; that is asked at once"}},
		{"mail", run(weir.RunReady, func(s *weir.RunStory) {
			s.Mail = []weir.RunMail{{Kind: store.CancelMail, At: start, By: "anna", Why: "sold out"}, {Kind: store.SettleMail, Step: "charge-card", At: start, By: "bob", Why: "asked the bank"}, {Kind: store.Arrived}}
		}), []weir.Process{till},
			[]string{"has yet to read that anna decided 10m00s ago to cancel it: sold out", "has yet to read that bob decided 10m00s ago to settle charge-card: asked the bank",
				"has yet to read 1 message that came for it",
				"is ready: process 3 takes it when it has room; if it does not, see that it registers the workflow orders.fulfil"}},
		{"nothing", run(weir.RunWaiting, nil), nil,
			[]string{"waits for mail, and none of its records tells for what: weir doctor says what to do"}},
	} {
		if got := weir.WhyNotRunning(c.story, weir.Surroundings{Now: now, Live: c.live}); !slices.Equal(got, c.want) {
			t.Errorf("%s: WhyNotRunning =\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// A command is there to be copied into a shell, which would obey what is in an ID.
func TestWhyNotRunningQuotes(t *testing.T) {
	s := weir.RunStory{RunRow: weir.RunRow{Workflow: "orders.fulfil", ID: "7; rm -rf $HOME 'x'", State: weir.RunNeedsPerson}}
	why := weir.WhyNotRunning(s, weir.Surroundings{})
	if want := `weir run retry 'orders.fulfil/7; rm -rf $HOME '\''x'\''' --why REASON`; !strings.Contains(why[1], want) {
		t.Errorf("WhyNotRunning = %q, want in it %s", why, want)
	}
}

// However many records are open, and however long their reasons, there is not more than one screen to read.
func TestWhyNotRunningIsBounded(t *testing.T) {
	s := weir.RunStory{RunRow: weir.RunRow{Workflow: "orders.fulfil", ID: "7", State: weir.RunWaiting}}
	for range 1000 {
		s.Records = append(s.Records, weir.RunRecord{Kind: store.KindUntil, State: store.StepPending, Name: "stock", Reason: strings.Repeat("é", 5000)})
	}
	why := weir.WhyNotRunning(s, weir.Surroundings{})
	if len(why) != 21 || why[20] != "and 980 more" || len(why[0]) > 1000 {
		t.Errorf("WhyNotRunning gave %d sentences, the first of %d bytes, the last %q, want 20 short ones and 980 more", len(why), len(why[0]), why[len(why)-1])
	}
}
