package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/weir-go/weir/store"
)

// runState is what a process remembers for the sake of runs. None of it decides
// about what is true: that is in the tables.
type runState struct {
	workflows sync.Map // numbers, by name: they never change
	topics    sync.Map // of waits: knownTopic by name, which never change either
	credits   credits

	mu      sync.Mutex
	gates   map[int64]*gate              // runs with an update under way in this process
	given   map[string]map[int64]handing // mail handed out, by workflow and number
	written written                      // see run_steps.go
}

// knownTopic is a topic as waits know it.
type knownTopic struct {
	id   int64
	kind store.Kind
}

// gate lets the updates of a run that come from one process pass one at a time: that the
// run is leased to the process does not tell them apart.
type gate struct {
	sync.Mutex
	users int
}

// enterRuns waits until no other commit of this process has an update of the runs under
// way. In ascending order, so that two do not wait for each other.
func (s *Store) enterRuns(runs []int64) (leave func()) {
	if len(runs) == 0 {
		return func() {}
	}
	slices.Sort(runs)
	runs = slices.Compact(runs)
	gates := make([]*gate, len(runs))
	s.runs.mu.Lock()
	for i, no := range runs {
		g := s.runs.gates[no]
		if g == nil {
			if s.runs.gates == nil {
				s.runs.gates = map[int64]*gate{}
			}
			g = &gate{}
			s.runs.gates[no] = g
		}
		g.users++
		gates[i] = g
	}
	s.runs.mu.Unlock()
	for _, g := range gates {
		g.Lock()
	}
	return func() {
		s.runs.mu.Lock()
		defer s.runs.mu.Unlock()
		for i, g := range gates {
			g.Unlock()
			if g.users--; g.users == 0 {
				delete(s.runs.gates, runs[i])
			}
		}
	}
}

// processLock is shared by all transactions in which a process writes to what it leases,
// and taken alone by who takes that over: so none of those is under way then.
func (s *Store) processLock(process int64) int64 {
	return s.lockNumber("process", fmt.Sprint(process))
}

const (
	sqlShareProcess = `select pg_advisory_xact_lock_shared($1)`
	sqlGone         = `select lost_us is not null or ended_us is not null from weir.processes where id = $1`

	sqlWorkflowsNamed = `select name, id from weir.workflows where name = any($1::text[])`
	sqlNewWorkflows   = `insert into weir.workflows (name) select unnest($1::text[]) on conflict (name) do nothing`
	sqlTopicKinds     = `select name, id, kind from weir.topics where name = any($1::text[])`
)

// standFast queues what keeps others from taking this process's runs over before the
// transaction ends; when it has happened already, the next flush fails.
func (t *tx) standFast() {
	t.do(sqlShareProcess, t.s.processLock(t.process))
	t.ask(sqlGone, func(read scan) error {
		var gone bool
		err := read(&gone)
		t.lost = t.lost || gone
		return err
	}, t.process)
}

// knowWorkflows finds workflows' numbers, and makes those that there are not: outside of
// the transaction, which may stay open for long.
func (s *Store) knowWorkflows(ctx context.Context, names map[string]bool) error {
	var list []string
	for name := range names {
		if _, ok := s.runs.workflows.Load(name); !ok && name != "" && storable(name) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return s.apart(ctx, func(t *tx) error {
		t.do(sqlBegin)
		t.do(sqlNewWorkflows, list)
		t.ask(sqlWorkflowsNamed, func(read scan) error {
			var name string
			var id int64
			err := read(&name, &id)
			s.runs.workflows.Store(name, id)
			return err
		}, list)
		t.do(sqlCommit)
		return t.flush()
	})
}

// apart runs f beside the transaction under way, on a connection of its own; what it
// writes is committed at once.
func (s *Store) apart(ctx context.Context, f func(t *tx) error) error {
	c, err := s.acquire(ctx, s.aside)
	if err != nil {
		return err
	}
	defer c.Release()
	return f(&tx{s: s, ctx: ctx, w: pgxWire{c, c.Conn()}})
}

func (s *Store) workflowID(name string) int64 {
	id, ok := s.runs.workflows.Load(name)
	if !ok {
		return 0
	}
	return id.(int64)
}

// knowTopics finds the topics of waits, and declares those that there are not.
func (s *Store) knowTopics(ctx context.Context, topics map[string]store.Kind) error {
	var list []string
	for name, kind := range topics {
		if _, ok := s.runs.topics.Load(name); !ok && name != "" && storable(name) && kind >= store.KindEvent && kind <= store.KindSignal {
			list = append(list, name)
		}
	}
	for round := 0; len(list) > 0 && round < 2; round++ {
		err := s.apart(ctx, func(t *tx) error {
			return t.get(sqlTopicKinds, func(read scan) error {
				var name string
				var k knownTopic
				err := read(&name, &k.id, &k.kind)
				s.runs.topics.Store(name, k)
				return err
			}, list)
		})
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(name string) bool {
			_, ok := s.runs.topics.Load(name)
			return ok
		})
		if len(list) == 0 || round > 0 {
			return nil
		}
		var unknown []store.Topic
		for _, name := range list {
			unknown = append(unknown, store.Topic{Name: name, Kind: topics[name]})
		}
		if err := s.declareUnknown(ctx, unknown); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) topicOf(name string) knownTopic {
	k, ok := s.runs.topics.Load(name)
	if !ok {
		return knownTopic{}
	}
	return k.(knownTopic)
}
