package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestQueuesOldest(t *testing.T) {
	d := openDesk(t, command())
	if q := d.state(cook); !q.Oldest.IsZero() || q.Depth != 0 {
		t.Errorf("Queues of an empty queue = %+v, want no oldest", q)
	}
	start := d.now
	for i := range 4 {
		d.send(cook, fmt.Sprint(i+1))
		d.move(time.Minute)
	}
	want := func(minutes int) {
		t.Helper()
		if q := d.state(cook); !q.Oldest.Equal(start.Add(time.Duration(minutes) * time.Minute)) {
			t.Errorf("Queues: oldest %s, want %d min after the start", q.Oldest, minutes)
		}
	}
	want(0)
	b := d.claim(cook, "1 2 3 4")
	want(0)
	d.settle(b, store.Retry, "2")
	d.settle(b, store.Done, "1")
	want(1) // deferred, older than those leased
	d.move(time.Hour)
	d.settle(d.claim(cook, "2"), store.Done, "2")
	want(2)
	d.settle(b, store.Done, "3 4")
	d.send(cook, "5")
	want(64)
}

func TestStories(t *testing.T) {
	d := openDesk(t, command(), event(waiter))
	late := d.message(cook, "9")
	late.Due = d.now.Add(time.Hour)
	d.commit(&store.Change{Sends: []*store.Message{late}})
	sent := d.send(cook, "1 a2 a3 4 5 6")
	claimed := d.now
	d.move(time.Second)
	b := d.claim(cook, "1 a2 a3 4 5 6")
	d.move(time.Second)
	ch := &store.Change{Settle: []store.Settlement{
		settlement(b, "1", store.Done, d.now), settlement(b, "a2", store.Retry, d.now), settlement(b, "a3", store.Behind, d.now),
		settlement(b, "4", store.Dead, d.now), settlement(b, "5", store.Discarded, d.now)}}
	d.commit(ch)
	waits := d.send(cook, "7")[0]
	before := d.send(ready, "8")[0]
	d.declare(event(billing))
	for _, c := range []struct {
		m    *store.Message
		want store.QueueStory
	}{
		{sent[0], store.QueueStory{State: "done", Batch: b.No, Process: 1, Started: d.now, Took: 7 * time.Millisecond}},
		{sent[1], store.QueueStory{State: "deferred", Batch: b.No, Process: 1, Started: d.now, Took: 7 * time.Millisecond,
			Due: d.now.Add(time.Minute), Reason: "not now a2"}},
		{sent[2], store.QueueStory{State: "behind"}},
		{sent[3], store.QueueStory{State: "dead", Batch: b.No, Process: 1, Started: d.now, Took: 7 * time.Millisecond, Reason: "no 4"}},
		{sent[4], store.QueueStory{State: "discarded", Batch: b.No, Process: 1, Started: d.now, Took: 7 * time.Millisecond}},
		{sent[5], store.QueueStory{State: "leased", Batch: b.No, Process: 1}},
		{late, store.QueueStory{State: "deferred", Due: claimed.Add(time.Hour)}},
		{waits, store.QueueStory{State: "waiting"}},
		{before, store.QueueStory{State: "before"}},
	} {
		s := d.story(c.m.ID)
		got := s.Queues[0]
		if string(s.Body) != string(c.m.Body) || got.State != c.want.State || got.Due != c.want.Due || got.Reason != c.want.Reason ||
			!got.Started.Equal(c.want.Started) || got.Took != c.want.Took {
			t.Errorf("Message(%s) = %+v, want %+v", c.m.Body, got, c.want)
		}
		if c.want.Batch != 0 && (got.Batch != b.No || got.Process != 1 || !got.ClaimedAt.Equal(b.ClaimedAt)) {
			t.Errorf("Message(%s) = %+v, want of batch %d", c.m.Body, got, b.No)
		}
	}
	d.move(time.Hour)
	d.settle(b, store.Done, "6")
	d.work(cook, "9 a2 7 a3")
	s := d.story(late.ID).Queues[0] // claimed by a later batch than the cursor's
	if s.State != "done" || s.Batch != b.No+1 || !s.Started.Equal(d.now) || len(s.Attempts) != 0 {
		t.Errorf("Message(delayed, done) = %+v, want its batch", s)
	}
	s = d.story(sent[1].ID).Queues[0]
	if s.State != "done" || s.Batch != b.No || len(s.Attempts) != 2 || s.Attempts[1].Verdict != "done" || !s.Started.Equal(d.now) {
		t.Errorf("Message(retried, done) = %+v, want the first batch and the last attempt", s)
	}
	if q := d.story(before.ID).Queues; len(q) != 2 || q[0].Queue != billing || q[1].Queue != waiter || q[1].State != "waiting" {
		t.Errorf("Message = %+v, want %s before, %s waiting", q, billing, waiter)
	}
}

func TestStoryOfManyBatches(t *testing.T) {
	d := openDesk(t, command())
	var sent []*store.Message
	for i := range 60 {
		m := d.send(cook, fmt.Sprint(i))
		sent = append(sent, m...)
		d.settle(d.claim(cook, fmt.Sprint(i)), store.Done, fmt.Sprint(i))
		d.move(time.Second)
	}
	check := func(from int) {
		t.Helper()
		for i, m := range sent {
			got := d.story(m.ID).Queues[0]
			if i < from {
				if got.State != "done" || got.Batch != 0 {
					t.Errorf("Message(%d), whose batch is gone = %+v, want done", i, got)
				}
			} else if got.State != "done" || got.Batch != int64(i+1) {
				t.Errorf("Message(%d) = %+v, want done in batch %d", i, got, i+1)
			}
		}
	}
	check(0)
	d.sql(`delete from weir_batches where (id & 0xffffffffff) in (5, 6, 20)`)
	d.sql(`delete from weir_batches where (id & 0xffffffffff) < 4`)
	for _, i := range []int{4, 5, 19} {
		if got := d.story(sent[i].ID).Queues[0]; got.State != "done" || got.Batch != 0 {
			t.Errorf("Message(%d), whose batch is gone = %+v, want done", i, got)
		}
	}
	d.sql(`delete from weir_batches where (id & 0xffffffffff) < 21`)
	check(20)
}

func TestMessageNotFound(t *testing.T) {
	d := openDesk(t)
	for _, id := range []string{"", "order 42", "zzzzzz-1", d.store.Info().Incarnation.ID(1 << 50)} {
		if m, err := d.read.Message(d.ctx(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Message(%q) = %+v, %v, want ErrNotFound", id, m, err)
		}
	}
}

// page reads all messages a question has, page by page.
func (d *desk) page(q store.MessageQuery) (ids []string) {
	d.Helper()
	for range 1000 {
		got, err := d.read.Messages(d.ctx(), q)
		if err != nil {
			d.Fatalf("Messages(%+v) = %v, want nil", q, err)
		}
		if len(got) == 0 {
			return ids
		}
		for _, m := range got {
			if m.Body != nil || m.Version != 1 {
				d.Errorf("Messages(%+v) = %+v, want all but a body", q, m)
			}
			ids = append(ids, m.ID)
			q.Before = m.Pos
		}
	}
	d.Fatalf("Messages(%+v) never ends", q)
	return nil
}

func TestMessagesMergeTopics(t *testing.T) {
	d := openDesk(t)
	var all, ofKey, ofTopic []string // newest first
	for i := range 300 {
		topic := fmt.Sprintf("kitchen.event-%d", i*i%7)
		if i > 250 {
			topic = "kitchen.event-0"
		}
		word := fmt.Sprint(i)
		if i%3 == 0 {
			word = "k" + word
		}
		m := d.send(topic, word)[0]
		all = append([]string{m.ID}, all...)
		if i%3 == 0 {
			ofKey = append([]string{m.ID}, ofKey...)
		}
		if topic == "kitchen.event-2" {
			ofTopic = append([]string{m.ID}, ofTopic...)
		}
		d.move(time.Second)
	}
	for _, max := range []int{1, 7, 50, 1000} {
		for _, c := range []struct {
			q    store.MessageQuery
			want []string
		}{
			{store.MessageQuery{Max: max}, all},
			{store.MessageQuery{Max: max, Key: "k"}, ofKey},
			{store.MessageQuery{Max: max, Topic: "kitchen.event-2"}, ofTopic},
			{store.MessageQuery{Max: max, Since: d.now.Add(-100 * time.Second)}, all[:100]},
			{store.MessageQuery{Max: max, Topic: "kitchen.none"}, nil},
			{store.MessageQuery{Max: max, Key: "none"}, nil},
		} {
			if got := d.page(c.q); strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("Messages(%+v) = %d messages, want %d in their order", c.q, len(got), len(c.want))
			}
		}
	}
}

func TestTraceConversations(t *testing.T) {
	d := openDesk(t, command())
	send := func(topic, word string, cause *store.Message, correlation string) *store.Message {
		m := d.message(topic, word)
		m.Correlation = correlation
		if cause != nil {
			m.Cause = cause.ID
		}
		d.commit(&store.Change{Sends: []*store.Message{m}})
		return m
	}
	root := send(cook, "1", nil, "")                // without the key
	one := send(ready, "k2", root, root.ID)         // the key, in the conversation of 1
	send(cook, "3", nil, "")                        // another conversation
	two := send(ready, "4", one, root.ID)           // without the key, in the conversation of 1
	alone := send(cook, "k5", nil, "")              // a root with the key
	child := send(ready, "6", alone, alone.ID)      // its child
	abroad := send(ready, "k7", nil, "zzzzzz-1hk3") // of another store's conversation
	fellow := send(cook, "8", nil, "zzzzzz-1hk3")   // and one more of that
	uncorrelated := send(cook, "k9", one, "")       // only a cause
	want := []*store.Message{root, one, two, alone, child, abroad, fellow, uncorrelated}
	trace := func(max int, want []*store.Message) {
		t.Helper()
		got, err := d.read.Trace(d.ctx(), "k", max)
		if err != nil || len(got) != len(want) {
			t.Fatalf("Trace(k, %d) = %d, %v, want %d", max, len(got), err, len(want))
		}
		for i, m := range got {
			if m.ID != want[i].ID || m.Body != nil {
				t.Errorf("Trace(k, %d)[%d] = %s with a body of %d, want %s without", max, i, m.ID, len(m.Body), want[i].ID)
			}
		}
	}
	trace(100, want)
	trace(3, want[5:])
	if got, err := d.read.Trace(d.ctx(), "k", 100); err != nil || got[0].Queues[0].State != "waiting" || got[6].Correlation != "zzzzzz-1hk3" || got[1].Cause != root.ID {
		t.Errorf("Trace = %+v, %v, want stories and references", got, err)
	}
	d.work(cook, "1 3 k5 8 k9")
	d.move(2 * time.Hour)
	d.prune(time.Hour)
	if got, err := d.read.Trace(d.ctx(), "k", 100); err != nil || len(got) != 0 {
		t.Errorf("Trace of what is gone = %d, %v, want none", len(got), err)
	}
}

func TestTraceFindsKept(t *testing.T) {
	d := openDesk(t, command())
	sent := d.die(cook, cook, "k1 k2")
	d.move(2 * time.Hour)
	d.prune(time.Hour)
	d.send(cook, "k3")
	d.claim(cook, "")
	got, err := d.read.Trace(d.ctx(), "k", 10)
	if err != nil || len(got) != 3 || got[0].ID != sent[0].ID || got[0].Queues[0].State != "dead" || got[2].Queues[0].State != "behind" {
		t.Errorf("Trace = %+v, %v, want k1 dead, k2 and k3 behind it", got, err)
	}
}

func TestDeadPages(t *testing.T) {
	d := openDesk(t, event(waiter), event(billing), command())
	var want []string
	for i := range 30 {
		topic, queues := ready, []string{billing, waiter}
		if i%3 == 0 {
			topic, queues = cook, []string{cook}
		}
		m := d.send(topic, fmt.Sprint(i))[0]
		for _, q := range queues {
			d.settle(d.claim(q, fmt.Sprint(i)), store.Dead, fmt.Sprint(i))
			want = append(want, m.ID+" of "+q)
		}
	}
	for _, max := range []int{1, 2, 7, 1000} {
		var got []string
		q := store.DeadQuery{Max: max}
		for range 100 {
			page, err := d.read.Dead(d.ctx(), q)
			if err != nil {
				t.Fatalf("Dead(%+v) = %v, want nil", q, err)
			}
			if len(page) == 0 {
				break
			}
			for _, l := range page {
				got = append(got, l.Message.ID+" of "+l.Queue)
				q.After = l.Message.Pos
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("Dead(max %d), page by page = %d, want %d in their order", max, len(got), len(want))
		}
	}
	got, err := d.read.Dead(d.ctx(), store.DeadQuery{Matching: "no 2", Queue: waiter})
	if err != nil || len(got) != 8 { // 2, 20, 22, 23, 25, 26, 28, 29
		t.Errorf("Dead(matching) = %d, %v, want 8", len(got), err)
	}
}

func TestFiguresSince(t *testing.T) {
	d := openDesk(t, command(), event(waiter))
	start := d.now
	for i := range 5 {
		delta := store.FigureDelta{Queue: d.ids[cook], Failed: int64(i)}
		delta.Wait.Add(time.Second)
		if err := d.store.Commit(d.ctx(), &store.Group{Figures: []store.FigureDelta{delta, {Queue: d.ids[waiter]}}}); err != nil {
			t.Fatalf("Commit = %v, want nil", err)
		}
		d.move(time.Minute)
	}
	for since, want := range map[time.Duration]int{0: 10, 2 * time.Minute: 6, 90 * time.Second: 6, time.Hour: 0} {
		got, err := d.read.Figures(d.ctx(), start.Add(since))
		if err != nil || len(got) != want {
			t.Errorf("Figures(%s) = %d, %v, want %d", since, len(got), err, want)
		}
		for i := 1; i < len(got); i++ {
			if a, b := got[i-1], got[i]; a.Queue > b.Queue || a.Queue == b.Queue && !a.Minute.Before(b.Minute) {
				t.Errorf("Figures = %+v before %+v, want by queue and minute", a, b)
			}
		}
	}
	if got, err := d.read.Figures(d.ctx(), start); err != nil || got[4].Failed != 4 || got[4].Wait.Count() != 1 {
		t.Errorf("Figures = %+v, %v, want what was measured", got, err)
	}
}

func TestReadsEndWithTheirContext(t *testing.T) {
	d := openDesk(t, command())
	ctx, cancel := context.WithCancel(d.ctx())
	cancel()
	if _, err := d.read.Queues(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Queues with a cancelled context = %v, want context.Canceled", err)
	}
}
