package sqlite

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// settleAll commits a batch with one verdict for all.
func settleAll(t *testing.T, s *Store, b *store.Batch, v store.Verdict) {
	t.Helper()
	ch := &store.Change{}
	for i := range b.Deliveries {
		st := settlement(b, i, v)
		st.Due, st.Reason = b.ClaimedAt, "boom"
		ch.Settle = append(ch.Settle, st)
	}
	commit1(t, s, ch)
}

// What another claim took between the look and the lease is not leased twice.
func TestClaimsMeet(t *testing.T) {
	s := beginStore(t)
	q := declare(t, s, cook)[0]
	for i := range 10 {
		send(t, s, message(cook.Topic, "", fmt.Sprint(i)))
	}
	settleAll(t, s, claimBatch(t, s, q.ID, 2), store.Retry) // 0 and 1 are due again
	ctx := context.Background()
	k := &claim{s: s, request: store.ClaimRequest{Queue: q.ID, Max: 4}, process: s.process.Load(), now: us(s.now()), ready: map[int64]int{}}
	if err := s.read(ctx, func(c *conn) error { _, err := k.look(c); return err }); err != nil {
		t.Fatal(err)
	}
	between := claimBatch(t, s, q.ID, 5) // 0, 1, 2, 3 and 4
	send(t, s, message(cook.Topic, "", "10"))
	settleAll(t, s, between, store.Retry) // all five are due, 2 to 4 not read ahead
	k.now = us(s.now())
	if err := s.write(ctx, k.take); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(keysOf(k.claimed.Batch), " "); got != ":0 :1 :2 :3" || !k.claimed.More {
		t.Errorf("claim after another = %s, More %t, want :0 :1 :2 :3, true", got, k.claimed.More)
	}
	if got := strings.Join(keysOf(claimBatch(t, s, q.ID, 99)), " "); got != ":4 :5 :6 :7 :8 :9 :10" {
		t.Errorf("the next claim = %s, want :4 to :10", got)
	}
}

func TestClaimIsBoundedInBytes(t *testing.T) {
	s := beginStore(t)
	q := declare(t, s, cook)[0]
	body := strings.Repeat("x", 1<<20)
	for range 20 {
		send(t, s, message(cook.Topic, "", body))
	}
	c := claimAny(t, s, q.ID, 1000)
	if n := len(c.Batch.Deliveries); n != loadMax>>20 || !c.More {
		t.Fatalf("Claim = %d messages of 1 MiB, More %t, want %d, true", n, c.More, loadMax>>20)
	}
	settleAll(t, s, c.Batch, store.Retry)
	total := 0
	for range 3 {
		c = claimAny(t, s, q.ID, 1000)
		if c.Batch == nil {
			break
		}
		total += len(c.Batch.Deliveries)
	}
	if total != 20 || c.More {
		t.Errorf("claims afterwards = %d messages, More %t, want 20, false", total, c.More)
	}
}

// A message that is gone from the journal is shown among the dead, and stops nobody.
func TestLostMessage(t *testing.T) {
	s := beginStore(t)
	q := declare(t, s, cook)[0]
	lost, leased, good := message(cook.Topic, "", "lost"), message(cook.Topic, "", "leased"), message(cook.Topic, "", "good")
	send(t, s, lost)
	settleAll(t, s, claimBatch(t, s, q.ID, 9), store.Retry)
	send(t, s, leased, good)
	ctx := context.Background()
	remove := func(m *store.Message) {
		if err := s.write(ctx, func(c *conn) error { return c.exec(`delete from weir_messages where pos = ?`, int64(m.Pos)) }); err != nil {
			t.Fatal(err)
		}
	}
	remove(lost)
	b := claimBatch(t, s, q.ID, 9)
	if got := strings.Join(keysOf(b), " "); got != ":leased :good" {
		t.Errorf("Claim = %s, want what is there", got)
	}
	remove(leased)
	if err := s.End(ctx); err != nil {
		t.Fatal(err)
	}
	begin(t, s)
	if got := strings.Join(keysOf(claimBatch(t, s, q.ID, 9)), " "); got != ":good" {
		t.Errorf("Claim of what was handed back = %s, want what is there", got)
	}
	if q := declare(t, s, cook)[0]; q.Depth != 1 || q.Dead != 2 {
		t.Errorf("depth %d, dead %d, want 1 and 2", q.Depth, q.Dead)
	}
}

// A queue's new rule for keys holds at once for those who wait by the old one.
func TestOnDeadChanges(t *testing.T) {
	for _, c := range []struct {
		to          store.OnDead
		claim       string
		depth, dead int64
	}{{store.Skip, "k:2 k:3", 2, 1}, {store.Park, "", 0, 3}} {
		t.Run(c.to.String(), func(t *testing.T) {
			s := beginStore(t)
			q := declare(t, s, cook)[0]
			send(t, s, message(cook.Topic, "k", "1"), message(cook.Topic, "k", "2"), message(cook.Topic, "k", "3"))
			b := claimBatch(t, s, q.ID, 9)
			ch := &store.Change{Settle: []store.Settlement{settlement(b, 0, store.Dead), settlement(b, 1, store.Behind), settlement(b, 2, store.Behind)}}
			commit1(t, s, ch)
			if got := claimAny(t, s, q.ID, 9); got.Batch != nil {
				t.Fatalf("Claim behind a dead message = %v", keysOf(got.Batch))
			}
			changed := cook
			changed.OnDead = c.to
			if got := declare(t, s, changed)[0]; got.Depth != c.depth || got.Dead != c.dead {
				t.Errorf("Declare = depth %d, dead %d, want %d and %d", got.Depth, got.Dead, c.depth, c.dead)
			}
			got := ""
			if claimed := claimAny(t, s, q.ID, 9); claimed.Batch != nil {
				got = strings.Join(keysOf(claimed.Batch), " ")
			}
			if got != c.claim {
				t.Errorf("Claim = %q, want %q", got, c.claim)
			}
		})
	}
}

// More keys are blocked than are read up front: each is looked up, and the order holds.
func TestManyBlockedKeys(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := beginStore(t, Clock(func() time.Time { return now }))
	q := declare(t, s, cook)[0]
	const keys = 2 * keysMax
	round := func(n int) {
		var messages []*store.Message
		for i := range keys {
			messages = append(messages, message(cook.Topic, fmt.Sprint("k", i), fmt.Sprint(n)))
		}
		send(t, s, messages...)
	}
	round(1)
	b := claimBatch(t, s, q.ID, 1000)
	ch := &store.Change{}
	for i := range b.Deliveries {
		st := settlement(b, i, store.Retry)
		st.Due = now.Add(time.Minute)
		ch.Settle = append(ch.Settle, st)
	}
	commit1(t, s, ch)
	round(2)
	send(t, s, message(cook.Topic, "free", "1"))
	if got := keysOf(claimBatch(t, s, q.ID, 1000)); len(got) != 1 || got[0] != "free:1" {
		t.Errorf("Claim while %d keys wait = %v, want free:1", keys, got)
	}
	now = now.Add(time.Minute)
	first := claimBatch(t, s, q.ID, 1000)
	if len(first.Deliveries) != keys || claimAny(t, s, q.ID, 1000).Batch != nil {
		t.Errorf("Claim = %d, want the %d retries and nothing else", len(first.Deliveries), keys)
	}
	settleAll(t, s, first, store.Done)
	if got := claimBatch(t, s, q.ID, 1000); len(got.Deliveries) != keys || string(got.Deliveries[0].Message.Body) != "2" {
		t.Errorf("Claim = %d, want the %d followers", len(got.Deliveries), keys)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{{"abc", 5, "abc"}, {"abc", 2, "ab"}, {"aé", 2, "a"}, {"é", 1, ""}, {"a\xffb", 9, "a\uFFFDb"}} {
		if got := cut(c.in, c.most); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
}
