package house_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are the documents that people read, from the module's folder.
func pages(t *testing.T) (root string, all []string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.md", "docs/*.md", "bench/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 10 {
		t.Fatalf("found %q, want all documents", all)
	}
	return root, all
}

// imported are the packages that code in documents may name without importing them.
var imported = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "json": "encoding/json", "log": "log", "os": "os",
	"signal": "os/signal", "slog": "log/slog", "sql": "database/sql", "strconv": "strconv", "sync": "sync", "synctest": "testing/synctest",
	"testing": "testing", "time": "time", "pgx": "github.com/jackc/pgx/v5", "pgxpool": "github.com/jackc/pgx/v5/pgxpool",
	"weir": root, "postgres": root + "/store/postgres", "sqlite": root + "/store/sqlite", "transport": root + "/transport",
	"jetstream": root + "/transport/jetstream", "local": root + "/transport/local", "broker": root + "/transport/jetstream/broker",
	"weirtest": root + "/weirtest",
}

// withImports is a file of a page's package with the packages that its code names.
func withImports(code, at string) string {
	var paths []string
	for name, path := range imported {
		if regexp.MustCompile(`(^|[^.\w"])` + name + `\.[A-Z]`).MatchString(code) {
			paths = append(paths, fmt.Sprintf("%q", path))
		}
	}
	slices.Sort(paths)
	return fmt.Sprintf("package page\n\nimport (\n%s\n)\n\n//line %s\n%s", strings.Join(paths, "\n"), at, code)
}

// blockFile makes a file of a block of Go: a program as it is, declarations, or statements, which are put into a
// function. declared are the names that the page's package has.
func blockFile(code, at string, declared map[string]bool) (file string, program bool, err error) {
	if strings.HasPrefix(code, "package main") {
		return "//line " + at + "\n" + strings.Replace(code, "package main", "package page", 1), true, nil
	}
	if names, err := declares("package page\n" + code); err == nil && !slices.ContainsFunc(names, func(n string) bool { return declared[n] }) {
		for _, n := range names {
			declared[n] = true
		}
		return withImports(code, at), false, nil
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "", "package page\nfunc _() {\n"+code+"\n}", 0)
	if err != nil {
		return "", false, err
	}
	used := map[string]bool{} // what a fragment declares, it need not use
	for _, s := range parsed.Decls[0].(*ast.FuncDecl).Body.List {
		switch s := s.(type) {
		case *ast.AssignStmt:
			for _, left := range s.Lhs {
				if name, ok := left.(*ast.Ident); ok && s.Tok == token.DEFINE && name.Name != "_" {
					used["_ = "+name.Name] = true
				}
			}
		case *ast.DeclStmt:
			for _, spec := range s.Decl.(*ast.GenDecl).Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					used["_ = "+v.Names[0].Name] = true
				}
			}
		}
	}
	end := strings.Join(slices.Sorted(maps.Keys(used)), "\n")
	return withImports("func _() {\n//line "+at+"\n"+code+"\n"+end+"\n}", at), false, nil
}

// declares are the names that a file declares, but for methods.
func declares(file string) (names []string, err error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "", file, 0)
	if err != nil {
		return nil, err
	}
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names, nil
}

// Every block of Go in the documents is built, with what testdata/docs declares for its page.
func TestGoInDocumentsIsBuilt(t *testing.T) {
	t.Parallel()
	module, all := pages(t)
	replace, packages, blocks := map[string]string{}, map[string]bool{}, 0
	dir := t.TempDir()
	add := func(folder, name, file string) {
		path := filepath.Join(dir, folder+"-"+name)
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		folder = "internal/house/pages/" + folder
		replace[filepath.Join(module, folder, name)], packages["./"+folder] = path, true
	}
	for _, page := range all {
		name := strings.ToLower(strings.TrimSuffix(filepath.Base(page), ".md"))
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		declared := map[string]bool{}
		if given, err := os.ReadFile("testdata/docs/" + name + ".go"); err == nil {
			names, err := declares(string(given))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				declared[n] = true
			}
			_, code, _ := strings.Cut(string(given), "package page\n")
			add(name, "given.go", withImports(code, "testdata/docs/"+name+".go:2"))
		}
		parts := strings.Split(string(text), "```")
		for i := 1; i < len(parts); i += 2 {
			language, code, _ := strings.Cut(parts[i], "\n")
			if language != "go" {
				continue
			}
			line := strings.Count(strings.Join(parts[:i], ""), "\n") + 2
			file, program, err := blockFile(code, fmt.Sprintf("%s:%d", page, line), declared)
			if err != nil {
				t.Errorf("%s:%d: %v", page, line, err)
				continue
			}
			folder := name
			if program {
				folder += fmt.Sprint("-program-", line)
			}
			add(folder, fmt.Sprintf("block%d.go", line), file)
			blocks++
		}
	}
	if blocks < 20 {
		t.Errorf("found %d blocks of Go, want those there are", blocks)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-overlay", list}, slices.Sorted(maps.Keys(packages))...)...)
	build.Dir = module
	if said, err := build.CombinedOutput(); err != nil {
		t.Errorf("Go in documents: %v\n%s", err, said)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unslug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	fenced  = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// slugs are the anchors of a page's headings.
func slugs(page string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		all = append(all, strings.ReplaceAll(unslug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return all
}

// A link from one document leads to a file, and to a heading of it, that is there.
func TestLinksInDocuments(t *testing.T) {
	t.Parallel()
	_, all := pages(t)
	links := 0
	for _, page := range all {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: link %s: %v", page, m[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			there, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(slugs(string(there)), anchor) {
				t.Errorf("%s: link %s: want one of the headings %q", page, m[1], slugs(string(there)))
			}
		}
	}
	if links < 20 {
		t.Errorf("found %d links, want those there are", links)
	}
}
