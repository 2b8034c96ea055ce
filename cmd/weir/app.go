package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// app is what every command runs in. It holds its context because kong hands
// commands one value, and both last as long as the process.
type app struct {
	ctx      context.Context // done at SIGINT and SIGTERM
	in       io.Reader
	out, err io.Writer // err is for progress and errors
	json     bool
	store    string // the journal's file
}

// open opens the journal for reading and operating. A file that is not there, or
// is no journal, is refused: the store would make one, and an operator who
// mistyped a name would see an empty service.
func (a *app) open() (*weir.Engine, error) {
	if err := checkJournal(a.store); err != nil {
		return nil, err
	}
	// The service's own limit on bodies is not known here: an edit may use all that there is.
	return weir.Open(a.ctx, sqlite.File(a.store), weir.Config{MaxBody: 1 << 20})
}

const (
	sqliteMagic       = "SQLite format 3\x00"
	sqliteHeader      = 100 // bytes, of which these are read:
	sqliteUserVersion = 60  // offset of PRAGMA user_version, a big-endian uint32; 0 before weir's schema
)

// checkJournal looks at the file before SQLite does. While there is a WAL the
// header may be older than what it says, so the last word is the store's own.
func checkJournal(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no journal at %s: give --store FILE or set WEIR_STORE", path)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: give --store FILE or set WEIR_STORE", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, sqliteHeader)
	if n, err := io.ReadFull(f, header); err != nil || !bytes.HasPrefix(header[:n], []byte(sqliteMagic)) {
		return fmt.Errorf("%s is not a journal: give --store FILE or set WEIR_STORE", path)
	}
	wal, err := os.Stat(path + "-wal")
	if binary.BigEndian.Uint32(header[sqliteUserVersion:]) == 0 && (err != nil || wal.Size() == 0) {
		return fmt.Errorf("%s is an SQLite file without a journal in it: give --store FILE, or start the service that makes it", path)
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
