package house

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// The budgets, on code that is neither a test nor generated. They are about the
// 95th percentile of code we admire: what passes them is rarely too large, what
// does not is nearly always two things.
const (
	functionLines    = 70 // from func to the closing brace
	fileLines        = 500
	parameters       = 5  // with ctx, without the receiver and a list of options
	interfaceMethods = 12 // an interface embedded from another package counts as one
)

// nondescript names say that nobody knew what the thing is.
var nondescript = []string{"util", "utils", "common", "helper", "helpers", "types", "models"}

func (p *pkg) checkSizes() []string {
	var faults []string
	for _, f := range p.files {
		if f.lines > fileLines {
			faults = append(faults, p.fault(f.Package, "file has %d lines, at most %d", f.lines, fileLines))
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if fault := p.checkSize(n); fault != "" {
				faults = append(faults, fault)
			}
			return true
		})
	}
	return faults
}

func (p *pkg) checkSize(n ast.Node) string {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			return p.fault(n.Pos(), "func init: what must happen at the start is called from there")
		}
		return p.checkLines(n, "func "+n.Name.Name)
	case *ast.FuncLit:
		return p.checkLines(n, "func literal")
	case *ast.FuncType:
		count := n.Params.NumFields()
		if n.Params != nil && count > 0 {
			if _, variadic := n.Params.List[len(n.Params.List)-1].Type.(*ast.Ellipsis); variadic {
				count--
			}
		}
		if count > parameters {
			return p.fault(n.Pos(), "%d parameters, at most %d: make some a struct", count, parameters)
		}
	case *ast.InterfaceType:
		if count := p.methods(n); count > interfaceMethods {
			return p.fault(n.Pos(), "interface has %d methods, at most %d", count, interfaceMethods)
		}
	}
	return ""
}

func (p *pkg) checkLines(n ast.Node, what string) string {
	lines := p.fset.Position(n.End()).Line - p.fset.Position(n.Pos()).Line + 1
	if lines <= functionLines {
		return ""
	}
	return p.fault(n.Pos(), "%s has %d lines, at most %d", what, lines, functionLines)
}

func (t *tree) checkNames() []string {
	var faults []string
	for _, f := range t.files {
		base := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
		for _, name := range []string{base, path.Base(f.dir()), strings.TrimSuffix(f.Name.Name, "_test")} {
			if saysNothing(name) {
				faults = append(faults, fmt.Sprintf("%s:1: the name %q says nothing: name it for what it gives", f.path, name))
				break
			}
		}
	}
	return faults
}

func saysNothing(name string) bool {
	for part := range strings.SplitSeq(name, "_") {
		if slices.Contains(nondescript, part) || strings.HasSuffix(part, "util") || strings.HasSuffix(part, "utils") {
			return true
		}
	}
	return false
}
