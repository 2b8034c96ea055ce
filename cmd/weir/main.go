// Command weir runs the broker, the demos and the benchmarks, and lets a person look into a
// journal and operate it: what waits, what happened to an order, what died and why.
//
// It opens the journal's file beside the service that works it; reading holds
// nobody up. What it changes (pause, retry, discard, settle) asks who and why
// and leaves an audit row.
//
// Output is made for people; with --json it is one JSON object on the last line
// of standard output, and whatever is said meanwhile goes to standard error.
//
// Exit codes, for scripts:
//
//	0  done
//	1  an error
//	2  wrong usage
//	3  what was asked for is not in the store
//	4  refused by the present state: a conflict, a store held by another process, a full queue
//	5  status or doctor found something wrong
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line: one field a noun, each in the file of its name.
type cli struct {
	Store  string `short:"s" env:"WEIR_STORE" default:"weir.db" placeholder:"FILE" help:"The journal's file, or postgres://… (${env}, default ${default})."`
	Schema string `env:"WEIR_SCHEMA" default:"weir" placeholder:"NAME" help:"The journal's schema in a PostgreSQL database (${env}, default ${default})."`
	JSON   bool   `name:"json" help:"Print one JSON object on the last line of standard output."`

	Demo     demoCmd     `cmd:"" help:"See weir at work: a restaurant whose engine may be killed."`
	Bench    benchCmd    `cmd:"" help:"Measure weir on this machine."`
	Status   statusCmd   `cmd:"" help:"The store, who works it, its queues and workflows in a line each. Exit code 5 if something is wrong."`
	Queue    queueCmd    `cmd:"" help:"Queues: figures, pause and resume."`
	Message  messageCmd  `cmd:"" help:"Messages: what was sent, and what became of it."`
	Run      runCmd      `cmd:"" help:"Runs of workflows: look, why they wait, cancel, and settle what needs a person."`
	Lock     lockCmd     `cmd:"" help:"Named locks that runs hold: look, break."`
	Replica  replicaCmd  `cmd:"" help:"Entities that the store owns or follows: figures, entries, resync."`
	Boundary boundaryCmd `cmd:"" help:"What goes between this store and others: what waits, and for what."`
	Trace    traceCmd    `cmd:"" help:"Everything that happened to a business key, in order."`
	Dead     deadCmd     `cmd:"" help:"Dead letters: look, retry, edit and retry, discard."`
	Audit    auditCmd    `cmd:"" help:"What operators did, and why."`
	Doctor   doctorCmd   `cmd:"" help:"Look for what should not be, and say what to do. Exit code 5 if there is any."`
	Restored storeCmd    `cmd:"" name:"store" help:"The store itself: a new life, after it was restored from a copy."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the journal to this version of weir: look, do it, or print the SQL."`
	Broker   brokerCmd   `cmd:"" aliases:"serve" help:"The broker between boundaries: a NATS server that syncs what it keeps, until it is told to stop."`
	Version  versionCmd  `cmd:"" help:"This program's version and what it was built with."`
}

const description = `weir: resilient asynchronous messaging in the service's own process and database.

Exit codes: 0 done; 1 an error; 2 wrong usage; 3 not found in the store;
4 refused by the present state (conflict, held, queue full); 5 status or doctor found something wrong.`

// streams are the standard ones, or a test's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is main without the process around it: it returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	var c cli
	helped := false
	parser, err := newParser(&c, std, func() { helped = true })
	if err != nil { // the tags of cli are wrong: every test says so
		fmt.Fprintln(std.err, "weir:", err)
		return exitError
	}
	a := &app{ctx: ctx, in: std.in, out: std.out, err: std.err, json: slices.Contains(args, "--json")}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		return a.fail(usageError(parsing(err)))
	}
	a.store, a.schema, a.json = c.Store, c.Schema, c.JSON
	a.given = func(flag string) bool {
		return slices.ContainsFunc(parsed.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == flag })
	}
	return a.fail(parsed.Run(a))
}

// newParser reads command lines into c; help is called when that was asked for and given.
func newParser(c *cli, std streams, help func()) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("weir"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.Exit(func(int) { help() }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Vars{"by": operator()},
	)
}

// parsing makes kong's errors ours, with the help to ask for.
func parsing(err error) error {
	help := "weir --help"
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil {
		if command := p.Context.Selected(); command != nil {
			help = command.FullPath() + " --help"
		}
	}
	return fmt.Errorf("%w (see %s)", err, help)
}

// operator is who acts when --by does not say.
func operator() string {
	for _, name := range []string{"USER", "USERNAME"} {
		if by := os.Getenv(name); by != "" {
			return by
		}
	}
	if u, err := user.Current(); err == nil { // containers often set none of them
		return u.Username
	}
	return ""
}
