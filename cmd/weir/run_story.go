package main

import (
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// runStoryView is a run with everything that happened to it, in JSON.
type runStoryView struct {
	runView
	Version     int               `json:"version"` // of the workflow's contract
	Epoch       int64             `json:"epoch"`   // claims so far
	Cause       string            `json:"cause"`   // the message or run that started it
	Correlation string            `json:"correlation"`
	ParentID    string            `json:"parent_id"` // WORKFLOW/ID; empty: none
	Headers     map[string]string `json:"headers"`
	Input       bodyView          `json:"input"`
	Result      *bodyView         `json:"result"` // null: none yet
	Why         []string          `json:"why"`    // why it does not go on
	Records     []recordView      `json:"records"`
	Children    []runView         `json:"children"`
	Locks       []lockView        `json:"locks"` // held or wanted
	Mail        []mailView        `json:"mail"`  // not read yet
	Late        []storyMessage    `json:"late"`  // replies that came after it had stopped to wait
}

// recordView is one durable action of a run.
type recordView struct {
	N         int               `json:"n"` // in the order they were begun
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	State     string            `json:"state"`
	Attempt   int               `json:"attempt"` // made so far
	StartedAt stamp             `json:"started_at"`
	Took      millis            `json:"took_ms"` // until it was settled, or its last attempt ended
	DueAt     stamp             `json:"due_at"`  // when it goes on by itself; null: not by time
	Message   string            `json:"message"` // ID of the one that it sent or got; empty: none
	Headers   map[string]string `json:"headers"`
	Value     *bodyView         `json:"value"`
	Reason    string            `json:"reason"`
	Attempts  []runAttemptView  `json:"attempts"` // that failed
	Waits     []waitView        `json:"waits"`    // not met yet
}

type runAttemptView struct {
	Attempt   int    `json:"attempt"`
	StartedAt stamp  `json:"started_at"`
	Took      millis `json:"took_ms"`
	Reason    string `json:"reason"`
	Stack     string `json:"stack"`
}

// waitView is a wait for one message.
type waitView struct {
	Topic string `json:"topic"`
	Key   string `json:"key"`   // of a reply: the request's ID
	Since stamp  `json:"since"` // looked back to
}

// mailView is what came to a run from outside.
type mailView struct {
	No      int64         `json:"no"`
	At      stamp         `json:"at"`
	Kind    string        `json:"kind"`
	N       int           `json:"n"` // the record it is for; 0: none
	Message *storyMessage `json:"message"`
	Child   string        `json:"child"` // ID of the child run that ended
	Outcome string        `json:"outcome"`
	Fence   int64         `json:"fence"`
	Step    string        `json:"step"`
	Value   *bodyView     `json:"value"`
	Failed  bool          `json:"failed"`
	By      string        `json:"by"`
	Why     string        `json:"why"`
}

// storyMessage is a message with its body.
type storyMessage struct {
	messageView
	bodyView
}

func viewStoryMessage(m weir.MessageRow) storyMessage {
	return storyMessage{viewMessage(m), viewBody(m.Body)}
}

// mailKinds are the kinds of mail in words.
var mailKinds = map[store.MailKind]string{
	store.Arrived: "message", store.Locked: "lock", store.ChildEnded: "child", store.CancelMail: "cancel",
	store.RetryMail: "retry", store.SettleMail: "settle", store.SkipMail: "skip", store.AbandonMail: "abandon",
}

// valueView is a value, or nil if there is none.
func valueView(value []byte) *bodyView {
	if len(value) == 0 {
		return nil
	}
	v := viewBody(value)
	return &v
}

func (n runNumbers) story(s weir.RunStory, in weir.Surroundings) runStoryView {
	v := runStoryView{
		runView: n.view(s.RunRow), Version: s.Version, Epoch: s.Epoch, Cause: s.Cause, Correlation: s.Correlation, ParentID: s.ParentID,
		Headers: headersOf(weir.MessageRow{Headers: s.Headers}), Input: viewBody(s.Input), Result: valueView(s.Result),
		Why: weir.WhyNotRunning(s, in), Records: make([]recordView, len(s.Records)), Children: n.views(s.Children), Locks: n.locks(s.Locks),
		Mail: make([]mailView, len(s.Mail)), Late: make([]storyMessage, len(s.Late)),
	}
	extras := newRecordExtras(s)
	for i := range s.Records {
		v.Records[i] = n.record(&s.Records[i], extras)
	}
	for i, m := range s.Mail {
		v.Mail[i] = viewMail(m)
	}
	for i, m := range s.Late {
		v.Late[i] = viewStoryMessage(m)
	}
	return v
}

// recordExtras are what belongs to records, by their number.
type recordExtras struct {
	attempts map[int][]weir.RunAttempt
	waits    map[int][]weir.RunWait
}

func newRecordExtras(s weir.RunStory) recordExtras {
	x := recordExtras{map[int][]weir.RunAttempt{}, map[int][]weir.RunWait{}}
	for _, t := range s.Attempts {
		x.attempts[t.N] = append(x.attempts[t.N], t)
	}
	for _, wait := range s.Waits {
		x.waits[wait.N] = append(x.waits[wait.N], wait)
	}
	return x
}

func (n runNumbers) record(r *weir.RunRecord, x recordExtras) recordView {
	v := recordView{
		N: r.N, Name: r.Name, Kind: r.Kind.String(), State: r.State.String(), Attempt: r.Attempt, StartedAt: stamp(r.StartedAt),
		Took: millis(r.Took), DueAt: stamp(r.Due), Message: n.message(r.Pos), Headers: headersOf(weir.MessageRow{Headers: r.Headers}),
		Value: valueView(r.Value), Reason: r.Reason,
		Attempts: make([]runAttemptView, len(x.attempts[r.N])), Waits: make([]waitView, len(x.waits[r.N])),
	}
	for i, t := range x.attempts[r.N] {
		v.Attempts[i] = runAttemptView{t.Attempt, stamp(t.StartedAt), millis(t.Took), t.Reason, t.Stack}
	}
	for i, wait := range x.waits[r.N] {
		v.Waits[i] = waitView{wait.Topic, wait.Key, stamp(wait.Since)}
	}
	return v
}

// message is the ID of the message at a position.
func (n runNumbers) message(pos store.Pos) string {
	if pos == 0 {
		return ""
	}
	return store.Incarnation(n).ID(pos)
}

func viewMail(m weir.RunMail) mailView {
	v := mailView{
		No: m.No, At: stamp(m.At), Kind: mailKinds[m.Kind], N: m.N, Fence: m.Fence, Step: m.Step,
		Value: valueView(m.Value), Failed: m.Failed, By: m.By, Why: m.Why,
	}
	if m.Message != nil {
		message := viewStoryMessage(*m.Message)
		v.Message = &message
	}
	if m.Child != nil {
		v.Child, v.Outcome = m.Child.ID, m.Child.Outcome.String()
	}
	return v
}

// lastOf is the last thing known to have happened to a run.
func lastOf(s weir.RunStory) time.Time {
	last := later(s.StartedAt, s.EndedAt)
	for _, r := range s.Records {
		last = later(last, r.StartedAt.Add(r.Took))
	}
	return last
}
