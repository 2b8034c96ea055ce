package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
)

// app is what every command runs in. It holds its context because kong hands
// commands one value, and both last as long as the process.
type app struct {
	ctx      context.Context // done at SIGINT and SIGTERM
	in       io.Reader
	out, err io.Writer // err is for progress and errors
	json     bool
	store    string                 // the journal's file, or its database's URL
	schema   string                 // in that database
	given    func(flag string) bool // on the command line, not by the environment
}

// open opens the journal for reading and operating. One that is not there is refused:
// the store would make one, and an operator who mistyped a name would see an empty service.
func (a *app) open() (*weir.Engine, error) {
	// The service's own limit on bodies is not known here: an edit may use all that there is.
	config := weir.Config{MaxBody: 1 << 20}
	var e *weir.Engine
	var err error
	if a.onServer() {
		err = a.onSchema(func(options ...postgres.Option) (err error) {
			e, err = weir.Open(a.ctx, postgres.DB(a.store, append(options, postgres.Existing())...), config)
			return err
		})
	} else if err = checkStore(a.store); err != nil {
		return nil, err
	} else {
		e, err = weir.Open(a.ctx, sqlite.File(a.store, sqlite.Existing()), config)
	}
	if err != nil && a.ctx.Err() == nil {
		err = fmt.Errorf("%w (is it the journal you mean? give --store FILE or postgres://…, or set WEIR_STORE)", err)
	}
	return e, err
}

// onSchema opens the schema. What is to be looked at, or mended, may be on a server that loses what was
// committed: it is said, and not refused as it is to a service.
func (a *app) onSchema(open func(options ...postgres.Option) error) error {
	err := open(postgres.Schema(a.schema))
	if errors.Is(err, postgres.ErrUnsafe) && a.ctx.Err() == nil {
		a.progress("weir: careful: %s", explain(a.ctx, err))
		err = open(postgres.Schema(a.schema), postgres.Unsafe())
	}
	return err
}

// onServer reports whether the store is a PostgreSQL database: a URL, not a file.
func (a *app) onServer() bool { return isServer(a.store) }

func isServer(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

// checkStore says what to do when there is no file.
func checkStore(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(path, "@="): // not shown: it may hold a password
		return errors.New("--store is no file, and no URL of a database: give --store FILE or --store postgres://user@host/database, or set WEIR_STORE")
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no journal at %s: give --store FILE or set WEIR_STORE", path)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: give --store FILE or set WEIR_STORE", path)
	}
	return nil
}

// print ends a command: v as a JSON object with --json, else what text writes,
// with tabs between a table's cells. Control characters do not get through.
func (a *app) print(v any, text func(w *tabwriter.Writer)) error {
	if a.json {
		return a.printJSON(v)
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	text(w)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, safeLines(b.String()))
	return err
}

func (a *app) printJSON(v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

// progress tells a person what goes on, on standard error.
func (a *app) progress(format string, args ...any) {
	fmt.Fprintln(a.err, safe(fmt.Sprintf(format, args...)))
}

// fail ends the process: it says what is wrong and gives the exit code.
func (a *app) fail(err error) int {
	code := exitCode(err)
	if err == nil || err.Error() == errWrong.Error() {
		return code
	}
	text := explain(a.ctx, err)
	fmt.Fprintln(a.err, "weir: "+text)
	if a.json && code != exitWrong { // else the command has printed its object
		if err := a.printJSON(failure{Error: text, Code: code}); err != nil {
			fmt.Fprintln(a.err, "weir: "+explain(a.ctx, err))
		}
	}
	return code
}

// failure is what --json prints of an error.
type failure struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}
