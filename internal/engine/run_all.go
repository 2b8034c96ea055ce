package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// Branch is one of All's.
type Branch struct {
	Name string
	Was  []string // earlier names, or ways from the run's root
	Do   func(*Strand) error
}

// branch is a branch as All sees it. One that has to wait unwinds, and begins again
// when what it waits for has come; what it did before is recorded.
type branch struct {
	Branch
	st       *Strand
	running  bool
	returned bool
	err      error
	panicked string
}

// All runs branches in parallel and returns when all have: their errors, joined.
func (st *Strand) All(name string, list []Branch) error {
	st.enter()
	defer st.exit()
	prefix := st.prefixOf(name, list)
	p := &parallel{st: st, ended: make(chan *branch, len(list)), news: make(chan struct{}, 1)}
	for i := range list {
		p.all = append(p.all, &branch{Branch: list[i]})
	}
	st.s.listen(p.news, true)
	defer st.s.listen(p.news, false)
	for _, b := range p.all {
		p.start(b, prefix)
	}
	p.run(prefix)
	var errs []error
	for _, b := range p.all {
		errs = append(errs, b.err)
		if b.st.now.After(st.now) {
			st.now = b.st.now
		}
	}
	return errors.Join(errs...)
}

// prefixOf checks names and gives what those of the branches' records begin with.
func (st *Strand) prefixOf(name string, list []Branch) string {
	if fault := faultyName(name); fault != "" {
		st.Park(fault)
	}
	if len(list) > branchesMax {
		st.Park(fmt.Sprintf("All %s has %d branches, want at most %d", name, len(list), branchesMax))
	}
	if st.depth >= depthMax {
		st.Park(fmt.Sprintf("All %s is nested %d deep, want at most %d: give parts of the work to child runs", name, st.depth+1, depthMax))
	}
	seen := map[string]bool{}
	for _, b := range list {
		if fault := faultyName(b.Name); fault != "" || seen[b.Name] {
			st.Park(fmt.Sprintf("All %s: branch %q: want a name of its own; %s", name, b.Name, fault))
		}
		seen[b.Name] = true
	}
	return st.counts.name(st.prefix+name) + "/"
}

func (s *slice) listen(ch chan struct{}, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if yes {
		s.listener = append(s.listener, ch)
		return
	}
	for i, other := range s.listener {
		if other == ch {
			s.listener = append(s.listener[:i], s.listener[i+1:]...)
			return
		}
	}
}

// parallel is one All under way.
type parallel struct {
	st      *Strand
	all     []*branch
	ended   chan *branch
	news    chan struct{} // mail has come
	running int
}

func (p *parallel) start(b *branch, prefix string) {
	s := p.st.s
	b.st = s.strand(prefix+b.Name+"/", p.st.now)
	b.st.compensating, b.st.depth = p.st.compensating, p.st.depth+1
	b.st.was = p.st.earlier(b, strings.TrimPrefix(prefix, p.st.prefix))
	b.running = true
	p.running++
	s.w.e.workers.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				b.panicked = fmt.Sprintf("branch %s panicked: %v\n%s", b.Name, v, debug.Stack())
			}
			s.drop(b.st)
			p.ended <- b
		}()
		b.err = b.Do(b.st)
		if b.st.unwoundElsewhere() {
			s.misused(b.st)
			return
		}
		b.returned = b.st.end == endNone
	})
}

// earlier is what the names of a branch's records may begin with that an earlier program wrote; all is the All's name, and a slash.
func (st *Strand) earlier(b *branch, all string) []string {
	var prefixes []string
	for _, was := range st.was {
		prefixes = append(prefixes, was+all+b.Name+"/")
	}
	for _, was := range b.Was {
		if strings.Contains(was, "/") {
			prefixes = append(prefixes, strings.TrimPrefix(was, "/")+"/")
			continue
		}
		for _, outer := range append([]string{st.prefix}, st.was...) {
			prefixes = append(prefixes, outer+all+was+"/")
		}
	}
	return prefixes
}

// run lets branches run, and begin again, until all have returned or none can go on.
func (p *parallel) run(prefix string) {
	for {
		for _, b := range p.all {
			if !b.running && !b.returned && b.st.end == endBlocked && p.mayGoOn(b) {
				p.start(b, prefix)
			}
		}
		if p.running == 0 {
			break
		}
		p.next()
	}
	p.conclude()
}

// conclude unwinds the strand as its branches did, unless all have returned. What a
// person or the process must know comes first; a branch that is told that the run ends
// is last, since another may have to wait for an outcome first.
func (p *parallel) conclude() {
	var blocks []block
	var parked string
	end := endNone
	for _, b := range p.all {
		switch {
		case b.returned:
		case b.panicked != "":
			parked = b.panicked
		case b.st.end == endBlocked:
			blocks = append(blocks, b.st.blocks...)
		case b.st.end == endParked:
			parked = b.st.reason
		case b.st.end == endNone:
			parked = "branch " + b.Name + " called runtime.Goexit"
		case end != endStopped:
			end = b.st.end
		}
	}
	switch {
	case end == endStopped:
		p.st.unwind(end)
	case parked != "":
		p.st.Park(parked)
	case len(blocks) > 0:
		p.st.block(blocks...)
	case end != endNone:
		p.st.unwind(end)
	}
}

// next waits until a branch has ended, mail has come, or a waiting branch is due.
func (p *parallel) next() {
	var due <-chan time.Time
	if at := p.nextDue(); !at.IsZero() {
		timer := time.NewTimer(max(p.st.s.w.e.until(at), 0))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case b := <-p.ended:
		b.running = false
		p.running--
	case <-p.news:
	case <-due:
	}
}

func (p *parallel) nextDue() time.Time {
	var first time.Time
	if p.st.s.isRetired() {
		return first // none begins again
	}
	for _, b := range p.all {
		if b.running || b.returned || b.st.end != endBlocked {
			continue
		}
		for _, w := range b.st.blocks {
			if !w.due.IsZero() && w.parked == "" && (first.IsZero() || w.due.Before(first)) {
				first = w.due
			}
		}
	}
	return first
}

// mayGoOn reports whether something that a waiting branch waits for has come.
func (p *parallel) mayGoOn(b *branch) bool {
	s := p.st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed {
		return false
	}
	if s.ending != nil && !p.st.compensating && (s.ending.Force || !b.cancelled()) {
		return true // to be told
	}
	now := s.w.e.Now()
	for _, w := range b.st.blocks {
		if w.rec.settled() || w.rec.met || w.parked != "" && w.rec.get().State != store.StepParked ||
			w.parked == "" && !w.due.IsZero() && !now.Before(w.due) {
			return true
		}
	}
	return false
}

// cancelled reports whether a branch was told already that its run is to end, and
// waits on because the outcome of something must be known first.
func (b *branch) cancelled() bool {
	for _, w := range b.st.blocks {
		if w.rec.get().Kind == store.KindOnce && w.rec.get().State != store.StepPending {
			return true
		}
	}
	return false
}
