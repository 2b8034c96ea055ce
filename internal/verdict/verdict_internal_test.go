package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// script writes events as go test does: "action package test output", the output in Go's syntax.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range lines {
		f := strings.SplitN(line, " ", 4)
		e := event{Action: f[0], Package: f[1]}
		if len(f) > 2 && f[2] != "-" {
			e.Test = f[2]
		}
		if len(f) > 3 {
			e.Output = f[3] + "\n"
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

// What passes says nothing, what is skipped says why, and what fails is told twice, its name last.
func TestReport(t *testing.T) {
	in := "go: downloading example.com\n" + script(t,
		"run a TestGood", "output a TestGood === RUN   TestGood", "output a TestGood     a_test.go:1: chatter", "pass a TestGood",
		"run a TestAway", "output a TestAway     a_test.go:2: no server", "output a TestAway --- SKIP: TestAway (0.00s)", "skip a TestAway",
		"output a - ok  \ta\t1.2s", "pass a -",
		"run b TestBad", "run b TestBad/part", "output b TestBad/part     b_test.go:3: got 1, want 2", "fail b TestBad/part", "fail b TestBad",
		"run b TestHangs", "output b TestHangs panic: test timed out after 10m0s", "output b TestHangs running tests:", "run b TestLater",
		"output b - FAIL\tb\t3.4s", "fail b -",
		"run d TestDone", "output d TestDone --- PASS: TestDone (0.00s)", "output d TestDone panic: of a goroutine that was left", "pass d TestDone", "fail d -",
		"build-output c - c.go:1: undefined: x", "build-fail c -",
	)
	var out strings.Builder
	if _, err := report(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for text, times := range map[string]int{
		"go: downloading example.com\n": 1,
		"chatter":                       0,
		"=== RUN":                       0,
		"--- SKIP: TestAway in a\n    a_test.go:2: no server\n": 1,
		"ok  \ta\t1.2s\n": 1,
		"--- FAIL: TestBad/part in b\n    b_test.go:3: got 1":    2,
		"--- FAIL: TestBad in":                                   0,
		"--- NEVER ENDED: TestHangs in b\npanic: test timed out": 2,
		"failed or never ended, too, in b: TestLater\n":          2,
		"FAIL\tb\t3.4s\n":                                        1,
		"--- in d\npanic: of a goroutine that was left\n":        2,
		"c.go:1: undefined: x\n":                                 2,
		"passed 2, skipped 1, packages failed 3\n":               1,
	} {
		if n := strings.Count(got, text); n != times {
			t.Errorf("%q is said %d times, want %d", text, n, times)
		}
	}
	if end := "FAIL b\n     TestBad\n     TestBad/part\nFAIL d\nFAIL c\npassed 2, skipped 1, packages failed 3\n"; !strings.HasSuffix(got, end) {
		t.Errorf("the end is not %q", end)
	}
	if t.Failed() {
		t.Logf("all:\n%s", got)
	}
}

// Of what is long the beginning and the end are shown, and no line is wide.
func TestReportIsBounded(t *testing.T) {
	lines := []string{"run a TestLong"}
	for n := range 10_000 {
		lines = append(lines, fmt.Sprintf("output a TestLong line-%d %s", n, strings.Repeat("é", n/10)))
	}
	for n := range 1_000 {
		name := fmt.Sprint("Test", n)
		lines = append(lines, "run a "+name, "output a "+name+" words", "fail a "+name)
	}
	lines = append(lines, "fail a TestLong", "fail a -")
	var out strings.Builder
	if _, err := report(strings.NewReader(script(t, lines...)), &out); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{"line-0 ", "line-39 ", "… 9920 lines …", "line-9960 ", "line-9999 "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not shown", want)
		}
	}
	if most := 120_000; len(got) > most {
		t.Errorf("%d bytes are shown, want at most %d", len(got), most)
	}
	for line := range strings.Lines(got) {
		if len(line) > widthMost+1_000 {
			t.Errorf("a line of %d bytes is shown", len(line))
		}
	}
}

// Tests that failed by what they check may be tried again, if they are few and nothing else failed.
func TestUnsteady(t *testing.T) {
	bad := func(pkg string, names ...string) (lines []string) {
		for _, name := range names {
			lines = append(lines, "run "+pkg+" "+name, "output "+pkg+" "+name+"     x_test.go:1: got 1, want 2", "fail "+pkg+" "+name)
		}
		return append(lines, "output "+pkg+" - FAIL\t"+pkg+"\t1.0s", "fail "+pkg+" -")
	}
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing failed":         {lines: []string{"run a TestGood", "pass a TestGood", "pass a -"}},
		"one, of two parts":      {bad("a", "TestBad/one", "TestBad/two", "TestBad"), "a TestBad\n"},
		"in two packages":        {append(bad("a", "TestA"), bad("b", "TestB", "TestC")...), "a TestA\nb TestB\nb TestC\n"},
		"many":                   {lines: bad("a", "TestA", "TestB", "TestC", "TestD")},
		"not built":              {lines: append(bad("a", "TestA"), "build-output c - c.go:1: undefined: x", "build-fail c -")},
		"a panic":                {lines: append([]string{"run a TestPanics", "output a TestPanics panic: x"}, bad("a", "TestA")...)},
		"a race":                 {lines: append([]string{"run a TestA", "output a TestA     testing.go:1: race detected during execution of test"}, bad("a", "TestA")...)},
		"an end by itself":       {lines: []string{"run a TestA", "pass a TestA", "output a - exit status 3", "fail a -"}},
		"a race while it passed": {lines: append([]string{"run a TestR", "output a TestR WARNING: DATA RACE", "fail a TestR"}, bad("a", "TestA")...)},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := report(strings.NewReader(script(t, c.lines...)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.unsteady(); got != c.want {
				t.Errorf("unsteady = %q, want %q", got, c.want)
			}
		})
	}
}
