package house

import (
	"go/ast"
	"path"
	"strconv"
)

// sleepers are the files of tests that may call time.Sleep, each with its
// reason. A test that sleeps is slow when it passes and wrong when the machine
// is busy. In a synctest bubble time is not real, so there it may.
var sleepers = map[string]string{}

func (t *tree) checkSleep() []string {
	var faults []string
	for _, f := range t.files {
		r, _ := ruleFor(f.dir())
		if _, listed := sleepers[f.path]; listed || !f.test && !r.testing {
			continue
		}
		clock, bubble := f.nameOf("time"), f.nameOf("testing/synctest")
		ast.Inspect(f.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				return !selects(n.Fun, bubble, "Test")
			case *ast.SelectorExpr:
				if selects(n, clock, "Sleep") {
					faults = append(faults, t.fault(n.Pos(), "time.Sleep in a test: use synctest, or wait for what you wait for"))
				}
			}
			return true
		})
	}
	return faults
}

// nameOf is what the file calls an import, "" if it has it not.
func (f *file) nameOf(target string) string {
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil || name != target {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(name)
	}
	return ""
}

// selects says whether e is pkg.name.
func selects(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}
