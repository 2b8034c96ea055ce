package main

import (
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// docs/cli.md names every verb, and every field that --json prints.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(text)
	var c cli
	parser, err := newParser(&c, streams{nil, io.Discard, io.Discard}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range parser.Model.Leaves(true) {
		for _, name := range append([]string{verb.Name}, verb.Aliases...) {
			path := verb.Parent.Path() + " " + name
			if verb.Parent == parser.Model.Node {
				path = name
			}
			if !strings.Contains(docs, "`weir "+path) {
				t.Errorf("docs/cli.md has no `weir %s`", path)
			}
		}
	}
	for _, v := range []any{
		failure{}, statusView{}, storeView{}, totalsView{}, problemView{}, processView{}, queueView{}, pauseView{}, queueActView{},
		messageView{}, bodyView{}, storyView{}, queueStoryView{}, attemptView{}, deadView{}, deadGroup{}, actedView{},
		auditView{}, doctorView{}, versionView{},
		runView{}, runStoryView{}, recordView{}, runAttemptView{}, waitView{}, mailView{}, runWhyView{}, runActView{},
		lockView{}, lockWaiterView{}, lockBreakView{}, workflowView{}, migrateView{}, brokerView{},
		laneOutView{}, laneInView{}, storeRenewView{},
		replicaView{}, snapshotView{}, wishView{}, entryView{}, resyncView{},
	} {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" && !strings.Contains(docs, "`"+name+"`") && !strings.Contains(docs, `"`+name+`"`) {
				t.Errorf("docs/cli.md has no `%s`, a field of %T", name, v)
			}
		}
	}
}
