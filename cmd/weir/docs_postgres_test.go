package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/weir-go/weir/store/postgres"
)

// What docs/postgres.md says is to be run can be run, in its order.
func TestDocsPostgres(t *testing.T) {
	text, err := os.ReadFile("../../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	at := server(t)
	t.Setenv("WEIR_STORE", at)
	ran := 0
	for i, block := range strings.Split(string(text), "```") {
		language, body, _ := strings.Cut(block, "\n")
		switch {
		case i%2 == 0 || language == "go":
			continue
		case language == "sql":
			psql(t, at, body)
		case language == "sh":
			for line := range strings.Lines(body) {
				command, toPsql := strings.CutSuffix(strings.TrimSpace(line), ` | psql "$WEIR_STORE"`)
				said := cmdline(t, 0, "", words(command)[1:]...)
				if toPsql {
					psql(t, at, said.out)
				}
			}
		default:
			t.Errorf("a block of %q: want go, sh or sql", language)
		}
		ran++
	}
	if ran < 4 {
		t.Errorf("ran %d blocks, want those there are", ran)
	}
	for _, role := range []string{"orders_app", "orders_eyes"} {
		s, err := postgres.DB(strings.Replace(at, "user=postgres", "user="+role, 1), postgres.Existing())(t.Context())
		if err != nil {
			t.Fatalf("open as %s = %v, want nil", role, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// Commands in the text are of this program, too.
	var c cli
	parser, err := newParser(&c, streams{nil, io.Discard, io.Discard}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "`") {
		if command, ok := strings.CutPrefix(part, "weir "); ok && !strings.Contains(command, "\n") {
			if _, err := parser.Parse(strings.Fields(command)); err != nil {
				t.Errorf("weir %s: %v", command, err)
			}
		}
	}
}
