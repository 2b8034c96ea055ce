package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
)

// allowed are the permissions of a boundary that sends to another, as docs/boundaries.md says.
func allowed(boundary, other string) *server.Permissions {
	page, err := os.ReadFile("../../../docs/boundaries.md")
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(page), "<!-- permissions -->\n```\n")
	text, _, _ := strings.Cut(rest, "\n```")
	p := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	into := &p.Publish.Allow
	for _, subject := range strings.Fields(strings.NewReplacer("kitchen", boundary, "floor", other).Replace(text)) {
		switch subject {
		case "publish:":
			into = &p.Publish.Allow
		case "subscribe:":
			into = &p.Subscribe.Allow
		default:
			*into = append(*into, subject)
		}
	}
	return p
}

// The permissions that the documents name are enough for a boundary, and no more than its own.
func TestPermissions(t *testing.T) {
	t.Parallel()
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 2 << 20,
		Users: []*server.User{
			{Username: "kitchen", Password: "k", Permissions: allowed("kitchen", "floor")},
			{Username: "floor", Password: "f", Permissions: allowed("floor", "kitchen")},
		},
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	open := func(user, password string) *jetstream.Transport {
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		w, err := jetstream.Open(jetstream.Config{Servers: []string{s.ClientURL()}, User: user, Password: password, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		return w
	}
	kitchen, floor := open("kitchen", "k"), open("floor", "f")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	heard := make(chan transport.Note, 1)
	if _, err := kitchen.Listen(ctx, "kitchen", func(n transport.Note) { heard <- n }); err != nil {
		t.Fatal(err)
	}
	var in transport.Inlet
	for in == nil {
		if in, err = kitchen.Receive(ctx, "kitchen"); err != nil {
			in = nil
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	packet := func(n int) transport.Packet {
		return transport.Packet{
			Lane:     transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen.clean"},
			Position: transport.Position{Batch: int64(n)}, ID: fmt.Sprint(n), Topic: "kitchen.clean", Kind: transport.KindCommand, Version: 1, SentAt: time.Now(),
		}
	}
	if _, err := floor.Send(ctx, "kitchen", []transport.Packet{packet(1), packet(2)}); err != nil {
		t.Fatalf("Send = %v, want nil", err)
	}
	ds, err := in.Next(ctx, 10)
	if err != nil || len(ds) == 0 {
		t.Fatalf("Next = %d, %v, want packets", len(ds), err)
	}
	if err := in.Ack(ctx, ds); err != nil {
		t.Error(err)
	}
	if err := floor.Notify(ctx, "kitchen", transport.Note{From: "floor", Kind: "ask"}); err != nil {
		t.Error(err)
	}
	select {
	case <-heard:
	case <-ctx.Done():
		t.Error("the kitchen hears no note")
	}
	event := packet(1)
	event.Topic, event.Kind, event.Lane.Queue = "floor.opened", transport.KindEvent, "floor.opened"
	if _, err := floor.Send(ctx, transport.Everybody, []transport.Packet{event}); err != nil {
		t.Errorf("Send(Everybody) = %v, want nil", err)
	}
	if _, err := kitchen.Doubts(ctx); err != nil {
		t.Errorf("Doubts = %v, want nil", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	short, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	if _, err := floor.Receive(short, "kitchen"); err == nil {
		t.Error("the floor may read the kitchen's inlet")
	}
}
