// Package leak looks for what must not be somewhere: it searches all bytes of files and all
// columns of tables for a text, also as the forms in which programs write it down without
// meaning to.
package leak

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Find is a place where the text is.
type Find struct {
	Where string // a file, or a table
	How   string // in which form: "as it is", "in hex"
	Times int    // how often
}

func (f Find) String() string { return fmt.Sprintf("%s: %s, %d times", f.Where, f.How, f.Times) }

// Times is how often the text was found in all.
func Times(finds []Find) (n int) {
	for _, f := range finds {
		n += f.Times
	}
	return n
}

// Search is what is searched for.
type Search struct{ forms []form }

type form struct {
	how  string
	text []byte
}

// For is a search for a text of digits, 6 at the least: with less, chance would find it.
func For(digits string) (*Search, error) {
	if len(digits) < digitsMin || strings.Trim(digits, "0123456789") != "" {
		return nil, fmt.Errorf("leak: search for %q: want %d digits or more", digits, digitsMin)
	}
	s := &Search{}
	add := func(how string, text []byte) { s.forms = append(s.forms, form{how, text}) }
	add("as it is", []byte(digits))
	add("in hex", []byte(hex.EncodeToString([]byte(digits)))) // of digits it has no letters
	for _, by := range []string{" ", "-", "."} {
		add(fmt.Sprintf("in groups with %q", by), []byte(strings.Join(groups(digits), by)))
	}
	for shift := range 3 {
		add("in base64", inBase64(digits, shift))
	}
	add("in UTF-16", []byte(strings.Join(strings.Split(digits, ""), "\x00"))) // whichever byte comes first
	return s, nil
}

const (
	digitsMin = 6
	group     = 4 // digits, as on a card
)

func groups(digits string) (all []string) {
	for g := range slices.Chunk([]byte(digits), group) {
		all = append(all, string(g))
	}
	return all
}

// inBase64 is what is always there of the digits in base64, when so many bytes stand before
// them in a group of three.
func inBase64(digits string, shift int) []byte {
	text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + digits))
	first := (shift*8 + 5) / 6                      // the characters before depend on other bytes, too
	last := (shift + len(digits)) * 8 / 6           // and so do those behind
	return []byte(text[first:min(last, len(text))]) // of digits it has no + or /: the alphabet for URLs is the same
}

const chunk = 1 << 20

// Read searches all that r gives, which is called where.
func (s *Search) Read(where string, r io.Reader) ([]Find, error) {
	longest := 0
	for _, f := range s.forms {
		longest = max(longest, len(f.text))
	}
	times := make([]int, len(s.forms))
	buffer := make([]byte, 0, chunk+longest)
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):len(buffer)+chunk])
		buffer = buffer[:len(buffer)+n]
		over := err != nil
		if over && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("search %s: %w", where, err)
		}
		// What begins in the last bytes is counted with the next chunk, where it is whole.
		kept := len(buffer)
		if !over {
			kept = len(buffer) - longest + 1
		}
		for i, f := range s.forms {
			times[i] += starts(buffer, f.text, kept)
		}
		if over {
			return finds(where, s.forms, times), nil
		}
		buffer = append(buffer[:0], buffer[kept:]...)
	}
}

// starts counts where text starts in b before an end.
func starts(b, text []byte, end int) (n int) {
	for at := 0; ; n++ {
		i := bytes.Index(b[at:], text)
		if i < 0 || at+i >= end {
			return n
		}
		at += i + 1
	}
}

func finds(where string, forms []form, times []int) (all []Find) {
	for i, n := range times {
		if n > 0 {
			all = append(all, Find{where, forms[i].how, n})
		}
	}
	return all
}

// Files searches all files below a directory, and their names, but for those that skip says.
// It counts the files searched, so that a search of nothing is noticed.
func (s *Search) Files(dir string, skip func(path string) bool) (found []Find, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was removed meanwhile
		}
		if err != nil || skip != nil && skip(path) || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		name, err := s.Read("the name of "+path, strings.NewReader(path))
		if err != nil {
			return err
		}
		text, err := s.Read(path, f)
		found, files = append(append(found, name...), text...), files+1
		return err
	})
	return found, files, err
}

// Querier is a database.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Rows searches the answer to a query, all columns of all rows, as they are: bytes too.
func (s *Search) Rows(ctx context.Context, where string, db Querier, query string) (found []Find, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", where, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	times := make([]int, len(s.forms))
	values, to := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return nil, fmt.Errorf("search %s: %w", where, err)
		}
		for _, v := range values {
			for i, f := range s.forms {
				times[i] += starts(v, f.text, len(v))
			}
		}
	}
	return finds(where, s.forms, times), rows.Err()
}

// The lists of tables that Tables asks for.
const (
	TablesSQLite   = `select name from sqlite_master where type = 'table'`
	TablesPostgres = `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = current_schema() and c.relkind in ('r', 'm')`
)

// Tables searches all columns of all tables of a database: in its files a long value may lie
// in parts, where a search of bytes misses it. It counts the tables.
func (s *Search) Tables(ctx context.Context, where string, db Querier, list string) (found []Find, tables int, err error) {
	names, err := tableNames(ctx, db, list)
	if err != nil {
		return nil, 0, fmt.Errorf("search %s: %w", where, err)
	}
	for _, name := range names {
		some, err := s.Rows(ctx, where+" "+name, db, `select * from "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, some...)
	}
	return found, len(names), nil
}

func tableNames(ctx context.Context, db Querier, list string) (names []string, err error) {
	rows, err := db.QueryContext(ctx, list)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
