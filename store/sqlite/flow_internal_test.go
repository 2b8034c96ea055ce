package sqlite

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestFlow(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := beginStore(t, Clock(func() time.Time { return now }))
	q := declare(t, s, cook)[0]
	if q.Depth != 0 || q.Capacity != 0 {
		t.Errorf("Declare = %+v", q)
	}
	var messages []*store.Message
	for i := range 50 {
		messages = append(messages, message(cook.Topic, fmt.Sprint("k", i%5), fmt.Sprint(i)))
	}
	send(t, s, messages...)
	if messages[0].ID == "" || messages[49].Pos != messages[0].Pos+49 || !messages[3].SentAt.Equal(now) {
		t.Errorf("first message after Commit = %+v", messages[0])
	}
	c := claimAny(t, s, q.ID, 40)
	if len(c.Batch.Deliveries) != 40 || !c.More {
		t.Fatalf("Claim = %d deliveries, More %t, want 40, true", len(c.Batch.Deliveries), c.More)
	}
	b := c.Batch
	for i, d := range b.Deliveries {
		m := messages[i]
		if d.Message.ID != m.ID || d.Message.Key != m.Key || string(d.Message.Body) != string(m.Body) || d.Index != i || d.Attempt != 1 {
			t.Errorf("delivery %d = %+v %+v, want %+v", i, d, d.Message, m)
		}
	}
	ch := &store.Change{}
	for i := range 40 {
		v := store.Done
		switch {
		case i == 0:
			v = store.Retry
		case i%5 == 0:
			v = store.Behind
		}
		st := settlement(b, i, v)
		st.Due = now.Add(time.Minute)
		ch.Settle = append(ch.Settle, st)
	}
	commit1(t, s, ch)
	c = claimAny(t, s, q.ID, 40)
	if got := len(c.Batch.Deliveries); got != 8 { // of the last ten, k0's two go behind
		t.Errorf("Claim = %d: %v", got, keysOf(c.Batch))
	}
	if !c.NextDue.Equal(now.Add(time.Minute)) || c.More {
		t.Errorf("NextDue = %v, More = %v", c.NextDue, c.More)
	}
	if got := claimAny(t, s, q.ID, 40); got.Batch != nil || got.More {
		t.Errorf("Claim = %v, want nothing", got)
	}
	now = now.Add(time.Minute)
	retried := claimBatch(t, s, q.ID, 40)
	if got := keysOf(retried); !slices.Equal(got, []string{"k0:0"}) || retried.Deliveries[0].Attempt != 2 {
		t.Errorf("Claim = %v %+v, want the retry of k0:0", got, retried.Deliveries[0])
	}
	commit1(t, s, &store.Change{Settle: []store.Settlement{settlement(retried, 0, store.Done)}})
	released := claimBatch(t, s, q.ID, 40)
	if got := len(released.Deliveries); got != 9 {
		t.Errorf("Claim after release = %v, want k0's other nine", keysOf(released))
	}
	states, err := s.Reader().Queues(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got := states[0]; got.Depth != 17 || got.Leased != 17 || got.Deferred != 0 {
		t.Errorf("Queues = %+v", got)
	}
	findings, err := s.Reader().Check(context.Background())
	if err != nil || len(findings) > 0 {
		t.Errorf("Check = %v, %v", findings, err)
	}
}
