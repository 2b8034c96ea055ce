package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

func TestHelp(t *testing.T) {
	cmdline(t, 0, "", "--help").has("Exit codes", "status", "queue ls", "dead retry", "doctor")
	cmdline(t, 0, "").has("Usage: weir")
	cmdline(t, 0, "", "queue", "pause", "--help").has("--why=REASON", "--by=WHO")
}

// Wrong usage ends with 2, says what was wrong in one line, and which help to ask.
func TestWrongUsage(t *testing.T) {
	for _, c := range []struct{ args, complaint string }{
		{"nonsense", "see weir --help"},
		{"queue", "see weir queue --help"},
		{"queue pause kitchen.cook", "--why"},
		{"queue pause kitchen.cook --why=", "--why is empty"},
		{"queue pause kitchen.cook --why=x --by=", "--by WHO is missing"},
		{"queue ls --window 1s", "want 1m to 24h"},
		{"queue show q --window 25h", "want 1m to 24h"},
		{"status --window 25h", "want 1m to 24h"},
		{"message ls --max 0", "want 1 to 1000"},
		{"message ls --max 1001", "want 1 to 1000"},
		{"message show", "<id>"},
		{"trace", "<key>"},
		{"trace k --max 2000", "want 1 to 1000"},
		{"audit ls --max 2000", "want 1 to 1000"},
		{"dead ls --max 2000", "want 1 to 1000"},
		{"dead ls --group --after x-1", "--group"},
		{"dead retry --why x", "which dead letters?"},
		{"dead retry --why x --all", "--queue is missing"},
		{"dead retry --why x --queue q --all --matching y", "exclude each other"},
		{"dead retry k-1 --all --why x", "not both"},
		{"dead retry --queue q --all --body - --why x", "--body is for one message"},
		{"dead retry k-1 --body - --dry-run --why x", "exclude each other"},
		{"dead retry k-1", "--why"},
		{"dead retry k-1 --why=", "--why is empty"},
		{"dead discard --queue q --all", "--why"},
		{"dead discard --queue q --why x", "which dead letters?"},
		{"run", "see weir run --help"},
		{"run show", "<id>"},
		{"run why", "<id>"},
		{"run ls --max 1001", "want 1 to 1000"},
		{"run ls --state asleep", "want one of ready, running"},
		{"run cancel order-1", "--why"},
		{"run cancel order-1 --why=", "--why is empty"},
		{"run retry order-1 --why=x --by=", "--by WHO is missing"},
		{"run settle order-1 --why x", "--value JSON"},
		{"run settle order-1 --why x --value 1 --failed", "exclude each other"},
		{"run settle order-1 --why x --value paid", "is not JSON"},
		{"run skip order-1", "--why"},
		{"run abandon order-1", "--why"},
		{"lock", "see weir lock --help"},
		{"lock ls --max 0", "want 1 to 1000"},
		{"lock break order/7", "--why"},
		{"lock break --why x", "<name>"},
	} {
		cmdline(t, 2, "", strings.Split(c.args, " ")...).complains(c.complaint, "see weir")
	}
}

// With --json an error is an object on standard output too.
func TestErrorsAsJSON(t *testing.T) {
	var m any
	cmdline(t, 2, "", "queue", "ls", "--window", "1s", "--json").complains("--window").object(&m)
	f := fields(t, m, "error", "code")
	if f["code"] != jsonNumber("2") || !strings.Contains(f["error"].(string), "--window") {
		t.Errorf("error object is %v, want code 2 and --window", f)
	}
	cmdline(t, 1, "", "status", "--json", "--store", filepath.Join(t.TempDir(), "none.db")).object(&m)
	fields(t, m, "error", "code")
}

// A file that is not there, or is no journal, is refused and left as it is.
func TestNoJournal(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.db")
	cmdline(t, 1, "", "status", "--store", missing).complains("no journal at "+missing, "--store FILE", "WEIR_STORE")
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("Stat of the missing file = %v: it was made", err)
	}
	t.Setenv("WEIR_STORE", missing)
	cmdline(t, 1, "", "queue", "ls").complains("no journal at " + missing)
	cmdline(t, 1, "", "status", "--store", dir).complains("is not a file")
	for name, content := range map[string]string{
		"empty.db": "",
		"text.db":  strings.Repeat("not a database ", 20),
		"other.db": "SQLite format 3\x00" + strings.Repeat("\x00", 100),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		cmdline(t, 1, "", "doctor", "--store", path).complains("journal", "--store FILE")
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%s was changed", name)
		}
	}
}

// A journal nobody has worked yet is shown, not complained of.
func TestEmptyJournal(t *testing.T) {
	j := newJournal(t)
	e, err := weir.Open(t.Context(), sqlite.File(j.file), weir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	j.weir(0, "status").has("none has worked it yet", "No queues yet")
	j.weir(0, "queue", "ls").has("No queues yet")
	j.weir(0, "message", "ls").has("No messages")
	j.weir(0, "dead", "ls").has("No dead letters")
	j.weir(0, "dead", "ls", "--group").has("No dead letters")
	j.weir(0, "audit", "ls").has("No acts")
	j.weir(0, "doctor").has("All is well")
	j.weir(0, "run", "ls").has("No runs.")
	j.weir(0, "lock", "ls").has("No run holds a lock.")
	j.weir(3, "trace", "order-1").complains("order-1")
	j.weir(3, "run", "why", "order-1").complains("order-1")
	for args, lists := range map[string][]string{
		"status": {"queues", "workflows", "needs_person", "problems"}, "queue ls": {"queues"}, "message ls": {"messages"},
		"run ls": {"runs"}, "lock ls": {"locks"},
		"dead ls": {"dead"}, "dead ls --group": {"groups"}, "audit ls": {"audit"}, "doctor": {"findings"},
	} {
		var m map[string]any
		j.weir(0, append(strings.Split(args, " "), "--json")...).object(&m)
		for _, name := range lists {
			list(t, m, name, 0)
		}
	}
}

func TestVersion(t *testing.T) {
	cmdline(t, 0, "", "version").has(weir.Version)
	var m any
	cmdline(t, 0, "", "version", "--json").object(&m)
	fields(t, m, "weir", "revision", "go", "platform", "sqlite_driver")
}
