package engine

import "sync/atomic"

// spawner keeps goroutines of runs that have ended for the next ones: their stacks have
// grown already, which costs more than the rest of a short run's start.
type spawner struct {
	idle  atomic.Int64
	tasks chan func() // unbuffered: taken by an idle goroutine, or by none
}

// idleMax bounds the goroutines that are kept.
const idleMax = 1_000

// spawn runs f in a goroutine that the drain waits for. f may end it by runtime.Goexit.
func (l *life) spawn(f func()) {
	select {
	case l.spawner.tasks <- f:
	default:
		l.workers.Go(func() { l.spawner.serve(f, l.stopped) })
	}
}

func (p *spawner) serve(f func(), stopped <-chan struct{}) {
	for {
		f()
		if p.idle.Add(1) > idleMax {
			p.idle.Add(-1)
			return
		}
		select {
		case f = <-p.tasks:
			p.idle.Add(-1)
		case <-stopped:
			return
		}
	}
}
