package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// TestRing has a process send: another hears of it, the sender does not hear itself, and one
// that rings often is heard seldom.
func TestRing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	h := openHarness(t, nil).(*harness)
	begun := func() *Store {
		opened, err := h.Open(ctx)
		if err == nil {
			err = opened.Begin(ctx, &store.Process{Host: "here"})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = opened.Close() })
		return opened.(*Store)
	}
	hears, sends := begun(), begun()
	if !hears.direct {
		t.Skip("a pooler is between")
	}
	heard := func() bool {
		select {
		case <-hears.Wakes():
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	}
	for !heard() { // it may not listen yet
		sendNow(t, sends)
		if ctx.Err() != nil {
			t.Fatal("what another process sent was not heard of")
		}
	}
	c, err := h.db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	if _, err := c.Exec(ctx, sqlListen+sends.channel()); err != nil {
		t.Fatal(err)
	}
	began, rings := time.Now(), 0
	for range 5 {
		for range 1_000 {
			sends.ring()
		}
		if _, err := c.Conn().WaitForNotification(ctx); err != nil {
			t.Fatal(err)
		}
		rings++
	}
	if most := 2 + int(time.Since(began)/ringEvery); rings > most {
		t.Errorf("5,000 rings were heard %d times, want at most %d", rings, most)
	}
	if len(sends.Wakes()) > 0 {
		t.Error("a process heard itself")
	}
	if err := hears.End(ctx); err != nil {
		t.Fatal(err)
	}
	for hears.ear.Stat().TotalConns() > 0 {
		if pauseFor(1); ctx.Err() != nil {
			t.Fatal("a connection listens after End")
		}
	}
}
