package house

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// law says which packages may import which. Imports point inward: cmd, then api
// and dashboard, then the root, then the engine, then the ports; adapters import
// their port, and the root imports no adapter. A key that ends in "/..." stands
// for a folder and all below it; the longest key that fits counts. The standard
// library is open to all, but for package testing.
//
// A new package is added here first, with the narrowest rule it can live with.
var law = map[string]rule{
	// The ports: nothing of ours, nothing of others.
	"store":     {},
	"transport": {},

	// What adapters share: how they store what the port leaves to them.
	"store/internal/acts":     {ours: []string{"store", "store/internal/checks"}},
	"store/internal/checks":   {ours: []string{"store"}},
	"store/internal/batchrow": {},
	"store/internal/lives":    {ours: []string{"store"}},
	"store/internal/origin":   {ours: []string{"store"}},
	"store/internal/runwake":  {ours: []string{"store"}},

	// Adapters: their port, what they share, and their driver.
	"store/sqlite": {
		ours:  []string{"store", "store/internal/acts", "store/internal/batchrow", "store/internal/checks", "store/internal/lives", "store/internal/origin", "store/internal/runwake"},
		third: []string{"zombiezen.com/go/sqlite", "modernc.org", "golang.org/x/sys"},
	},
	"store/postgres":        {ours: []string{"store", "store/internal/acts", "store/internal/batchrow", "store/internal/checks", "store/internal/lives", "store/internal/origin", "store/internal/runwake"}, third: []string{"github.com/jackc/pgx/v5"}},
	"store/postgres/pgtest": {},
	"store/storetest/...":   {ours: []string{"store", "internal/witness"}, testing: true, kin: true},

	"transport/local":            {ours: []string{"transport"}},
	"transport/jetstream":        {ours: []string{"transport"}, third: []string{"github.com/nats-io/nats.go"}},
	"transport/jetstream/broker": {ours: []string{"internal/address"}, third: []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nkeys"}},
	"transport/transporttest":    {ours: []string{"transport", "internal/witness"}, testing: true},

	// The engine: the ports, and no driver.
	"internal/engine":  {ours: []string{"store", "transport"}},
	"internal/house":   {},
	"internal/address": {},
	"internal/verdict": {}, // a program of the gate
	"internal/bubble":  {}, // for tests
	// What the laws of both ports are broken on purpose with.
	"internal/witness": {testing: true},
	// Brokers for the tests of whoever needs one.
	"internal/brokertest": {ours: []string{"transport/jetstream/broker"}, third: []string{"github.com/nats-io/nats.go", "go.uber.org/goleak"}, testing: true},

	// The user's vocabulary.
	".": {ours: []string{"internal/engine", "store", "transport"}, third: []string{"github.com/go-json-experiment/json"}},

	// Around it: they see what a user sees.
	// (weirtest is let behind the engine: it gives it fake time, and crashes its store.)
	"weirtest":  {ours: []string{".", "store", "store/sqlite", "internal/engine", "transport", "transport/local"}, testing: true},
	"api":       {ours: []string{"."}},
	"dashboard": {ours: []string{"."}},

	// Programs. cmd/weir is the only wiring, and nobody imports it. The drivers are for
	// weir bench, which measures what they do alone.
	"cmd/weir/...": {ours: []string{"..."}, third: []string{"github.com/alecthomas/kong", "zombiezen.com/go/sqlite", "github.com/jackc/pgx/v5", "github.com/nats-io/nats.go"}},
	"examples/...": {ours: []string{".", "store/sqlite", "transport", "transport/local", "examples/database"}, kin: true},
	// Its payment provider is that of another example; for tests.
	"examples/checkout": {ours: []string{".", "store/sqlite", "transport", "transport/local", "examples/database", "examples/fulfilment/outside"}, kin: true},
	// Where the examples meet the two stores.
	"examples/database": {ours: []string{".", "store", "store/sqlite", "store/postgres"}, third: []string{"github.com/jackc/pgx/v5"}},
	"bench/...":         {ours: []string{".", "store", "store/sqlite"}, kin: true},
	"test/...":          {ours: []string{".", "store", "store/sqlite"}, third: []string{"github.com/jackc/pgx/v5"}, kin: true},
}

// testsMayAlso is what test files may import beyond their package's own rule.
func testsMayAlso() rule {
	return rule{
		ours:    []string{"store", "store/sqlite", "store/storetest", "store/storetest/mutants", "store/postgres", "store/postgres/pgtest", "weirtest", "transport", "transport/transporttest", "transport/local", "transport/jetstream", "transport/jetstream/broker", "internal/brokertest", "internal/bubble"},
		third:   []string{"go.uber.org/goleak", "pgregory.net/rapid", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go"},
		testing: true,
	}
}

// rule is what one package may import.
type rule struct {
	ours    []string // packages of the module, as law names them; "..." is all
	third   []string // roots of other modules
	testing bool     // package testing, outside of test files
	kin     bool     // packages below the same second folder: examples/restaurant/...
}

// ruleFor finds a package's rule.
func ruleFor(pkg string) (rule, bool) {
	if r, ok := law[pkg]; ok {
		return r, true
	}
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if r, ok := law[dir+"/..."]; ok {
			return r, true
		}
	}
	return rule{}, false
}

func (t *tree) checkLaw() []string {
	var faults []string
	unknown := map[string]bool{}
	for _, f := range t.files {
		r, ok := ruleFor(f.dir())
		if !ok {
			if !unknown[f.dir()] {
				faults = append(faults, t.fault(f.Package, "package %q has no import law: add it to law in internal/house/law.go", f.dir()))
			}
			unknown[f.dir()] = true
			continue
		}
		for _, spec := range f.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err == nil && !allowed(f, r, target) {
				faults = append(faults, t.fault(spec.Pos(), "%q may not import %s: see law in internal/house/law.go", f.dir(), target))
			}
		}
	}
	return faults
}

func allowed(f *file, r rule, target string) bool {
	if r.lets(f.dir(), target) {
		return true
	}
	return f.test && (target == path.Join(Module, f.dir()) || testsMayAlso().lets(f.dir(), target))
}

// lets says whether the rule lets package pkg import target.
func (r rule) lets(pkg, target string) bool {
	if target == Module || strings.HasPrefix(target, Module+"/") {
		return r.letsOurs(pkg, strings.TrimPrefix(strings.TrimPrefix(target, Module), "/"))
	}
	switch first, _, _ := strings.Cut(target, "/"); {
	case target == "C":
		return false // pure Go: users cross-compile
	case first == "testing":
		return r.testing
	case !strings.Contains(first, "."):
		return true // the standard library
	}
	return slices.ContainsFunc(r.third, func(root string) bool { return under(target, root) })
}

func (r rule) letsOurs(pkg, target string) bool {
	if target == "" {
		target = "."
	}
	if r.kin && kinOf(pkg) == kinOf(target) {
		return true
	}
	return slices.Contains(r.ours, target) || slices.Contains(r.ours, "...")
}

// under says whether name is root or below it.
func under(name, root string) bool {
	return name == root || strings.HasPrefix(name, root+"/")
}

// kinOf is a package's first two folders.
func kinOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}
