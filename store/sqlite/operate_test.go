package sqlite_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestOperateRefuses(t *testing.T) {
	d := openDesk(t, command())
	done := d.send(cook, "1")[0].ID
	d.work(cook, "1")
	for _, c := range []struct {
		act  store.Act
		want string
		is   error
	}{
		{store.Act{Verb: store.PauseQueue, Queue: cook, Why: "w"}, "who acts (By) is required", nil},
		{store.Act{Verb: store.PauseQueue, Queue: cook, By: "ada", Why: " "}, "reason (Why) is required", nil},
		{store.Act{Verb: store.PauseQueue, By: "ada", Why: "w"}, "which queue", nil},
		{store.Act{Verb: "purge", Queue: cook, By: "ada", Why: "w"}, `"purge" is none of`, nil},
		{store.Act{Verb: store.RetryDead, Queue: cook, Body: []byte("x"), By: "ada", Why: "w"}, "only when one message", nil},
		{store.Act{Verb: store.DiscardDead, ID: done, Headers: []byte("{}"), By: "ada", Why: "w"}, "only when one message", nil},
		{store.Act{Verb: store.PauseQueue, Queue: "kitchen.cok", By: "ada", Why: "w"}, `"kitchen.cok": weir queue ls`, store.ErrNotFound},
		{store.Act{Verb: store.ResumeQueue, Queue: cook, By: "ada", Why: "w"}, "nothing to resume", store.ErrConflict},
		{store.Act{Verb: store.RetryDead, Queue: "nobody", By: "ada", Why: "w"}, "nobody", store.ErrNotFound},
		{store.Act{Verb: store.RetryDead, ID: "zzzzzz-1", By: "ada", Why: "w"}, "of store zzzzzz", store.ErrNotFound},
		{store.Act{Verb: store.RetryDead, ID: "order 42", By: "ada", Why: "w"}, "is not of the form", store.ErrNotFound},
		{store.Act{Verb: store.RetryDead, ID: d.store.Info().Incarnation.ID(7), By: "ada", Why: "w"}, "was never sent", store.ErrNotFound},
		{store.Act{Verb: store.RetryDead, ID: done, By: "ada", Why: "w"}, "it is done in " + cook, store.ErrConflict},
		{store.Act{Verb: store.DiscardDead, ID: done, DryRun: true, By: "ada", Why: "w"}, "it is done in " + cook, store.ErrConflict},
	} {
		_, err := d.store.Operate(d.ctx(), c.act)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("Operate(%+v) = %v, want %q, %v", c.act, err, c.want, c.is)
		}
	}
	if rows := d.audit(); len(rows) != 0 {
		t.Errorf("Audit after refused acts = %+v, want none", rows)
	}
}

func TestPauseResume(t *testing.T) {
	d := openDesk(t, command())
	d.send(cook, "1")
	d.operate(store.Act{Verb: store.PauseQueue, Queue: cook, DryRun: true})
	if q := d.state(cook); q.Paused != nil {
		t.Errorf("Queues after a dry run: paused %+v, want not", q.Paused)
	}
	d.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	at := d.now
	d.move(time.Hour)
	d.claim(cook, "")
	if p := d.state(cook).Paused; p == nil || p.By != "ada" || p.Why != "mended" || !p.At.Equal(at) {
		t.Errorf("Queues: paused %+v, want by ada at %s", p, at)
	}
	_, err := d.store.Operate(d.ctx(), store.Act{Verb: store.PauseQueue, Queue: cook, By: "bob", Why: "w"})
	if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "by ada (mended): weir queue resume "+cook) {
		t.Errorf("Operate(pause a paused queue) = %v, want a conflict that names ada", err)
	}
	d.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	d.work(cook, "1")
	rows := d.audit()
	if len(rows) != 2 || rows[0].Verb != "resume" || rows[1].Verb != "pause" {
		t.Fatalf("Audit = %+v, want resume, pause", rows)
	}
	want := store.AuditRow{At: d.now, By: "ada", Verb: "resume", Why: "mended", Target: "queue " + cook,
		Before: `{"paused":true,"paused_at":"2026-03-01T12:00:00Z","paused_by":"ada","paused_why":"mended","parked":false}`,
		After:  `{"paused":false,"parked":false}`}
	if rows[0] != want {
		t.Errorf("Audit = %+v, want %+v", rows[0], want)
	}
}

func TestRetryEdited(t *testing.T) {
	d := openDesk(t, command())
	id := d.die(cook, cook, "a1 a2")[0].ID
	d.holds(cook, 1, 0, 1, 1)
	got := d.operate(store.Act{Verb: store.RetryDead, Queue: cook, ID: id, Body: []byte("a9"), Headers: []byte(`{"x":"y"}`)})
	if got.Count != 1 || got.More {
		t.Errorf("Operate(retry) = %+v, want 1", got)
	}
	d.holds(cook, 2, 0, 2, 0)
	if s := d.story(id); string(s.Body) != "a1" || s.Queues[0].State != "deferred" || s.Queues[0].Reason != "retried by ada: mended" || !s.Queues[0].Due.IsZero() {
		t.Errorf("Message = %+v, want the journal's body, deferred at once by ada", s)
	}
	b := d.claim(cook, "a9")
	if del := b.Deliveries[0]; del.Attempt != 1 || del.Crashes != 0 || !del.FirstAt.IsZero() || string(del.Message.Headers) != `{"x":"y"}` {
		t.Errorf("Claim = %+v, want attempt 1 with the new headers", del)
	}
	d.settle(b, store.Dead, "a9")
	l := d.letter(cook, id)
	if !l.Edited || string(l.Message.Body) != "a9" || len(l.History) != 2 || l.Attempts != 1 {
		t.Errorf("Dead = %+v, want edited, dead after 1 attempt, with 2 in its history", l)
	}
	rows := d.audit()
	want := `{"state":"dead","attempts":1,"reason":"no a1","body":{"bytes":2,`
	if len(rows) != 1 || rows[0].Target != "dead "+id+" of "+cook || !strings.HasPrefix(rows[0].Before, want) ||
		!strings.Contains(rows[0].After, `"headers":{"bytes":9,`) {
		t.Errorf("Audit = %+v, want one row, before %s", rows, want)
	}
	d.operate(store.Act{Verb: store.RetryDead, ID: id, Body: []byte{}}) // the headers stay
	again, err := d.store.Claim(d.ctx(), store.ClaimRequest{Queue: d.ids[cook], Max: 1})
	if err != nil || len(again.Batch.Deliveries) != 1 {
		t.Fatalf("Claim = %+v, %v, want the message", again, err)
	}
	if m := again.Batch.Deliveries[0].Message; m.Body == nil || len(m.Body) != 0 || string(m.Headers) != `{"x":"y"}` {
		t.Errorf("Claim = body %q, headers %s, want no bytes and the headers of before", m.Body, m.Headers)
	}
}

func TestRetryParked(t *testing.T) {
	q := command()
	q.OnDead = store.Park
	d := openDesk(t, q)
	sent := d.die(cook, cook, "a1 a2 a3")
	d.send(cook, "a4")
	d.claim(cook, "")
	d.holds(cook, 0, 0, 0, 4)
	_, err := d.store.Operate(d.ctx(), store.Act{Verb: store.RetryDead, ID: sent[2].ID, By: "ada", Why: "w"})
	if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "for "+sent[0].ID+", which is dead too") {
		t.Errorf("Operate(retry a parked follower) = %v, want a conflict that names %s", err, sent[0].ID)
	}
	if got := d.operate(store.Act{Verb: store.RetryDead, Queue: cook, Matching: "earlier"}); got.Count != 0 {
		t.Errorf("Operate(retry all that wait) = %+v, want none without their head", got)
	}
	for _, dry := range []bool{true, false} {
		if got := d.operate(store.Act{Verb: store.RetryDead, Queue: cook, Matching: "no a1", DryRun: dry}); got.Count != 4 {
			t.Errorf("Operate(retry the head's reason, dry run %t) = %+v, want 4", dry, got)
		}
	}
	d.holds(cook, 4, 0, 4, 0)
	d.send(cook, "a5")
	b := d.claim(cook, "a1")
	d.settle(b, store.Done, "a1")
	d.work(cook, "a2 a3 a4 a5")
	d.holds(cook, 0, 0, 0, 0)
	rows := d.audit()
	if len(rows) != 1 || rows[0].Target != `dead letters of kitchen.cook matching "no a1"` || !strings.Contains(rows[0].After, `"count":4`) {
		t.Errorf("Audit = %+v, want one row with 4", rows)
	}
}

func TestRetrySkippedBehindEarlier(t *testing.T) {
	q := command()
	q.OnDead = store.Skip
	d := openDesk(t, q)
	first := d.die(cook, cook, "a1")[0].ID
	second := d.die(cook, cook, "a2")[0].ID
	d.operate(store.Act{Verb: store.RetryDead, ID: first})
	d.settle(d.claim(cook, "a1"), store.Retry, "a1")
	d.operate(store.Act{Verb: store.RetryDead, ID: second})
	d.claim(cook, "")
	if s := d.story(second).Queues[0]; s.State != "behind" {
		t.Errorf("Message(retried behind an earlier one) = %+v, want behind", s)
	}
	d.move(time.Minute)
	d.work(cook, "a1 a2")
	d.holds(cook, 0, 0, 0, 0)
}

func TestDiscardReleases(t *testing.T) {
	d := openDesk(t, command())
	sent := d.die(cook, cook, "a1 a2 a3")
	d.operate(store.Act{Verb: store.DiscardDead, ID: sent[0].ID})
	d.holds(cook, 2, 0, 2, 0)
	s := d.story(sent[0].ID).Queues[0]
	last := s.Attempts[len(s.Attempts)-1]
	if s.State != "discarded" || last.Verdict != "discarded" || last.Reason != "discarded by ada: mended" || len(s.Attempts) != 2 {
		t.Errorf("Message(discarded) = %+v, want discarded by ada", s)
	}
	d.work(cook, "a2 a3")
}

func TestDiscardParkedHead(t *testing.T) {
	q := command()
	q.OnDead = store.Park
	d := openDesk(t, q)
	sent := d.die(cook, cook, "a1 a2 a3")
	d.operate(store.Act{Verb: store.DiscardDead, ID: sent[0].ID})
	d.send(cook, "a4")
	d.claim(cook, "")
	d.holds(cook, 0, 0, 0, 3)
	if l := d.letter(cook, sent[1].ID); l.BehindID != "" {
		t.Errorf("Dead(first of those left) = behind %s, want a head", l.BehindID)
	}
	if l := d.letter(cook, sent[2].ID); l.BehindID != sent[1].ID {
		t.Errorf("Dead(second of those left) = behind %s, want %s", l.BehindID, sent[1].ID)
	}
	d.operate(store.Act{Verb: store.RetryDead, ID: sent[1].ID})
	d.work(cook, "a2 a3 a4")
	d.holds(cook, 0, 0, 0, 0)
}

func TestSettleInSeveralQueues(t *testing.T) {
	d := openDesk(t, event(waiter), event(billing))
	id := d.send(ready, "1")[0].ID
	for _, q := range []string{waiter, billing} {
		d.settle(d.claim(q, "1"), store.Dead, "1")
	}
	if got := d.operate(store.Act{Verb: store.RetryDead, ID: id}); got.Count != 2 {
		t.Errorf("Operate(retry in any queue) = %+v, want 2", got)
	}
	if rows := d.audit(); len(rows) != 1 || rows[0].Target != "dead "+id+" of "+billing+", "+waiter {
		t.Errorf("Audit = %+v, want one row for both queues", rows)
	}
	d.work(waiter, "1")
	d.work(billing, "1")
}

// many makes n messages of the key "a" dead: the first by itself, the others
// parked behind it.
func (d *desk) many(n int) {
	d.Helper()
	for range n {
		d.commit(&store.Change{Sends: []*store.Message{d.message(cook, "a1")}})
		if n > 100 {
			break
		}
	}
	d.sql(fmt.Sprintf(`with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
		insert into weir_messages select pos + i, sent_us, version, key, due_us, cause, correlation, origin, headers, body
		from n, (select * from weir_messages order by pos limit 1)`, n-1))
	d.sql(`update weir_topics set appended = (select count(*) from weir_messages), last_pos = (select max(pos) from weir_messages)`)
	d.sql(`update weir_meta set v = v + ` + fmt.Sprint(n) + ` where k = 'seq'`)
	d.sql(`update weir_batches set high = (select max(pos) from weir_messages)`)
	d.sql(`update weir_queues set gone = (select count(*) from weir_messages)`)
	d.sql(`insert into weir_dead select 1, pos, 1, key, 0, 'an earlier one', 0, (select min(pos) from weir_messages) from weir_messages`)
	d.sql(`update weir_dead set behind = null, reason = 'no oven', attempts = 1 where pos = behind`)
}

func TestOperateMany(t *testing.T) {
	q := command()
	q.OnDead = store.Park
	d := openDesk(t, q)
	n := int64(store.MaxOperate + 500)
	d.many(int(n))
	d.holds(cook, 0, 0, 0, n)
	retry := store.Act{Verb: store.RetryDead, Queue: cook, Matching: "no oven"}
	start := time.Now()
	for _, want := range []store.Acted{{Count: store.MaxOperate, More: true}, {Count: 500}} {
		dry := retry
		dry.DryRun = true
		for _, act := range []store.Act{dry, retry} {
			if got := d.operate(act); got != want {
				t.Errorf("Operate(retry %d, dry run %t) = %+v, want %+v", n, act.DryRun, got, want)
			}
		}
	}
	t.Logf("retried %d in %s", n, time.Since(start).Round(time.Millisecond))
	d.holds(cook, n, 0, n, 0)
	d.settle(d.claim(cook, "a1"), store.Done, "a1")
	got, err := d.store.Claim(d.ctx(), store.ClaimRequest{Queue: d.ids[cook], Max: store.MaxBatch})
	if err != nil || len(got.Batch.Deliveries) != store.MaxRelease {
		t.Errorf("Claim after the head is done = %d, %v, want %d", len(got.Batch.Deliveries), err, store.MaxRelease)
	}
}

func TestDiscardMany(t *testing.T) {
	d := openDesk(t, command())
	d.many(store.MaxOperate + 500)
	start := time.Now()
	if got := d.operate(store.Act{Verb: store.DiscardDead, Queue: cook}); got.Count != store.MaxOperate || !got.More {
		t.Errorf("Operate(discard all) = %+v, want %d and more", got, store.MaxOperate)
	}
	t.Logf("discarded %d in %s", store.MaxOperate, time.Since(start).Round(time.Millisecond))
	if got := d.operate(store.Act{Verb: store.DiscardDead}); got.Count != 500 || got.More {
		t.Errorf("Operate(discard all, again) = %+v, want 500", got)
	}
	d.holds(cook, 0, 0, 0, 0)
}
