// Package house holds the rules of the house that a machine can check: who may
// import whom (law.go), how large things may grow (budget.go), which
// package-level variables there may be (vars.go), and that no test waits by
// sleeping (sleep.go). Its test reads every Go file of the module; nothing else
// imports it.
//
// Files are parsed, not built: the rules hold for every operating system's
// files and for code that does not compile yet. A folder with a go.mod of its
// own is another module and is left alone.
package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the path of the module the rules are for.
const Module = "github.com/weir-go/weir"

// tree is a module's Go files.
type tree struct {
	fset  *token.FileSet
	files []*file // by path
}

// file is one Go file.
type file struct {
	*ast.File
	path      string // from the module's root, with slashes
	lines     int
	test      bool // named _test.go
	generated bool // says so, in the standard form
}

// dir is the file's package, as the law names it: "." for the root.
func (f *file) dir() string { return path.Dir(f.path) }

// Check reads all Go files of the module and returns what breaks the rules, a
// line each, by file. The error is of reading or parsing.
func Check(module fs.FS) ([]string, error) {
	t, err := read(module)
	if err != nil {
		return nil, err
	}
	var faults []string
	faults = append(faults, t.checkLaw()...)
	faults = append(faults, t.checkNames()...)
	faults = append(faults, t.checkSleep()...)
	for _, p := range t.packages() {
		faults = append(faults, p.checkSizes()...)
		faults = append(faults, p.checkVars()...)
	}
	slices.Sort(faults)
	return faults, nil
}

func read(module fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(module, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(module, name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := t.parse(module, name)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		t.files = append(t.files, f)
		return nil
	})
	return t, err
}

// enter decides like the go command which folders belong to the module.
func enter(module fs.FS, name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := fs.Stat(module, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (t *tree) parse(module fs.FS, name string) (*file, error) {
	text, err := fs.ReadFile(module, name)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &file{
		File:      parsed,
		path:      name,
		lines:     bytes.Count(text, []byte("\n")),
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(parsed),
	}, nil
}

// fault says what is wrong at a place.
func (t *tree) fault(at token.Pos, format string, args ...any) string {
	p := t.fset.Position(at)
	return fmt.Sprintf("%s:%d: ", p.Filename, p.Line) + fmt.Sprintf(format, args...)
}
