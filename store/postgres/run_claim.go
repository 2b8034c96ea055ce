package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

const (
	sqlWorkflowID = `select id from weir.workflows where name = $1`

	// What others are claiming is passed over. Each part is one range of the index.
	sqlReadyRuns = `select no, wake, crashes, n.records, n.bytes
		from (
			select * from (select no, wake, crashes from weir.runs where workflow = $1 and wake >= $2 and wake <= $3
				order by wake, no limit $6 for no key update skip locked) a
			union all
			select * from (select no, wake, crashes from weir.runs where workflow = $1 and wake >= $4 and wake <= $5
				order by wake, no limit $6 for no key update skip locked) b) c
		cross join lateral (select count(*) as records, coalesce(sum(s.size), 0)::bigint as bytes from (
			select octet_length(coalesce(s.value, '')) + octet_length(coalesce(s.name, '')) + octet_length(coalesce(s.headers, ''))
				+ octet_length(coalesce(s.reason, '')) as size from weir.steps s where s.run = c.no limit 50001) s) n`
	sqlCountReady = `select (select count(*) from (select 1 from weir.runs where workflow = $1 and wake >= $2 and wake <= $3 limit $6) a)
		+ (select count(*) from (select 1 from weir.runs where workflow = $1 and wake >= $4 and wake <= $5 limit $6) b)`
	sqlNextWake = `select min(w) from (
		(select wake & 72057594037927935 as w from weir.runs where workflow = $1 and wake > $2 and wake <= $3 order by wake limit 1)
		union all
		(select wake & 72057594037927935 from weir.runs where workflow = $1 and wake > $4 and wake <= $5 order by wake limit 1)) n`
	sqlLeasedMail = `select m.no from weir.runs r join weir.mail m on m.run = r.no where r.workflow = $1 and r.wake = $2 order by m.no`

	sqlLeaseRuns = `update weir.runs set wake = $2, epoch = epoch + 1 where no = any($1::bigint[])
		returning no, id, version, epoch, crashes, started_us, deadline_us, coalesce(parent, 0), coalesce(cause, ''), coalesce(correlation, ''), headers, input`
	sqlStepsOf = `select run, n, kind, state, attempt, started_us, coalesce(took_us, 0), due_us, coalesce(pos, 0), coalesce(name, ''), headers, value, coalesce(reason, '')
		from weir.steps where run = any($1::bigint[]) order by run, n`
	sqlLeasedBy = `select exists (select 1 from weir.runs where no = $1 and epoch = $2 and wake = $3)`
)

// runClaim is one attempt at a claim of runs, in one transaction.
type runClaim struct {
	s        *Store
	t        *tx
	request  store.ClaimRequest
	process  int64
	workflow int64

	arrived    bool // there are messages to be brought to those who wait for them
	gone       []int64
	ready      int64 // runs that there are to claim, as far as counted
	candidates []runCandidate
	leased     []int64 // numbers of the mail of runs leased before
	claimed    store.Claimed
}

// runCandidate is a run that is ready, its row locked.
type runCandidate struct{ no, wake, crashes, records, bytes int64 }

// claimRuns is Claim for a workflow. What has come about meanwhile is seen to first: runs of
// processes that are gone, and messages of callers' transactions.
func (s *Store) claimRuns(ctx context.Context, r store.ClaimRequest, process int64) (store.Claimed, error) {
	tidy := true
	for {
		k := &runClaim{s: s, request: r, process: process}
		if err := s.claimTx(ctx, func(t *tx) error { return k.run(t, tidy) }); err != nil {
			return store.Claimed{}, err
		}
		if !tidy || !k.arrived && len(k.gone) == 0 {
			return k.claimed, nil
		}
		tidy = false
		if k.arrived {
			if err := s.bringArrived(ctx); err != nil {
				return store.Claimed{}, err
			}
		}
		if len(k.gone) > 0 {
			if err := s.write(ctx, func(t *tx) error {
				t.again = true
				return s.takeRuns(t, k.gone)
			}); err != nil {
				return store.Claimed{}, err
			}
		}
	}
}

func (k *runClaim) run(t *tx, tidy bool) error {
	k.t = t
	t.standFast()
	if k.workflow = k.s.workflowID(k.request.Workflow); k.workflow == 0 {
		if storable(k.request.Workflow) {
			t.ask(sqlWorkflowID, func(read scan) error { return read(&k.workflow) }, k.request.Workflow)
		}
		err := t.flush()
		if err != nil || k.workflow == 0 {
			t.quit = true
			return err
		}
		k.s.runs.workflows.Store(k.request.Workflow, k.workflow)
	}
	if tidy {
		k.askTidy()
	}
	if err := k.look(); err != nil {
		return err
	}
	if t.quit = tidy && (k.arrived || len(k.gone) > 0); t.quit {
		return nil
	}
	if err := k.lease(); err != nil {
		return err
	}
	return k.giveMail()
}

func (k *runClaim) askTidy() {
	k.t.ask(sqlAnyArrived, func(read scan) error { return read(&k.arrived) })
	k.t.ask(sqlGoneOwners, func(read scan) error {
		var owner int64
		err := read(&owner)
		k.gone = append(k.gone, owner)
		return err
	}, runwake.Leased, runwake.Mail, k.workflow)
}

// look finds what is ready and what is due, and locks as much of it as is asked for.
func (k *runClaim) look() error {
	t := k.t
	if k.t.now == 0 { // the head is not sent yet
		if err := t.flush(); err != nil {
			return err
		}
	}
	ready, due := runwake.Claimable(k.request.Suspects, t.now)
	if k.request.Max > 0 {
		t.ask(sqlReadyRuns, func(read scan) error {
			var c runCandidate
			err := read(&c.no, &c.wake, &c.crashes, &c.records, &c.bytes)
			k.candidates = append(k.candidates, c)
			return err
		}, k.workflow, ready.From, ready.To, due.From, due.To, k.request.Max)
		t.ask(sqlCountReady, func(read scan) error { return read(&k.ready) },
			k.workflow, ready.From, ready.To, due.From, due.To, k.request.Max+1)
	}
	ready, due = runwake.Claimable(true, t.now)
	t.ask(sqlCountReady, func(read scan) error { return read(&k.claimed.Suspects) },
		k.workflow, ready.From, ready.To, due.From, due.To, suspectsCounted)
	t.ask(sqlNextWake, func(read scan) error {
		var next *int64
		err := read(&next)
		k.claimed.NextDue = moment(next)
		return err
	}, k.workflow, runwake.Until|t.now, runwake.UntilSuspect-1, runwake.UntilSuspect|t.now, runwake.Ready-1)
	t.ask(sqlLeasedMail, func(read scan) error {
		var no int64
		err := read(&no)
		k.leased = append(k.leased, no)
		return err
	}, k.workflow, runwake.LeasedBy(k.process))
	return t.flush()
}

// suspectsCounted bounds the count of suspects, of those ready and of those due.
const suspectsCounted = 1_000

// choose puts the candidates in order, and takes as many as fit.
func (k *runClaim) choose() []int64 {
	slices.SortFunc(k.candidates, func(a, b runCandidate) int {
		by := cmp.Or(cmp.Compare(runwake.Since(a.wake), runwake.Since(b.wake)), cmp.Compare(a.no, b.no))
		if k.request.Suspects {
			return cmp.Or(cmp.Compare(b.crashes, a.crashes), by)
		}
		return by
	})
	list := k.candidates[:min(len(k.candidates), k.request.Max)]
	records, bytes := int64(0), int64(0)
	for i := range list {
		if i > 0 {
			records += list[i].records
			bytes += list[i].bytes
		}
		if records > store.MaxClaimRecords || bytes > store.MaxClaimBytes {
			list = list[:i]
			break
		}
	}
	numbers := make([]int64, len(list))
	for i := range list {
		numbers[i] = list[i].no
	}
	k.claimed.More = k.ready > int64(len(numbers))
	return numbers
}

// lease leases the candidates that fit, and reads them with their records and mail.
func (k *runClaim) lease() error {
	numbers := k.choose()
	if len(numbers) == 0 {
		return nil
	}
	runs := map[int64]*store.Run{}
	k.t.ask(sqlLeaseRuns, func(read scan) error {
		r := &store.Run{Workflow: k.request.Workflow}
		var started int64
		var deadline *int64
		err := read(&r.No, &r.ID, &r.Version, &r.Epoch, &r.Crashes, &started, &deadline, &r.Parent, &r.Cause, &r.Correlation, &r.Headers, &r.Input)
		r.StartedAt, r.Deadline = at(started), moment(deadline)
		runs[int64(r.No)] = r
		return err
	}, numbers, runwake.LeasedBy(k.process))
	k.t.ask(sqlStepsOf, func(read scan) error {
		var run int64
		rec, err := seeRecord(func(into ...any) error { return read(append([]any{&run}, into...)...) })
		if r := runs[run]; r != nil {
			r.Records = append(r.Records, &rec)
		}
		return err
	}, numbers)
	mail, err := readLetters(k.t, sqlMailOfRuns, numbers)
	if err != nil {
		return err
	}
	for i := range mail {
		r := runs[int64(mail[i].Run)]
		r.Mail = append(r.Mail, mail[i])
	}
	for _, no := range numbers {
		k.claimed.Runs = append(k.claimed.Runs, runs[no])
	}
	if k.request.Suspects {
		k.claimed.Suspects = max(k.claimed.Suspects-len(numbers), 0)
	}
	first := k.claimed.Runs[0]
	k.t.done = func(ctx context.Context) (bool, error) {
		var ours bool
		err := k.s.aside.QueryRow(ctx, k.s.text(sqlLeasedBy), int64(first.No), first.Epoch, runwake.LeasedBy(k.process)).Scan(&ours)
		return ours, err
	}
	return nil
}

// handing is how a letter was handed out.
type handing struct {
	late bool // when a later one had been already
	at   int64
}

// handLate is how long a letter that was late may stay unread until it is handed out again:
// who got it may have had no use for it yet.
const handLate = 1_000_000 // µs

// giveMail reads the mail of runs leased before that is asked for. Mail is numbered before it
// is committed, so a letter may come to be seen after one with a higher number: it is handed
// out all the same, once.
func (k *runClaim) giveMail() error {
	s := k.s
	s.runs.mu.Lock()
	given := s.runs.given[k.request.Workflow]
	var numbers []int64
	unread := make(map[int64]bool, len(k.leased))
	for _, no := range k.leased {
		unread[no] = true
		h, known := given[no]
		if no > k.request.MailAfter || !known || h.late && h.at < k.t.now-handLate {
			numbers = append(numbers, no)
		}
	}
	for no, h := range given {
		if !unread[no] && h.at < k.t.now-handLate { // a claim beside this one may just have handed it out
			delete(given, no)
		}
	}
	if len(numbers) > store.MaxList {
		numbers, k.claimed.More = numbers[:store.MaxList], true
	}
	if given == nil {
		given = map[int64]handing{}
		if s.runs.given == nil {
			s.runs.given = map[string]map[int64]handing{}
		}
		s.runs.given[k.request.Workflow] = given
	}
	for _, no := range numbers {
		given[no] = handing{no <= k.request.MailAfter, k.t.now}
	}
	for _, r := range k.claimed.Runs {
		s.runs.written.know(int64(r.No), r.Records)
		for i := range r.Mail {
			given[r.Mail[i].No] = handing{false, k.t.now}
		}
	}
	s.runs.mu.Unlock()
	if len(numbers) == 0 {
		return nil
	}
	var err error
	k.claimed.Mail, err = readLetters(k.t, sqlMailNumber, numbers)
	return err
}
