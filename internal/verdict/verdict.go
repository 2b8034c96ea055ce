// Command verdict reads what go test -json says, and prints what a person wants to know: a line for each package,
// what was skipped and why, and of each test that failed what it said. What failed is told once more at the end, briefly
// and its names last: a log is cut, and read from its tail.
//
//	go test -json ./... 2>&1 | go run ./internal/verdict
//
// Its exit code is 0 whatever failed: that is for go test's to tell. With -unsteady FILE it writes to FILE, if at most three
// tests failed, each by what it checks, a line for each of them: the package, a space, and the test. So whoever wants can find out
// whether they fail again. Where anything else failed, a build, a data race, a panic, a test that never ended, nothing is written.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	unsteady := flag.String("unsteady", "", "the `FILE` for the names of few tests that failed by what they check")
	flag.Parse()
	s, err := report(os.Stdin, os.Stdout)
	if err == nil && *unsteady != "" {
		err = os.WriteFile(*unsteady, []byte(s.unsteady()), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

const (
	lineMost  = 16 << 20 // of the input
	widthMost = 500      // of a line that is shown
	longForm  = 40       // lines of the beginning that are shown, and of the end
	shortForm = 12
	shownMost = 20  // tests that are shown each time
	namesMost = 100 // names of others

	unsteadyMost = 3 // tests that may be unsteady: of more, something is broken
)

// event is a line of go test -json: see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of what is built
	Test       string // empty: the package
	Output     string
}

// suite is what is known of all packages.
type suite struct {
	w               io.Writer
	packages        map[string]*unit
	failed          []*unit // in the order in which they ended
	passed, skipped int
}

// unit is a package, or what is built for one.
type unit struct {
	name  string
	said  excerpt // by nobody among the tests
	tests []*test // that have not passed and were not skipped, in the order of their beginning
}

// test is a test or a part of one.
type test struct {
	name   string
	failed bool // or else it goes on
	raced  bool // the race detector found something
	passed bool // so it said: what it says later is a panic of others, or of the package
	said   excerpt
}

// report reads r to its end.
func report(r io.Reader, w io.Writer) (*suite, error) {
	s := &suite{w: w, packages: map[string]*unit{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineMost)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			s.say("%s", cut(lines.Text())) // of the go command itself
			continue
		}
		s.take(e)
	}
	s.conclude()
	return s, lines.Err()
}

func (s *suite) say(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

func (s *suite) take(e event) {
	switch u := s.unit(e); e.Action {
	case "run":
		u.tests = append(u.tests, &test{name: e.Test})
	case "output", "build-output":
		s.output(u, e)
	case "pass", "skip":
		s.good(u, e)
	case "fail", "build-fail":
		if e.Test != "" {
			u.test(e.Test).failed = true
			return
		}
		s.failed = append(s.failed, u)
		s.show(u, longForm)
	}
}

func (s *suite) unit(e event) *unit {
	name := e.Package
	if name == "" {
		name = e.ImportPath
	}
	u := s.packages[name]
	if u == nil {
		u = &unit{name: name}
		s.packages[name] = u
	}
	return u
}

// test is one that has begun; one that nobody knows begins now.
func (u *unit) test(name string) *test {
	if i := u.find(name); i >= 0 {
		return u.tests[i]
	}
	t := &test{name: name}
	u.tests = append(u.tests, t)
	return t
}

func (u *unit) find(name string) int {
	return slices.IndexFunc(u.tests, func(t *test) bool { return t.name == name })
}

func (s *suite) output(u *unit, e event) {
	text := strings.TrimRight(e.Output, "\n")
	i := u.find(e.Test)
	switch trimmed := strings.TrimLeft(text, " "); {
	case e.Test == "" && (strings.HasPrefix(text, "ok  \t") || strings.HasPrefix(text, "?   \t") || strings.HasPrefix(text, "FAIL\t")):
		s.say("%s", cut(text)) // the package's line
	case i >= 0 && strings.HasPrefix(trimmed, "--- PASS: "+e.Test+" "):
		u.tests[i].passed = true
	case strings.HasPrefix(trimmed, "=== "), strings.HasPrefix(trimmed, "--- "), text == "PASS", text == "FAIL", text == "":
		// Other events say so.
	case i >= 0 && !u.tests[i].passed:
		u.tests[i].raced = u.tests[i].raced || strings.Contains(text, "race detected") || strings.Contains(text, "DATA RACE")
		u.tests[i].said.add(text)
	default:
		u.said.add(text)
	}
}

func (s *suite) good(u *unit, e event) {
	i := u.find(e.Test)
	if e.Test == "" || i < 0 {
		return
	}
	if e.Action == "pass" {
		s.passed++
	} else {
		s.skipped++
		s.say("--- SKIP: %s in %s", e.Test, u.name)
		u.tests[i].said.print(s.w, shortForm)
	}
	u.tests = slices.Delete(u.tests, i, i+1)
}

// show shows what failed in a package.
func (s *suite) show(u *unit, most int) {
	shown, others := 0, []string{}
	for _, t := range u.tests {
		switch {
		case t.said.lines == 0:
			if !t.failed {
				others = append(others, t.name)
			}
		case shown == shownMost:
			others = append(others, t.name)
		default:
			shown++
			s.say("--- %s: %s in %s", t.state(), t.name, u.name)
			t.said.print(s.w, most)
		}
	}
	if u.said.lines > 0 {
		s.say("--- in %s", u.name)
		u.said.print(s.w, most)
	}
	if len(others) > 0 {
		s.say("--- failed or never ended, too, in %s: %s", u.name, strings.Join(others[:min(len(others), namesMost)], " "))
	}
}

// state is what became of a test that is shown.
func (t *test) state() string {
	if t.failed {
		return "FAIL"
	}
	return "NEVER ENDED"
}

// conclude tells the sum, and what failed once more.
func (s *suite) conclude() {
	if len(s.failed) > 0 {
		s.say("\n=== what failed, once more")
		for _, u := range s.failed {
			s.show(u, shortForm)
		}
		s.say("\n=== the names of what failed")
	}
	names := 0
	for _, u := range s.failed {
		s.say("FAIL %s", u.name)
		for _, t := range u.tests {
			if names++; t.failed && names <= namesMost {
				s.say("     %s", t.name)
			}
		}
	}
	s.say("passed %d, skipped %d, packages failed %d", s.passed, s.skipped, len(s.failed))
}

// unsteady names the tests that failed, if they are few and nothing else did.
func (s *suite) unsteady() string {
	var names []string
	for _, u := range s.failed {
		if len(u.tests) == 0 {
			return "" // it was not built, or ended by itself
		}
		for _, t := range u.tests {
			if !t.failed || t.raced {
				return ""
			}
			if !strings.Contains(t.name, "/") {
				names = append(names, u.name+" "+t.name+"\n")
			}
		}
	}
	if len(names) > unsteadyMost {
		return ""
	}
	return strings.Join(names, "")
}

// excerpt is the beginning and the end of a text.
type excerpt struct {
	lines      int
	head, tail []string // of at most longForm lines each
}

func (x *excerpt) add(line string) {
	x.lines++
	line = cut(line)
	if len(x.head) < longForm {
		x.head = append(x.head, line)
		return
	}
	if len(x.tail) == longForm {
		x.tail = slices.Delete(x.tail, 0, 1)
	}
	x.tail = append(x.tail, line)
}

// print prints so many lines of the beginning and of the end.
func (x *excerpt) print(w io.Writer, most int) {
	head := x.head[:min(len(x.head), most)]
	rest := slices.Concat(x.head[len(head):], x.tail)
	tail := rest[max(0, len(rest)-most):]
	for _, line := range head {
		fmt.Fprintln(w, line)
	}
	if n := x.lines - len(head) - len(tail); n > 0 {
		fmt.Fprintf(w, "    … %d lines …\n", n)
	}
	for _, line := range tail {
		fmt.Fprintln(w, line)
	}
}

// cut shortens a line that is too wide.
func cut(line string) string {
	if len(line) <= widthMost {
		return line
	}
	return strings.ToValidUTF8(line[:widthMost], "") + "…"
}
