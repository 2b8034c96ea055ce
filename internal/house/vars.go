package house

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// Two engines in one process must not meet, so no package keeps state in its
// variables. Allowed are, as long as the package nowhere assigns to them or
// takes their address:
//
//   - var _ I = …, and //go:embed;
//   - what the calls in constructors return, and another package's Err…;
//   - contracts: weir.NewCommand, NewEvent and so on;
//   - a lock around what a library keeps once for the whole process, with the comment
//     //house:lock and whose it is: nothing of ours is behind it;
//   - tables: an unexported composite literal of an array, slice or map that the
//     package only indexes, ranges over, measures with len, or gives to one of
//     readers. A table handed to anybody else could be written to, so it may not be.

// constructors return values that nobody changes.
var constructors = []string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}

// contracts are the root's constructors of immutable values.
var contracts = []string{"NewCommand", "NewRequest", "NewEvent", "NewWorkflow", "NewSignal", "NewEntity"}

// readers take a table and leave it as it is.
var readers = []string{
	"slices.Contains", "slices.ContainsFunc", "slices.Index", "slices.IndexFunc", "slices.BinarySearch", "slices.BinarySearchFunc",
	"slices.All", "slices.Values", "slices.Clone", "slices.Sorted", "slices.Equal",
	"maps.All", "maps.Keys", "maps.Values", "maps.Clone", "strings.Join",
}

// pkg is the checked files of one folder, with their identifiers resolved.
// Imports are not followed: what comes from elsewhere has no type.
type pkg struct {
	*tree
	dir   string
	files []*file
	info  *types.Info
}

// packages groups what budgets and variables are checked of: no tests, nothing generated.
func (t *tree) packages() []*pkg {
	byDir := map[string]*pkg{}
	for _, f := range t.files {
		if f.test || f.generated {
			continue
		}
		p := byDir[f.dir()]
		if p == nil {
			p = &pkg{tree: t, dir: f.dir()}
			byDir[f.dir()] = p
		}
		p.files = append(p.files, f)
	}
	for _, p := range byDir {
		p.resolve()
	}
	return slices.Collect(maps.Values(byDir))
}

func (p *pkg) resolve() {
	p.info = &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{},
		Defs:  map[*ast.Ident]types.Object{},
		Uses:  map[*ast.Ident]types.Object{},
	}
	parsed := make([]*ast.File, len(p.files))
	for i, f := range p.files {
		parsed[i] = f.File
	}
	// Its errors are expected: without imports much has no type. What is left is
	// all that is needed here.
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = config.Check(p.dir, p.fset, parsed, p.info)
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not followed") }

// methods counts an interface's methods, those embedded too.
func (p *pkg) methods(n *ast.InterfaceType) int {
	count := 0
	if i, ok := p.info.TypeOf(n).(*types.Interface); ok {
		count = i.NumMethods()
	}
	for _, m := range n.Methods.List {
		if _, foreign := m.Type.(*ast.SelectorExpr); foreign {
			count++
		}
	}
	return count
}

func (p *pkg) checkVars() []string {
	var faults []string
	isTable := map[types.Object]bool{} // of all package-level variables
	for _, f := range p.files {
		for _, d := range f.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				embedded := says(decl.Doc, "//go:embed ") || says(spec.Doc, "//go:embed ")
				lock := p.isLock(spec) && (says(decl.Doc, "//house:lock ") || says(spec.Doc, "//house:lock "))
				for i, name := range spec.Names {
					table := p.table(spec, i)
					isTable[p.info.Defs[name]] = table
					if name.Name != "_" && !embedded && !lock && !table && !p.immutable(spec, i) {
						faults = append(faults, p.fault(name.Pos(), "package-level variable %s may change: see internal/house/vars.go for what is allowed", name.Name))
					}
				}
			}
		}
	}
	for _, f := range p.files {
		faults = append(faults, p.checkUses(f, isTable)...)
	}
	return faults
}

// says whether a comment has a directive.
func says(doc *ast.CommentGroup, directive string) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, directive)
	})
}

// isLock says whether the variables are locks of package sync.
func (p *pkg) isLock(spec *ast.ValueSpec) bool {
	t, ok := spec.Type.(*ast.SelectorExpr)
	if !ok || len(spec.Values) > 0 {
		return false
	}
	name := p.qualified(t)
	return name == "sync.Mutex" || name == "sync.RWMutex"
}

// immutable says whether the i-th variable starts as a value nobody changes.
func (p *pkg) immutable(spec *ast.ValueSpec, i int) bool {
	if len(spec.Values) != len(spec.Names) {
		return false
	}
	switch v := spec.Values[i].(type) {
	case *ast.CallExpr:
		name := p.callee(v)
		if base, ok := strings.CutPrefix(name, Module+"."); ok {
			return slices.Contains(contracts, base)
		}
		return slices.Contains(constructors, name)
	case *ast.SelectorExpr:
		return p.qualified(v) != "" && strings.HasPrefix(v.Sel.Name, "Err")
	}
	return false
}

// table says whether the i-th variable is an unexported literal array, slice or map.
func (p *pkg) table(spec *ast.ValueSpec, i int) bool {
	if len(spec.Values) != len(spec.Names) || spec.Names[i].IsExported() {
		return false
	}
	literal, ok := spec.Values[i].(*ast.CompositeLit)
	if !ok {
		return false
	}
	t := p.info.TypeOf(literal)
	if t == nil {
		return false
	}
	switch t.Underlying().(type) {
	case *types.Array, *types.Slice, *types.Map:
		return true
	}
	return false
}

// callee names the function called: "errors.New", "len"; empty if it has no name.
func (p *pkg) callee(call *ast.CallExpr) string {
	fun := call.Fun
	switch f := fun.(type) { // without type arguments
	case *ast.IndexExpr:
		fun = f.X
	case *ast.IndexListExpr:
		fun = f.X
	}
	switch f := fun.(type) {
	case *ast.SelectorExpr:
		return p.qualified(f)
	case *ast.Ident:
		switch o := p.info.Uses[f].(type) {
		case *types.Builtin:
			return o.Name()
		case *types.Func:
			if p.dir == "." {
				return Module + "." + f.Name
			}
		}
	}
	return ""
}

// qualified names what another package exports, by import path: "errors.New".
func (p *pkg) qualified(s *ast.SelectorExpr) string {
	if x, ok := s.X.(*ast.Ident); ok {
		if imported, ok := p.info.Uses[x].(*types.PkgName); ok {
			return imported.Imported().Path() + "." + s.Sel.Name
		}
	}
	return ""
}

// checkUses looks at each use of a package-level variable.
func (p *pkg) checkUses(f *file, isTable map[types.Object]bool) []string {
	var faults []string
	var path []ast.Node
	ast.Inspect(f.File, func(n ast.Node) bool {
		if n == nil {
			path = path[:len(path)-1]
			return true
		}
		path = append(path, n)
		name, ok := n.(*ast.Ident)
		if !ok || p.info.Uses[name] == nil {
			return true
		}
		table, known := isTable[p.info.Uses[name]]
		switch {
		case !known:
		case written(path):
			faults = append(faults, p.fault(name.Pos(), "package-level variable %s is changed here, or its address taken", name.Name))
		case table && !p.read(path):
			faults = append(faults, p.fault(name.Pos(), "table %s is handed on here, where it could be written to", name.Name))
		}
		return true
	})
	return faults
}

// written says whether the identifier at the end of the path, or a part of what it holds, is assigned
// to, addressed, or given to a builtin that writes.
func written(path []ast.Node) bool {
	i := len(path) - 1
	for i > 0 && partOf(path[i], path[i-1]) {
		i--
	}
	if i == 0 {
		return false
	}
	switch parent := path[i-1].(type) {
	case *ast.AssignStmt:
		return slices.ContainsFunc(parent.Lhs, func(e ast.Expr) bool { return e == path[i] })
	case *ast.IncDecStmt:
		return true
	case *ast.UnaryExpr:
		return parent.Op == token.AND
	case *ast.RangeStmt:
		return parent.Key == path[i] || parent.Value == path[i]
	case *ast.CallExpr:
		name, ok := parent.Fun.(*ast.Ident)
		return ok && (name.Name == "delete" || name.Name == "clear" || name.Name == "copy")
	}
	return false
}

// partOf says whether parent is a part of child's value: child[i], child.f, *child, (child).
func partOf(child, parent ast.Node) bool {
	switch parent := parent.(type) {
	case *ast.IndexExpr:
		return parent.X == child
	case *ast.SelectorExpr:
		return parent.X == child
	case *ast.StarExpr, *ast.ParenExpr:
		return true
	}
	return false
}

// read says whether the table at the end of the path is only read there.
func (p *pkg) read(path []ast.Node) bool {
	name := path[len(path)-1]
	switch parent := path[len(path)-2].(type) {
	case *ast.IndexExpr:
		return parent.X == name
	case *ast.RangeStmt:
		return parent.X == name
	case *ast.CallExpr:
		callee := p.callee(parent)
		return callee == "len" || slices.Contains(readers, callee)
	}
	return false
}
