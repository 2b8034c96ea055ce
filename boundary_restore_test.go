package weir_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/local"
)

// paper is a log that a test reads.
type paper struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// couple is a floor and a kitchen that are started, stopped and restored.
type couple struct {
	t                *testing.T
	wire             *local.Wire
	floorF, kitchenF string
	log              *paper
	floor, kitchen   *weir.Engine
	stopF, stopK     func()
	keep             time.Duration // the floor's
}

func newCouple(t *testing.T) *couple {
	p := &couple{t: t, wire: newWire(t, local.Config{}), floorF: newFile(t), kitchenF: newFile(t), log: &paper{}}
	openTable(t, p.kitchenF, effects)
	return p
}

func (p *couple) open(file string, c weir.Config) (*weir.Engine, func()) {
	p.t.Helper()
	c.Transport, c.Log = p.wire.Open(), slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := engine.WithIntervals(context.Background(), engine.Intervals{Heartbeat: time.Minute, Reap: time.Minute, Watch: time.Second, Figures: time.Minute})
	e, err := weir.Open(ctx, sqlite.File(file), c)
	if err != nil {
		p.t.Fatal(err)
	}
	return e, func() {
		if err := e.Close(); err != nil {
			p.t.Errorf("Close = %v", err)
		}
		_ = c.Transport.Close() // never fails
	}
}

func (p *couple) startFloor() {
	p.t.Helper()
	p.floor, p.stopF = p.open(p.floorF, weir.Config{Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {}}, Keep: p.keep})
	runs(context.Background(), p.floor)
}

func (p *couple) startKitchen() {
	p.t.Helper()
	p.kitchen, p.stopK = p.open(p.kitchenF, weir.Config{Owns: []string{"kitchen"}})
	weir.Handle(p.kitchen, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
		effect(m)
		return nil
	})
	runs(context.Background(), p.kitchen)
}

// order sends tickets of table 7, from one number to another.
func (p *couple) order(from, to int) {
	p.t.Helper()
	for n := from; n <= to; n++ {
		send(p.t, p.floor, prepare, ticket{"7", n})
	}
}

// settled waits long enough for all that can be sent to have arrived.
func (p *couple) settled() { pass(2 * time.Minute) }

// wants checks what took effect in the kitchen.
func (p *couple) wants(when string, want []int) {
	p.t.Helper()
	db, err := sql.Open("sqlite", p.kitchenF)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if got := took(p.t, db)["7"]; !slices.Equal(got, want) {
		p.t.Errorf("%s the kitchen has done %v, want %v; the log says:\n%s", when, got, want, p.log)
	}
}

func (p *couple) said(what string) {
	p.t.Helper()
	if !strings.Contains(p.log.String(), what) {
		p.t.Errorf("the log says %q, want in it %q", p.log, what)
	}
}

// copyFile copies a database that nobody has open.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	for _, end := range []string{"", "-wal", "-shm"} {
		data, err := os.ReadFile(from + end)
		switch {
		case os.IsNotExist(err):
			_ = os.Remove(to + end) // of the other copy
		case err != nil:
			t.Fatal(err)
		default:
			if err := os.WriteFile(to+end, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A receiver that was away finds all that was sent meanwhile, in order.
func TestBoundaryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCouple(t)
		p.startFloor()
		p.startKitchen()
		p.order(1, 10)
		p.settled()
		p.stopK()
		p.order(11, 50)
		pass(time.Hour)
		p.startKitchen()
		p.settled()
		p.wants("after it was away", upTo(50))
		p.stopK()
		p.stopF()
	})
}

// A receiver restored from an older copy says how far it is, though nothing is sent, and gets again what it lacks.
func TestBoundaryReceiverRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCouple(t)
		p.startFloor()
		p.startKitchen()
		p.order(1, 10)
		p.settled()
		p.stopK()
		backup := newFile(t)
		copyFile(t, p.kitchenF, backup)
		p.startKitchen()
		p.order(11, 30)
		p.settled()
		p.wants("before the restore", upTo(30))
		p.stopK()
		copyFile(t, backup, p.kitchenF)
		p.wants("restored", upTo(10))
		p.startKitchen()
		p.settled()
		p.wants("after the restore", upTo(30))
		p.said("a receiver has less than it had")
		p.order(31, 40)
		p.settled()
		p.wants("later", upTo(40))
		p.stopK()
		p.stopF()
	})
}

// What a restored receiver lacks, and retention has taken at the sender, is jumped over, with an error that says so.
func TestBoundaryRestoredTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCouple(t)
		p.keep = time.Minute
		p.startFloor()
		p.startKitchen()
		p.order(1, 5)
		p.settled()
		p.stopK()
		backup := newFile(t)
		copyFile(t, p.kitchenF, backup)
		p.startKitchen()
		p.order(6, 10)
		p.settled()
		p.stopK()
		copyFile(t, backup, p.kitchenF)
		pass(5 * time.Minute)
		p.order(11, 15)
		p.startKitchen()
		p.settled()
		p.wants("restored too late", append(upTo(5), 11, 12, 13, 14, 15))
		p.said("messages are missing that their sender does not have any more")
		_, in, err := p.kitchen.Lanes(context.Background())
		if err != nil || len(in) != 1 || in[0].Jumps != 1 {
			t.Errorf("Lanes in = %+v, %v, want one with a jump", in, err)
		}
		p.stopK()
		p.stopF()
	})
}

// A sender restored from an older copy is found out before it gives numbers to other messages. Renewed, it goes on in
// a new lane.
func TestBoundarySenderRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCouple(t)
		p.startFloor()
		p.startKitchen()
		p.order(1, 10)
		p.settled()
		p.stopF()
		backup := newFile(t)
		copyFile(t, p.floorF, backup)
		p.startFloor()
		p.order(11, 15) // which the floor will forget
		p.settled()
		p.stopF()
		copyFile(t, backup, p.floorF)
		p.startFloor()
		p.order(16, 20)
		p.settled()
		p.wants("before the floor is renewed", upTo(15))
		p.said("run weir store renew")
		p.stopF()
		p.startFloor() // a supervisor does: nothing changes by that
		p.order(21, 22)
		p.settled()
		p.wants("still not renewed", upTo(15))
		p.stopF()

		p.startRenewed()
		p.order(23, 30)
		p.settled()
		p.wants("renewed", upTo(30))
		p.stopK()
		p.stopF()
	})
}

// startRenewed begins a new life of the floor's store and starts it.
func (p *couple) startRenewed() {
	p.t.Helper()
	st, err := sqlite.File(p.floorF)(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := st.Operate(context.Background(), store.Act{Verb: store.RenewStore, By: "test", Why: "restored"}); err != nil {
		p.t.Fatalf("RenewStore = %v", err)
	}
	if err := st.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.startFloor()
}

// A renewal that comes while much is on its way loses and doubles nothing: it is sent again in the new lane, with the
// IDs that it had.
func TestBoundaryRenewedUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCouple(t)
		p.startFloor()
		p.startKitchen()
		p.order(1, 10)
		p.settled()
		p.stopK()
		p.order(11, 40) // on the wire
		p.settled()
		p.stopF()
		p.startRenewed()
		p.order(41, 50)
		p.startKitchen()
		p.settled()
		p.wants("after a renewal", upTo(50))
		p.stopK()
		p.stopF()
	})
}
