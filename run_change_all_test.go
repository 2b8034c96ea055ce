package weir_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// A run goes on with a program in which parts of it have another place: a branch or the whole All renamed, a step moved into a
// branch or out of one. What is recorded is found, so that nothing is done again.
func TestPlacesChange(t *testing.T) {
	t.Parallel()
	var did *list
	dish := func(o ...weir.StepOption) func(*weir.Run) error {
		return func(r *weir.Run) error {
			course(r, did, "soup", 1, o...)
			return nil
		}
	}
	all := func(name string, b weir.Branch) func(*weir.Run) error {
		return func(r *weir.Run) error { return weir.All(r, name, b) }
	}
	branch := func(name string, do func(*weir.Run) error, was ...string) weir.Branch {
		return weir.Branch{Name: name, Do: do, Was: was}
	}
	for what, c := range map[string]struct {
		before, after func(*weir.Run) error
	}{
		"a branch has another name":       {all("meal", branch("first", dish())), all("meal", branch("starter", dish(), "hors", "first"))},
		"the All has another name":        {all("meal", branch("first", dish())), all("dinner", branch("first", dish(), "meal/first"))},
		"so has the step":                 {all("meal", branch("first", dish())), all("dinner", branch("first", func(r *weir.Run) error { course(r, did, "broth", 1, weir.Was("soup")); return nil }, "meal/first"))},
		"a step has moved into a branch":  {dish(), all("meal", branch("first", dish(weir.Was("/soup"))))},
		"a step has moved out of one":     {all("meal", branch("first", dish())), dish(weir.Was("meal/first/soup"))},
		"an outer branch, with one in it": {all("meal", branch("first", all("hot", branch("one", dish())))), all("meal", branch("second", all("hot", branch("one", dish())), "first"))},
		"both of them":                    {all("meal", branch("first", all("hot", branch("one", dish())))), all("meal", branch("second", all("hot", branch("two", dish(), "one")), "first"))},
	} {
		t.Run(what, func(t *testing.T) {
			file := newFile(t)
			did = &list{}
			serve := func(part func(*weir.Run) error) func(*weir.Run, ticket) (plate, error) {
				return func(r *weir.Run, in ticket) (plate, error) {
					if err := part(r); err != nil {
						return plate{}, err
					}
					_, err := weir.WaitFor(r, "approval", approved)
					return plate{N: 1}, err
				}
			}
			e, stop := dining(t, file, serve(c.before))
			startRun(t, e, "7")
			inState(t, e, "7", weir.RunWaiting)
			stop()
			e, _ = dining(t, file, serve(c.after))
			tell(t, e, "7", 0)
			completed(t, weir.Find(e, dine, "7"), 1)
			if got := did.get(); len(got) != 1 {
				t.Errorf("done: %q, want it once", got)
			}
			for _, r := range storyOf(t, e, "7").Records {
				if r.Kind == store.KindNote && r.Name == ":drift" {
					t.Errorf("drift: %s", r.Reason)
				}
			}
		})
	}
}

// A send is found by its message's key, so others may come before it in another program.
func TestSendsChange(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	work := func(tables ...string) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			for _, table := range tables {
				if err := weir.Send(r.Context(), r, clean, ticket{}, weir.Key(table)); err != nil {
					return plate{}, err
				}
			}
			_, err := weir.WaitFor(r, "approval", approved)
			return plate{N: 1}, err
		}
	}
	e, stop := dining(t, file, work("one", "two"))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work("three", "one", "two"))
	tell(t, e, "7", 0)
	completed(t, weir.Find(e, dine, "7"), 1)
	var sent []string
	for _, r := range storyOf(t, e, "7").Records {
		if r.Kind == store.KindSend {
			sent = append(sent, r.Name[strings.Index(r.Name, "["):])
		}
	}
	if want := []string{"[one]", "[two]", "[three]"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
}
