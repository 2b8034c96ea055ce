package weir

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// Surroundings is what a run's state is judged by, beside the run.
type Surroundings struct {
	Now  time.Time
	Live []Process // the processes that work the store now
}

// WhyNotRunning tells what a run does, waits for or needs: a sentence each, whose
// subject is the run ("waits until …", "needs a person: …"), the most important
// first, about 20 at most. Names, keys and errors in them are as others wrote them,
// errors cut to their first line: escape before you print. Commands in them are quoted for a shell.
func WhyNotRunning(s RunStory, in Surroundings) []string {
	w := whyTeller{story: &s, in: in}
	if w.ended() {
		return w.said
	}
	w.mail()
	w.ending()
	w.person()
	w.holder()
	w.open()
	switch {
	case len(w.said) > 0:
	case s.Wake.IsZero():
		w.say("waits for mail, and none of its records tells for what: weir doctor says what to do")
	default: // its process could not read what a newer program wrote
		w.say("rests until %s (%s): the log of its process says why", whyTime(s.Wake), w.until(s.Wake))
	}
	w.deadline()
	return w.said
}

// deadline tells when the run is cancelled.
func (w *whyTeller) deadline() {
	s := w.story
	switch at := s.Deadline; {
	case at.IsZero() || w.ends:
	case s.State == RunWaiting:
		w.say("is cancelled at %s (%s): its deadline", whyTime(at), w.until(at))
	case s.State == RunNeedsPerson:
		w.say("has its deadline at %s (%s): past that it is cancelled once a person has decided", whyTime(at), w.until(at))
	}
}

type whyTeller struct {
	story *RunStory
	in    Surroundings
	said  []string
	cut   int  // not said
	ends  bool // it is to fail or be cancelled: nothing new is begun
}

const (
	whyMax       = 20
	whyReasonMax = 400 // runes of an error
	// noteEnding is the name of the record that says how a run is to end.
	noteEnding = ":ending"
)

func (w *whyTeller) say(format string, args ...any) {
	if len(w.said) >= whyMax {
		w.cut++
		return
	}
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *whyTeller) ended() bool {
	s := w.story
	switch s.State {
	case RunReady, RunRunning, RunWaiting, RunNeedsPerson:
		return false
	}
	text := "has ended: " + string(s.State)
	if !s.EndedAt.IsZero() {
		text += " at " + whyTime(s.EndedAt)
	}
	if s.Reason != "" {
		text += ": " + whyReason(s.Reason)
	}
	w.say("%s", text)
	return true
}

// mail tells what people decided that the run has not read yet.
func (w *whyTeller) mail() {
	other := 0
	for _, m := range w.story.Mail {
		if verb, ok := decisions[m.Kind]; ok {
			w.say("has yet to read that %s decided %s ago to %s: %s", m.By, w.ago(m.At), strings.TrimSpace(verb+" "+m.Step), whyReason(m.Why))
		} else {
			other++
		}
	}
	if other > 0 {
		w.say("has yet to read %s that came for it", counted(other, "message"))
	}
}

var decisions = map[store.MailKind]string{
	store.CancelMail:  "cancel it",
	store.RetryMail:   "retry",
	store.SettleMail:  "settle",
	store.SkipMail:    "skip",
	store.AbandonMail: "abandon it",
}

// decided says whether a person has decided about a step already.
func (w *whyTeller) decided(step string) bool {
	for _, m := range w.story.Mail {
		if decisions[m.Kind] != "" && (m.Step == step || m.Step == "") {
			return true
		}
	}
	return false
}

func (w *whyTeller) ending() {
	for _, r := range w.story.Records {
		if r.Kind == store.KindNote && r.Name == noteEnding {
			w.ends = true
			w.say("is ending: %s; its compensations are run first", whyReason(r.Reason))
		}
	}
}

// person tells what a person is to decide.
func (w *whyTeller) person() {
	s, told := w.story, false
	id := shellWord(s.Workflow + "/" + s.ID)
	for i := range s.Records {
		r := &s.Records[i]
		if r.State != store.StepParked {
			continue
		}
		told = true
		if w.decided(r.Name) {
			continue
		}
		w.say("needs a person: %s: %s", whyName(r), whyReason(r.Reason))
		if r.Kind == store.KindCompensate {
			w.say("goes on after: weir run retry %s --step %s --why REASON (when the cause is mended; or skip or abandon)", id, shellWord(r.Name))
			continue
		}
		w.say("goes on after: weir run settle %s --step %s --value JSON --why REASON (or with --failed; or retry, skip or abandon)", id, shellWord(r.Name))
	}
	if !told && s.State == RunNeedsPerson && !w.decided("") {
		w.say("needs a person: %s", whyReason(s.Reason))
		w.say("goes on after: weir run retry %s --why REASON (when the cause is mended; or abandon)", id)
	}
}

// holder tells who works the run, or is to.
func (w *whyTeller) holder() {
	s := w.story
	owner := ownerOf(s.Workflow)
	switch s.State {
	case RunRunning:
		for _, p := range w.in.Live {
			if p.ID == s.Process {
				w.say("is running in process %d (pid %d on %s)%s", p.ID, p.PID, p.Host, w.last())
				return
			}
		}
		w.say("was running in process %d, which is gone: the next process to work the store takes it over", s.Process)
	case RunReady:
		switch p := w.liveOwner(owner); {
		case len(w.in.Live) == 0:
			w.say("is ready, but no live process works the store: start the service that owns %s", owner)
		case p == nil:
			w.say("is ready, but no live process owns %s: start the service that does", owner)
		case s.Crashes > 0:
			w.say("crashed its process %s; it waits to run alone", whyTimes(s.Crashes))
		default:
			w.say("is ready: process %d takes it when it has room; if it does not, see that it registers the workflow %s", p.ID, s.Workflow)
		}
		return
	}
	if s.Crashes > 0 {
		w.say("crashed its process %s since it last got on", whyTimes(s.Crashes))
	}
}

// last is what a running run did last; what it does now it may not have written.
func (w *whyTeller) last() string {
	for i := len(w.story.Records) - 1; i >= 0; i-- {
		if r := &w.story.Records[i]; r.State >= store.StepDone && r.Kind != store.KindNote {
			return fmt.Sprintf("; its last %s was %s at %s", whyName(r), r.State, whyTime(r.StartedAt.Add(r.Took)))
		}
	}
	return "; it has done no step yet"
}

func (w *whyTeller) liveOwner(boundary string) *Process {
	for i, p := range w.in.Live {
		for _, name := range p.Owns {
			if name == boundary {
				return &w.in.Live[i]
			}
		}
	}
	return nil
}

// open tells of each record that is begun and not settled.
func (w *whyTeller) open() {
	s := w.story
	if s.State == RunWaiting && !s.Wake.IsZero() && s.Epoch == 0 { // never claimed
		w.say("begins at %s (%s)", whyTime(s.Wake), w.until(s.Wake))
	}
	for i := range s.Records {
		r := &s.Records[i]
		if w.ends && r.Kind != store.KindCompensate && r.Kind != store.KindOnce && (r.Kind != store.KindChild || r.Attempt == 0) {
			continue // it is not waited for any more; a Once's outcome is found out first, and a child ends first
		}
		if r.State < store.StepParked {
			if text := w.record(r); text != "" {
				w.say("%s", text)
			}
		}
	}
	if w.cut > 0 {
		w.said = append(w.said, fmt.Sprintf("and %d more", w.cut))
	}
}

func (w *whyTeller) record(r *RunRecord) string {
	switch r.State {
	case store.StepIntent:
		if w.story.State == RunRunning {
			return fmt.Sprintf("%s is under way since %s: attempt %d", whyName(r), whyTime(r.StartedAt), max(r.Attempt, 1))
		}
		return fmt.Sprintf("%s: attempt %d was under way, and its outcome is to be found out", whyName(r), max(r.Attempt, 1))
	case store.StepUnknown:
		return fmt.Sprintf("%s: it is not known whether attempt %d has happened%s; that is asked%s", whyName(r), max(r.Attempt, 1), colon(r.Reason), w.at(r.Due))
	}
	switch r.Kind {
	case store.KindAsk, store.KindChild, store.KindSend:
		if r.Attempt == 0 {
			return fmt.Sprintf("%s is not sent yet%s; next%s", whyName(r), colon(r.Reason), w.at(r.Due))
		}
	}
	switch r.Kind {
	case store.KindSleep:
		return fmt.Sprintf("waits until %s (%s): sleep %s", whyTime(r.Due), w.until(r.Due), r.Name)
	case store.KindUntil:
		return fmt.Sprintf("waits until %s%s; asked again%s%s", r.Name, colon(r.Reason), w.at(r.Due), w.orWhen(r.N))
	case store.KindWaitFor, store.KindAsk:
		return w.message(r)
	case store.KindChild:
		return w.child(r)
	case store.KindLock:
		return w.lock(r)
	case store.KindSend, store.KindNote:
		return ""
	}
	return w.attempt(r)
}

// attempt tells of a step that is tried, again.
func (w *whyTeller) attempt(r *RunRecord) string {
	last := w.lastAttempt(r.N)
	switch {
	case last != nil && (w.story.State != RunRunning || r.Due.After(w.in.Now)):
		return fmt.Sprintf("%s retries: attempt %d failed %s ago%s; next%s",
			whyName(r), last.Attempt, w.ago(last.StartedAt.Add(last.Took)), colon(last.Reason), w.at(r.Due))
	case w.story.State == RunRunning && last != nil:
		return fmt.Sprintf("%s is under way: attempt %d failed%s", whyName(r), last.Attempt, colon(last.Reason))
	case w.story.State == RunRunning:
		return fmt.Sprintf("%s is under way since %s", whyName(r), whyTime(r.StartedAt))
	}
	return fmt.Sprintf("%s has begun and goes on%s%s", whyName(r), w.at(r.Due), colon(r.Reason))
}

func (w *whyTeller) lastAttempt(n int) *RunAttempt {
	var last *RunAttempt
	for i, a := range w.story.Attempts {
		if a.N == n {
			last = &w.story.Attempts[i]
		}
	}
	return last
}

// message tells of a wait for an event, a signal or a reply.
func (w *whyTeller) message(r *RunRecord) string {
	what := "a message (it has come and is not read yet)"
	if waits := w.waits(r.N); len(waits) > 0 {
		what = strings.Join(waits, " or ")
	}
	text := fmt.Sprintf("waits for %s: %s %s", what, r.Kind, r.Name)
	if r.Kind == store.KindAsk && r.Due.IsZero() {
		text += "; should its request be dead or discarded, retry that, or settle this step"
	}
	if !r.Due.IsZero() {
		text += fmt.Sprintf("; gives up at %s (%s)", whyTime(r.Due), w.until(r.Due))
	}
	return text
}

func (w *whyTeller) waits(n int) []string {
	var out []string
	for _, wait := range w.story.Waits {
		request, reply := strings.CutSuffix(wait.Topic, replySuffix)
		switch {
		case wait.N != n:
		case reply:
			out = append(out, fmt.Sprintf("the reply to %s %s", request, wait.Key))
		case wait.Key == "":
			out = append(out, fmt.Sprintf("%s (look-back from %s)", wait.Topic, whyTime(wait.Since)))
		default:
			out = append(out, fmt.Sprintf("%s with key %s (look-back from %s)", wait.Topic, wait.Key, whyTime(wait.Since)))
		}
	}
	return out
}

func (w *whyTeller) orWhen(n int) string {
	waits := w.waits(n)
	if len(waits) == 0 {
		return ""
	}
	return ", or when it comes: " + strings.Join(waits, " or ")
}

func (w *whyTeller) child(r *RunRecord) string {
	for _, c := range w.story.Children {
		if c.ID == w.story.ID+"/"+r.Name {
			text := fmt.Sprintf("waits for its child run %s/%s, which is %s%s", c.Workflow, c.ID, c.State, colon(c.Reason))
			if c.State == RunNeedsPerson {
				text += ": see weir run why " + shellWord(c.Workflow+"/"+c.ID)
			}
			return text
		}
	}
	return "waits for its child run " + r.Name
}

// lock tells who holds what the run is in line for.
func (w *whyTeller) lock(r *RunRecord) string {
	for _, l := range w.story.Locks {
		if !strings.Contains(r.Name, l.Name) { // the record's has the branch before it, and a number behind
			continue
		}
		for i, waiter := range l.Waiters {
			if waiter.Run == w.story.No {
				return fmt.Sprintf("is in line for lock %s, as number %d of %d; it is held by run %s since %s",
					l.Name, i+1, len(l.Waiters), l.HolderID, whyTime(l.Since))
			}
		}
	}
	return "waits in line: " + r.Name
}

// whyName is what a record is called in a sentence.
func whyName(r *RunRecord) string {
	if r.Kind == store.KindCompensate {
		return "compensation " + r.Name
	}
	return "step " + r.Name
}

// whyReason is the first line of an error, cut.
func whyReason(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	line = strings.TrimSpace(line)
	if runes := []rune(line); len(runes) > whyReasonMax {
		line = string(runes[:whyReasonMax-1]) + "…"
	}
	if line == "" {
		return "no reason given"
	}
	return line
}

func colon(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + whyReason(reason)
}

func (w *whyTeller) at(t time.Time) string {
	if t.IsZero() || !t.After(w.in.Now) {
		return " at once"
	}
	return fmt.Sprintf(" at %s (%s)", whyTime(t), w.until(t))
}

func (w *whyTeller) until(t time.Time) string {
	if d := t.Sub(w.in.Now); d > 0 {
		return "in " + whySpan(d)
	}
	return "now"
}

func (w *whyTeller) ago(t time.Time) string { return whySpan(max(w.in.Now.Sub(t), 0)) }

func whyTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// whySpan is a duration in two units at most.
func whySpan(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(time.Millisecond).String()
	}
	d = d.Round(time.Second)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return d.String()
}

func whyTimes(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

var shellPlain = regexp.MustCompile(`^[A-Za-z0-9_.,:/@%+=-]+$`)

// shellWord quotes what others wrote for a shell, which would obey it: a command is
// there to be copied.
func shellWord(s string) string {
	if shellPlain.MatchString(s) && s[0] != '-' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
