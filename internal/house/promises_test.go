package house_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-go/weir/store/storetest"
	"github.com/weir-go/weir/transport/transporttest"
)

// Every sentence of docs/promises.md names what proves it, and that is there.
func TestPromises(t *testing.T) {
	module := os.DirFS("../..")
	text, err := fs.ReadFile(module, "docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := readProofs(module)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range promises(string(text)) {
		n++
		for _, fault := range p.faults(proofs) {
			t.Errorf("docs/promises.md: %s: %s", p.says, fault)
		}
	}
	if n < 50 {
		t.Errorf("docs/promises.md has %d promises: are they read as they are written?", n)
	}
}

// What is wrong with a promise is found.
func TestPromisesBite(t *testing.T) {
	have := map[string]bool{"weir.TestDedup": true, "fence/settled": true, "weir demo --kill 5": true}
	for _, c := range []struct{ text, want string }{
		{"- It holds (`weir.TestDedup`, `fence/settled`, `weir demo --kill 5`).", ""},
		{"- It holds (`fence/settled`). So does this (`weir.TestDedup`).", ""},
		{"- It holds,\n  on two lines (`fence/settled`).", ""},
		{"- It holds.", "names no proof"},
		{"- It holds (`fence/settled`). This does not.", "names no proof"},
		{"- It holds. So does this (`fence/settled`).", "a sentence before it names no proof"},
		{"- It holds (as said).", "names no proof"},
		{"- It holds (`weir.TestNothing`).", "there is no weir.TestNothing"},
		{"- It holds (`fence/broken`).", "there is no fence/broken"},
		{"- It holds (`weir demo --kill 7`).", "there is no weir demo --kill 7"},
		{"It holds, in a paragraph.", "is no list of promises"},
		{"## What is not promised\n\n- Nothing else.", ""},
	} {
		got := ""
		text := "## Delivery\n\n" + c.text
		if strings.HasPrefix(c.text, "## ") {
			text = c.text
		}
		for _, p := range promises("# Title\n\nWhat is said first.\n\n" + text + "\n") {
			got += strings.Join(p.faults(have), "; ")
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("faults of %q = %q, want %q", c.text, got, c.want)
		}
	}
}

// promise is a sentence and the names of what proves it.
type promise struct {
	says   string
	proofs []string
	wrong  string // it is not written as promises are
}

const notPromised = "What is not promised"

// proven is a sentence with its proofs in parentheses.
var proven = regexp.MustCompile("(?s)^(.*?) \\((`[^`]+`(?:, `[^`]+`)*)\\)(?:\\. |\\.$|, and )")

// promises reads the lists of all sections but the last one.
func promises(text string) (all []promise) {
	for i, section := range strings.Split(text, "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		if i == 0 || strings.TrimSpace(title) == notPromised {
			continue
		}
		for block := range strings.SplitSeq("\n"+strings.TrimSpace(body), "\n- ") {
			block = strings.Join(strings.Fields(block), " ")
			if block == "" {
				continue
			}
			all = append(all, sentences(block)...)
		}
		if first := strings.TrimSpace(body); !strings.HasPrefix(first, "- ") {
			all = append(all, promise{says: title, wrong: "is no list of promises"})
		}
	}
	return all
}

func sentences(block string) (all []promise) {
	for block != "" {
		m := proven.FindStringSubmatch(block)
		if m == nil {
			return append(all, promise{says: block, wrong: "names no proof: a test, a law, or a demo of the gate, in parentheses at its end"})
		}
		p := promise{says: m[1]}
		if strings.Contains(m[1], ". ") {
			p.wrong = "a sentence before it names no proof"
		}
		for name := range strings.SplitSeq(m[2], ", ") {
			p.proofs = append(p.proofs, strings.Trim(name, "`"))
		}
		all = append(all, p)
		block = block[len(m[0]):]
	}
	return all
}

func (p promise) faults(have map[string]bool) (faults []string) {
	if p.wrong != "" {
		faults = append(faults, p.wrong)
	}
	for _, name := range p.proofs {
		if !have[name] {
			faults = append(faults, "there is no "+name)
		}
	}
	return faults
}

var (
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)
	gateDemo = regexp.MustCompile(`(?m)go run \./cmd/(weir demo[^\n]*?) --json$`)
)

// readProofs is what there is: tests by folder, laws by name, demos as the gate runs them.
func readProofs(module fs.FS) (map[string]bool, error) {
	have := map[string]bool{}
	for _, l := range storetest.Laws() {
		have[l.Name] = true
	}
	for _, l := range append(transporttest.Laws(), transporttest.BrokerLaws()...) {
		have[l.Name] = true
	}
	gate, err := fs.ReadFile(module, ".ci/run")
	if err != nil {
		return nil, err
	}
	for _, m := range gateDemo.FindAllStringSubmatch(string(gate), -1) {
		have[m[1]] = true
	}
	err = fs.WalkDir(module, ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || at == "bench/peers" || at != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(at, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(module, at)
		if err != nil {
			return err
		}
		folder := path.Dir(at)
		if folder == "." {
			folder = "weir"
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(source), -1) {
			have[folder+"."+m[1]] = true
		}
		return nil
	})
	return have, err
}
