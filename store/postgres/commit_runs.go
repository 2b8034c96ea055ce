package postgres

import (
	"maps"
	"slices"

	"github.com/weir-go/weir/store"
)

// runCommit is the part of a commit that is about runs; nil when there is none.
type runCommit struct {
	*runDesk
	leave   func() // the gates of the runs updated
	updates []*store.Change
	held    map[int64]bool   // runs of changes that are left for later
	names   map[int64]string // of workflows
	tallied int
	// repeated are the sends that repeat earlier messages.
	repeated map[*store.Message]bool
}

// groupRuns is what the changes of a group ask for.
type groupRuns struct {
	updated, ending, waiting, acting []int64
	locks                            []string
	acts                             int
	starts, outside                  []*store.RunStart
	told                             []*store.Message // that waits may be for
	flows                            map[string]bool
	topics                           map[string]store.Kind // of waits
	keys                             map[int64]bool        // locks of the keys of waits
	repeats                          bool                  // a request may repeat an earlier one
}

func groupOf(s *Store, changes []*store.Change) groupRuns {
	g := groupRuns{flows: map[string]bool{}, topics: map[string]store.Kind{}, keys: map[int64]bool{}}
	for _, ch := range changes {
		for _, m := range ch.Sends {
			if m.Kind != store.KindCommand {
				g.told = append(g.told, m)
			}
		}
		if len(ch.Runs) <= store.MaxSends {
			for _, st := range ch.Runs {
				g.starts, g.flows[st.Workflow] = append(g.starts, st), true
			}
			if ch.Outside {
				g.outside = append(g.outside, ch.Runs...)
			}
		}
		if ch.Run != nil && checkUpdate(ch.Run) == nil {
			g.add(s, ch)
		} else if ch.Run != nil {
			g.updated = append(g.updated, int64(ch.Run.No))
		}
	}
	return g
}

func (g *groupRuns) add(s *Store, ch *store.Change) {
	u, no := ch.Run, int64(ch.Run.No)
	g.updated = append(g.updated, no)
	if u.Verdict == store.Ended {
		g.ending = append(g.ending, no)
	}
	if len(u.Waits)+len(u.Unwait) > 0 {
		g.waiting = append(g.waiting, no)
	}
	for i := range u.Waits {
		w := &u.Waits[i]
		g.topics[w.Topic.Name] = w.Topic.Kind
		if w.Reply == 0 {
			g.keys[s.keyLock(w.Topic.Name, w.Key)] = true
		} else if w.Reply > 0 && w.Reply <= len(ch.Sends) && ch.Sends[w.Reply-1].Dedup != "" {
			g.repeats = true
		}
	}
	if len(u.Locks) > 0 {
		g.acting = append(g.acting, no)
		for i := range u.Locks {
			g.locks, g.acts = append(g.locks, u.Locks[i].Name), g.acts+1
		}
	}
}

// askRuns queues what has to be read, and locked, before the group's runs are decided
// about: with the commit's first round trip.
func (t *commit) askRuns() error {
	g := groupOf(t.s, t.changes)
	if len(g.updated)+len(g.starts)+len(g.told) == 0 {
		return nil
	}
	r := &runCommit{runDesk: newDesk(t.tx), leave: func() {}, held: map[int64]bool{}}
	r.doubtful = t.doubtful
	t.book = r
	if err := t.s.knowWorkflows(t.ctx, g.flows); err != nil {
		return err
	}
	if err := t.s.knowTopics(t.ctx, g.topics); err != nil {
		return err
	}
	if len(g.updated) > 0 && t.process != 0 {
		r.leave = t.s.enterRuns(slices.Clone(g.updated))
	}
	if t.process != 0 && len(g.updated)+len(g.starts) > 0 {
		t.standFast()
	}
	t.lockKeys(&g)
	if len(g.starts) > 0 {
		r.askStarts(g.starts)
		r.askRooms(g.outside)
	}
	if len(g.updated) > 0 {
		r.askRows(g.updated)
	}
	if len(g.waiting) > 0 {
		r.askWaiting(g.waiting)
	}
	if len(g.locks)+len(g.ending) > 0 {
		r.askLocks(g.locks, g.ending, g.acting, g.acts+len(g.ending))
	}
	r.askWaiters(g.told)
	return nil
}

// lockKeys queues the locks of the keys that are waited for, and the look whether callers'
// transactions start the same runs. As with those of sends, what others hold is noted.
func (t *commit) lockKeys(g *groupRuns) {
	if g.repeats {
		t.do(sqlReplies, t.s.lockNumber("replies"))
	}
	if keys := slices.Sorted(maps.Keys(g.keys)); len(keys) > 0 && t.patient {
		t.do(sqlKeys, keys)
	} else if len(keys) > 0 {
		t.ask(sqlTryKeys, t.readBusy, keys)
	}
	if len(g.starts) == 0 || t.patient {
		return
	}
	locks := map[int64]bool{}
	for _, st := range g.starts {
		locks[t.s.startLock(st)] = true
	}
	t.ask(sqlTestStarts, t.readBusy, slices.Sorted(maps.Keys(locks)), t.s.startsLock())
}

// blockedRuns reports whether others hold what a change's runs need, or an earlier update of
// its run is left for later.
func (t *commit) blockedRuns(ch *store.Change) bool {
	if t.book == nil {
		return false
	}
	blocked := ch.Run != nil && t.book.held[int64(ch.Run.No)]
	if len(t.busy) > 0 {
		for _, st := range ch.Runs {
			blocked = blocked || t.busy[t.s.startLock(st)]
		}
		if ch.Run != nil {
			for i := range ch.Run.Waits {
				w := &ch.Run.Waits[i]
				blocked = blocked || w.Reply == 0 && t.busy[t.s.keyLock(w.Topic.Name, w.Key)]
			}
		}
	}
	return blocked
}

// holdRun has the later updates of a change's run, and arrivals on its lane, wait for it.
func (t *commit) holdRun(ch *store.Change) {
	t.holdLane(ch)
	if t.book != nil && ch.Run != nil {
		t.book.held[int64(ch.Run.No)] = true
	}
}

// applyRuns decides about a change's run and starts, after its settlements and sends
// have been let pass; refused says why not, and then nothing of them is written.
func (t *commit) applyRuns(ch *store.Change) (refused, err error) {
	if ch.Run == nil && len(ch.Runs) == 0 {
		return nil, nil
	}
	r := t.book
	if r == nil {
		r = &runCommit{runDesk: newDesk(t.tx)} // all its starts are too many
	}
	if ch.Run != nil {
		if refused := r.refuseUpdate(ch); refused != nil {
			return refused, nil
		}
	}
	refused = r.refuseStarts(ch.Runs)
	if refused == nil && ch.Outside {
		refused = r.refuseFull(ch.Runs)
	}
	if refused != nil {
		return refused, nil
	}
	if ch.Run != nil {
		r.wantFor(ch.Run)
		r.updates = append(r.updates, ch)
	}
	r.start(ch.Runs, t.process != 0)
	return nil, nil
}

// writeRuns queues what becomes of runs, and the mail that the group's messages are to
// runs that wait for them. The messages have their positions; closures have run.
func (t *commit) writeRuns() error {
	r := t.book
	if r == nil {
		return nil
	}
	r.wantMet(t.appended)
	r.wantLocked()
	t.beginWaits()
	if len(r.wanted) > 0 && !r.look && r.need == 0 {
		r.lockWanted()
	} else if len(r.wanted) > 0 {
		r.names = map[int64]string{}
		r.lockWanted()
		r.takeMet()
		r.takeBegun()
		r.draw()
		r.askNames(r.names)
		if err := r.flush(); err != nil {
			return err
		}
	}
	if r.names == nil && len(r.woken) > 0 {
		r.names = map[int64]string{}
		r.askNames(r.names)
	}
	r.tellParents()
	r.meet()
	if err := r.writeSteps(r.updates); err != nil {
		return err
	}
	var ended []int64
	for _, ch := range r.updates {
		r.update(ch)
		if ch.Run.Verdict == store.Ended {
			ended = append(ended, int64(ch.Run.No))
		}
	}
	r.writeRows()
	r.writeWaits(ended)
	r.writeLocks()
	r.writeMail()
	r.writeStarts()
	r.tallied = r.writeTally()
	for _, ch := range r.updates {
		ch.Run.Unread = len(r.rows[int64(ch.Run.No)].mail) > 0
	}
	return nil
}

// beginWaits makes the waits of the updates. Of a request that repeats an earlier one the
// reply may be there.
func (t *commit) beginWaits() {
	r := t.book
	r.waits.begun = map[*store.Wait]*begun{}
	for _, ch := range r.updates {
		for i := range ch.Run.Waits {
			w := &ch.Run.Waits[i]
			b := &begun{waitID: waitID{int64(ch.Run.No), w.N},
				waitRow: waitRow{topic: t.s.topicOf(w.Topic.Name).id, key: w.Key, since: us(w.Since), after: int64(w.After)}}
			r.waits.begun[w] = b
			if w.Reply == 0 {
				continue
			}
			request := ch.Sends[w.Reply-1]
			b.key, b.since, b.reply = "", 0, int64(request.Pos)
			if t.repeats(request) {
				t.ask(sqlReplyTo, func(read scan) error { return read(&b.pos) }, b.topic, seqOf(b.reply), request.ID)
			}
		}
	}
}

// repeats reports whether a message repeats one sent before.
func (t *commit) repeats(m *store.Message) bool {
	if m.Dedup == "" {
		return false
	}
	if t.book.repeated == nil {
		t.book.repeated = map[*store.Message]bool{}
		for _, m := range t.repeated {
			t.book.repeated[m] = true
		}
	}
	return t.book.repeated[m]
}

// update carries out all of an update but its records.
func (r *runCommit) update(ch *store.Change) {
	u := ch.Run
	row := r.rows[int64(u.No)]
	for _, n := range u.Unwait {
		r.unwait(waitID{row.no, n})
	}
	for i := range u.Waits {
		r.wait(r.waits.begun[&u.Waits[i]])
	}
	for i := range u.Locks {
		r.act(row, &u.Locks[i])
	}
	r.read(row, u.Read)
	r.release(u, row)
}

// keepRuns tells the caller what the commit made true.
func (t *commit) keepRuns() {
	if t.book == nil {
		return
	}
	t.s.runs.mu.Lock()
	for i := range t.book.starts.fresh {
		if r := &t.book.starts.fresh[i]; r.epoch > 0 {
			t.s.runs.written.know(r.no, nil)
		}
	}
	for _, ch := range t.book.updates {
		t.s.runs.written.note(ch.Run)
	}
	t.s.runs.mu.Unlock()
	t.book.leave()
	t.s.tallied.Add(int64(t.book.tallied))
	for workflow := range t.book.woken {
		if name := t.book.names[workflow]; name != "" && !slices.Contains(t.g.Woken, name) {
			t.g.Woken = append(t.g.Woken, name)
		}
	}
}

// forgetRuns takes back what callers see of runs, and states, that did not come about.
func (t *commit) forgetRuns() {
	if t.book != nil {
		t.book.leave()
	}
	for _, ch := range t.changes {
		forgetStarts(ch.Runs)
		undate(ch.States)
		if ch.Run == nil {
			continue
		}
		ch.Run.Unread = false
		for i := range ch.Run.Locks {
			ch.Run.Locks[i].Fence = 0
		}
	}
}
