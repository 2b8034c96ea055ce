package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// The laws' stage for runs: two workflows. Runs are told apart by their IDs, what
// they wait for are the events of scene.go: "k7" is the message with the key "k".
const (
	fulfil = "orders.fulfil"
	refund = "orders.refund"
)

// starting is the start of a run of fulfil.
func starting(id string) *store.RunStart {
	return &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: []byte("in " + id)}
}

// startings are the starts of the runs of a line.
func startings(line string) []*store.RunStart {
	var all []*store.RunStart
	for id := range strings.FieldsSeq(line) {
		all = append(all, starting(id))
	}
	return all
}

func begins(starts ...*store.RunStart) *store.Change { return &store.Change{Runs: starts} }

// startRuns starts the runs of a line in one change.
func (s *scene) startRuns(line string) []*store.RunStart {
	s.Helper()
	starts := startings(line)
	s.commit(begins(starts...))
	for _, r := range starts {
		if r.No == 0 || r.Existed {
			s.Fatalf("Commit(start %s): No = %d, existed %t, want a new run", r.ID, r.No, r.Existed)
		}
	}
	return starts
}

// startEach starts the runs of a line, each a second after the one before.
func (s *scene) startEach(line string) {
	s.Helper()
	for id := range strings.FieldsSeq(line) {
		s.startRuns(id)
		s.clock.move(time.Second)
	}
}

// leased starts a run that is leased to this process at once.
func (s *scene) leased(id string) store.RunRef {
	s.Helper()
	return s.lease(starting(id))
}

func (s *scene) lease(r *store.RunStart) store.RunRef {
	s.Helper()
	r.Lease = true
	s.commit(begins(r))
	if r.No == 0 || r.Epoch < 1 || r.Existed {
		s.Fatalf("Commit(start %s, leased): No = %d, epoch %d, existed %t, want a new run and its epoch", r.ID, r.No, r.Epoch, r.Existed)
	}
	return refOf(r)
}

func refOf(r *store.RunStart) store.RunRef { return store.RunRef{No: r.No, Epoch: r.Epoch} }

// lookRuns claims runs, of fulfil and all that there are unless r says otherwise.
func (s *scene) lookRuns(r store.ClaimRequest) store.Claimed {
	s.Helper()
	if r.Workflow == "" {
		r.Workflow = fulfil
	}
	if r.Max == 0 {
		r.Max = 100
	}
	got, err := s.store.Claim(s.ctx(), r)
	if err != nil {
		s.Fatalf("Claim(%s, max %d, suspects %t) = %v, want nil", r.Workflow, r.Max, r.Suspects, err)
	}
	return got
}

// claimRuns claims runs of fulfil and wants just those of the line: runs that are
// ready since the same moment have no order. It returns them by ID.
func (s *scene) claimRuns(max int, line string) []*store.Run {
	s.Helper()
	return s.wanted(store.ClaimRequest{Max: max}, line)
}

// claimRun claims the one run that is ready.
func (s *scene) claimRun(id string) *store.Run {
	s.Helper()
	return s.claimRuns(100, id)[0]
}

// claimSuspects claims runs of fulfil that have crashes, and wants just those of the line.
func (s *scene) claimSuspects(max int, line string) []*store.Run {
	s.Helper()
	return s.wanted(store.ClaimRequest{Max: max, Suspects: true}, line)
}

func (s *scene) wanted(r store.ClaimRequest, line string) []*store.Run {
	s.Helper()
	want := strings.Fields(line)
	slices.Sort(want)
	runs := s.lookRuns(r).Runs
	slices.SortFunc(runs, func(a, b *store.Run) int { return strings.Compare(a.ID, b.ID) })
	if got := idsOf(runs); got != strings.Join(want, " ") {
		s.Fatalf("Claim(%s, max %d, suspects %t) = %q, want %q", fulfil, r.Max, r.Suspects, got, want)
	}
	return runs
}

// idsOf is the line that runs stand for.
func idsOf(runs []*store.Run) string {
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.ID
	}
	return strings.Join(ids, " ")
}

// find finds a run among those claimed.
func (s *scene) find(runs []*store.Run, id string) *store.Run {
	s.Helper()
	for _, r := range runs {
		if r.ID == id {
			return r
		}
	}
	s.Fatalf("Claim() = %q, want %q among them", idsOf(runs), id)
	return nil
}

// awaits is record n's wait for an event with the key.
func awaits(n int, key string) store.Wait {
	return store.Wait{N: n, Topic: store.Topic{Name: ready, Kind: store.KindEvent}, Key: key}
}

func acquires(n int, name string) store.LockAct { return store.LockAct{N: n, Name: name} }

func releases(n int, name string) store.LockAct {
	return store.LockAct{N: n, Name: name, Release: true}
}

// updates is an update of a run that goes on.
func updates(r store.RunRef) *store.RunUpdate { return &store.RunUpdate{RunRef: r} }

// waiting is the update that releases a run until mail comes.
func waiting(r store.RunRef, waits ...store.Wait) *store.RunUpdate {
	return &store.RunUpdate{RunRef: r, Verdict: store.Waiting, Waits: waits}
}

// sleeping is the update that releases a run until a time.
func sleeping(r store.RunRef, until time.Time) *store.RunUpdate {
	return &store.RunUpdate{RunRef: r, Verdict: store.Waiting, Wake: until}
}

// parking is the update that leaves a run to a person.
func parking(r store.RunRef, records ...*store.Record) *store.RunUpdate {
	return &store.RunUpdate{RunRef: r, Verdict: store.Parked, Reason: "out of retries", Records: records}
}

// ending is the update that ends a run.
func ending(r store.RunRef, o store.Outcome) *store.RunUpdate {
	u := &store.RunUpdate{RunRef: r, Verdict: store.Ended, Outcome: o}
	if o == store.Completed {
		u.Result = []byte("out")
	} else {
		u.Reason = "no money"
	}
	return u
}

func runs(u *store.RunUpdate) *store.Change { return &store.Change{Run: u} }

// update commits an update, which must be written, and returns it.
func (s *scene) update(u *store.RunUpdate) *store.RunUpdate {
	s.Helper()
	s.commit(runs(u))
	return u
}

// unread commits an update and wants it to say whether there is mail beyond Read.
func (s *scene) unread(u *store.RunUpdate, want bool) {
	s.Helper()
	if s.update(u); u.Unread != want {
		s.Errorf("Commit(update of run %d, read %d): Unread = %t, want %t", u.No, u.Read, u.Unread, want)
	}
}

// outcome commits a group of one change, and returns what became of it.
func (s *scene) outcome(c *store.Change) error {
	s.Helper()
	s.group(&store.Group{Changes: []*store.Change{c}})
	return c.Err
}

// step is a record of a step.
func step(n int, name string, state store.StepState) *store.Record {
	return &store.Record{N: n, Kind: store.KindStep, Name: name, State: state, Attempt: 1}
}

// letters is the line that mail stands for: "3 k7" is an event for record 3, "2
// lock" and "4 c1 completed" a lock and a child's end, "retry pay" a person's act.
func letters(mail []store.Mail) string {
	line := make([]string, len(mail))
	for i := range mail {
		line[i] = letter(&mail[i])
	}
	return strings.Join(line, ", ")
}

func letter(m *store.Mail) string {
	word := func(verb string) string { return strings.TrimSpace(verb + " " + m.Step) }
	switch m.Kind {
	case store.Arrived:
		if m.Message == nil {
			return fmt.Sprintf("%d without a message", m.N)
		}
		return fmt.Sprintf("%d %s", m.N, m.Message.Body)
	case store.Locked:
		return fmt.Sprintf("%d lock", m.N)
	case store.ChildEnded:
		if m.Child == nil {
			return fmt.Sprintf("%d without a child", m.N)
		}
		return fmt.Sprintf("%d %s %s", m.N, m.Child.ID, m.Child.Outcome)
	case store.CancelMail:
		return "cancel"
	case store.RetryMail:
		return word("retry")
	case store.SettleMail:
		return word("settle")
	case store.SkipMail:
		return word("skip")
	case store.AbandonMail:
		return word("abandon")
	}
	return fmt.Sprintf("mail of kind %d", m.Kind)
}

// mailed wants a claimed run's mail, in order.
func (s *scene) mailed(r *store.Run, want string) {
	s.Helper()
	if got := letters(r.Mail); got != want {
		s.Fatalf("Claim(): the mail of %s = %q, want %q", r.ID, got, want)
	}
	s.ascends(r.Mail)
}

func (s *scene) ascends(mail []store.Mail) {
	s.Helper()
	for i := range mail {
		if mail[i].No < 1 || i > 0 && mail[i].No <= mail[i-1].No {
			s.Errorf("mail %q: number %d at place %d, want 1 or more, ascending", letters(mail), mail[i].No, i)
		}
	}
}

// handedMail claims nothing but the mail of leased runs above a number, and wants it.
func (s *scene) handedMail(after int64, want string) []store.Mail {
	s.Helper()
	got := s.lookRuns(store.ClaimRequest{MailAfter: after})
	if letters(got.Mail) != want || len(got.Runs) > 0 {
		s.Fatalf("Claim(mail after %d) = %q and runs %q, want %q and none", after, letters(got.Mail), idsOf(got.Runs), want)
	}
	s.ascends(got.Mail)
	return got.Mail
}

// last is the number of the newest of mail.
func last(mail []store.Mail) int64 {
	if len(mail) == 0 {
		return 0
	}
	return mail[len(mail)-1].No
}

// run is all that is known of a run of fulfil.
func (s *scene) run(id string) store.RunStory {
	s.Helper()
	r, err := s.store.Reader().Runs().Story(s.ctx(), fulfil, id)
	if err != nil {
		s.Fatalf("Story(%s, %s) = %v, want nil", fulfil, id, err)
	}
	return r
}

// stands wants a run's state.
func (s *scene) stands(id string, want store.RunState) store.RunStory {
	s.Helper()
	r := s.run(id)
	if r.State != want {
		s.Errorf("Story(%s): state %q, want %q", id, r.State, want)
	}
	return r
}

// ran wants the runs of fulfil with a state, newest first; an empty state is any.
func (s *scene) ran(state store.RunState, want string) {
	s.Helper()
	rows, err := s.store.Reader().Runs().List(s.ctx(), store.RunQuery{Workflow: fulfil, State: state, Max: store.MaxList})
	if got := rowIDs(rows); err != nil || got != want {
		s.Errorf("List(%s, %q) = %q, %v, want %q", fulfil, state, got, err, want)
	}
}

func rowIDs(rows []store.RunRow) string {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	return strings.Join(ids, " ")
}

// noRun wants no run of fulfil with the ID.
func (s *scene) noRun(id string) {
	s.Helper()
	if _, err := s.store.Reader().Runs().Story(s.ctx(), fulfil, id); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Story(%s) = %v, want ErrNotFound", id, err)
	}
	if _, err := s.store.Reader().Runs().End(s.ctx(), fulfil, id); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("End(%s) = %v, want ErrNotFound", id, err)
	}
}

// inLine wants a lock's holder and those who wait for it, by their IDs; an empty
// line means that nobody has it. It returns the lock's fence.
func (s *scene) inLine(name, want string) int64 {
	s.Helper()
	locks, err := s.store.Reader().Runs().Locks(s.ctx(), store.MaxList)
	if err != nil {
		s.Fatalf("Locks() = %v, want nil", err)
	}
	var got []string
	var fence int64
	for _, l := range locks {
		if l.Name == name {
			fence = l.Fence
			got = append(got, strings.TrimPrefix(l.HolderID, fulfil+"/"))
			for _, w := range l.Waiters {
				got = append(got, strings.TrimPrefix(w.RunID, fulfil+"/"))
			}
		}
	}
	if strings.Join(got, " ") != want {
		s.Errorf("Locks(): %s is held and wanted by %q, want %q", name, got, want)
	}
	return fence
}
