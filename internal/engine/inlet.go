package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// inlet takes in what others send to a boundary: it reads ahead while what it has read is committed, many lanes in
// one commit, acknowledges what the store has, and tells the senders so.
//
//	transport ─▶ reads ─▶ keeps ─▶ committer ─▶ acknowledgement, receipt
type inlet struct {
	x        *exchange
	boundary string
	ready    bool     // it is known how far lanes are here; under the exchange's lock
	earlier  []string // of this store

	mu    sync.Mutex
	lines map[transport.Lane]*line
	state string // why nothing comes; empty: nothing is wrong
	shut  bool   // there was a state once, by this process or one before it: whoever asks is told that there is none now

	told   string    // the last reason that a person was told of; of run alone
	toldAt time.Time // when

	begins    map[transport.Lane]int64 // where unknown lanes would begin, by what their senders have said
	earlierOf map[string]string        // by sender: which lives of its store are over, as it last said
	drained   []store.Drained          // to be written
	crowdedAt time.Time                // when it was last said that there is no room for a lane
}

func inletDuty(boundary string) string { return "inlet " + boundary }

func newInlet(x *exchange, boundary string) *inlet {
	return &inlet{x: x, boundary: boundary, earlier: strings.Fields(x.l.st.Info().Earlier), lines: map[transport.Lane]*line{},
		begins: map[transport.Lane]int64{}, earlierOf: map[string]string{}}
}

// run works the inlet until ctx is done.
func (in *inlet) run(ctx context.Context) error {
	if err := in.load(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	in.announce(ctx)
	for pause := shipPauseMin; ctx.Err() == nil; pause = min(2*pause, shipPauseMax) {
		from, err := in.x.transport().Receive(ctx, in.boundary)
		if err == nil {
			pause = shipPauseMin
			in.open()
			err = in.receive(ctx, from)
			_ = from.Close() // what it has in hand comes again
			if ctx.Err() != nil {
				return nil
			}
			if !fromTransport(err) {
				return err
			}
		}
		in.wait(ctx, pause, err)
	}
	return nil
}

// fromTransport tells an error of the transport from the store's.
func fromTransport(err error) bool {
	return errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrClosed) || errors.Is(err, errInlet)
}

// errInlet marks an error of the transport for which it has no name.
var errInlet = errors.New("the inlet failed")

// open notes that the inlet can be read.
func (in *inlet) open() {
	in.mu.Lock()
	was := in.state
	in.state = ""
	in.mu.Unlock()
	if was != "" && in.told != "" {
		in.x.l.log.Info("an inlet can be read again", "boundary", in.boundary)
		in.told = ""
	}
}

// inletAgain is how often a person is told again why an inlet cannot be read, beside each time that the reason changes; and
// inletPause how often when it comes and goes.
const (
	inletAgain = 10 * time.Minute
	inletPause = 10 * time.Second
)

func (in *inlet) wait(ctx context.Context, pause time.Duration, err error) {
	why := err.Error()
	in.mu.Lock()
	in.state, in.shut = "waiting: "+clip(why, store.MaxReason), true
	in.mu.Unlock()
	if since := time.Since(in.toldAt); since >= inletAgain || why != in.told && since >= inletPause {
		in.told, in.toldAt = why, time.Now()
		if errors.Is(err, transport.ErrNeedsPerson) {
			in.x.l.log.Error("an inlet cannot be read until a person mends what the error says: nothing comes in for the boundary", "boundary", in.boundary, keyError, err)
		} else {
			in.x.l.log.Warn("an inlet cannot be read: it is tried again", "boundary", in.boundary, keyError, err)
		}
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// load reads how far lanes are here, and whether a process before this one has said that nothing comes.
func (in *inlet) load(ctx context.Context) error {
	err := in.x.l.patiently(ctx, func(ctx context.Context) error {
		_, err := in.x.l.st.Reader().Exchange().State(ctx, lanesEntity, inletKey+in.boundary)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.shut = err == nil
		return err
	})
	if err != nil {
		return err
	}
	after := ""
	for n := 0; n < arrivalsMost; {
		var rows []store.ArrivalRow
		err := in.x.l.patiently(ctx, func(ctx context.Context) (err error) {
			rows, err = in.x.l.st.Reader().Exchange().Arrivals(ctx, after)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		in.mu.Lock()
		for i := range rows {
			if lane, err := transport.ParseLane(rows[i].Lane); err == nil {
				in.line(lane).have = rows[i].Have
			}
		}
		in.mu.Unlock()
		n += len(rows)
		after = rows[len(rows)-1].Lane
	}
	return nil
}

// line is what is known of a lane. The caller holds mu.
func (in *inlet) line(lane transport.Lane) *line {
	l := in.lines[lane]
	if l == nil {
		l = &line{lane: lane, begins: in.begins[lane]}
		in.lines[lane] = l
	}
	return l
}

// announce tells senders how far their lanes are here: this store may be an older copy, and nobody would know while
// nothing is sent. And it answers who has asked meanwhile.
func (in *inlet) announce(ctx context.Context) {
	in.mu.Lock()
	bySender := map[string][]laneNote{}
	for lane, l := range in.lines {
		if l.have != (store.Place{}) {
			bySender[lane.From] = append(bySender[lane.From], noteOf(l))
		}
	}
	in.mu.Unlock()
	for from, lanes := range bySender {
		in.x.notifyLanes(ctx, in.boundary, from, noteAnswer, lanes)
	}
	in.x.mu.Lock()
	in.ready = true
	asks := in.x.asks[in.boundary]
	delete(in.x.asks, in.boundary)
	in.x.mu.Unlock()
	for _, n := range asks {
		in.answer(ctx, n)
	}
}

func noteOf(l *line) laneNote {
	n := laneNote{Lane: l.lane.String()}
	if l.have != (store.Place{}) {
		n.Have = transport.Position(l.have).String()
	}
	return n
}

// receive reads and keeps until the transport fails, or the store. What was read before the transport failed is kept
// to its end: a commit under way is not to be interrupted by that.
func (in *inlet) receive(ctx context.Context, from transport.Inlet) error {
	reading, stop := context.WithCancel(ctx)
	read := make(chan []transport.Delivery, 1)
	var failed error // why reading ended, once read is closed
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(read)
		for {
			ds, err := from.Next(reading, transport.MaxNext)
			if err != nil {
				failed = fmt.Errorf("%w: %w", errInlet, err)
				return
			}
			select {
			case read <- ds:
			case <-reading.Done():
				failed = reading.Err()
				return
			}
		}
	})
	defer reader.Wait()
	defer stop()
	if err := in.keepAll(ctx, from, read); err != nil {
		return err
	}
	return failed
}

// keepAll takes in what is read, and what is in hand when its time has come, until there is no more to read.
func (in *inlet) keepAll(ctx context.Context, from transport.Inlet, read <-chan []transport.Delivery) error {
	k := keeping{in: in, from: from, busy: map[*line]bool{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ds []transport.Delivery
		select {
		case next, ok := <-read:
			if !ok {
				k.letGo()
				return nil
			}
			ds = next
		case <-timer.C:
		}
		if err := k.keep(ctx, ds); err != nil {
			k.letGo()
			return err
		}
		timer.Reset(k.wakes(time.Now()))
	}
}
