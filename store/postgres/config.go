package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Option changes how a store is opened.
type Option func(*settings)

// settings are what options set.
type settings struct {
	schema   string
	clock    func() time.Time
	existing bool
	unsafe   bool
	lease    time.Duration
	name     string
}

// Schema names the schema. Defaults to weir. Lower-case letters, digits and
// underscores, at most 41, not beginning with a digit.
func Schema(name string) Option { return func(s *settings) { s.schema = name } }

// Clock sets what the store takes for the time. Defaults to the server's clock, which
// all processes share; anything else is for tests.
func Clock(now func() time.Time) Option { return func(s *settings) { s.clock = now } }

// Existing opens only a schema that holds a journal of this version's schema: it
// makes none and migrates none. For programs that look into the database of a service,
// and for roles that may not change tables.
func Existing() Option { return func(s *settings) { s.existing = true } }

// Unsafe opens also a server whose settings lose what was committed: fsync,
// full_page_writes or synchronous_commit off. Else such a server is refused.
func Unsafe() Option { return func(s *settings) { s.unsafe = true } }

// Lease is for how long a process that does not beat is believed to live: then others
// take over what it works on. Defaults to 30 s; 1 s to 1 h.
func Lease(d time.Duration) Option { return func(s *settings) { s.lease = d } }

const (
	schemaDefault = "weir"
	leaseDefault  = 30 * time.Second
)

func (s *settings) defaults() {
	s.schema, s.lease = schemaDefault, leaseDefault
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,40}$`)

func (s *settings) check() error {
	var errs []error
	if !schemaName.MatchString(s.schema) {
		errs = append(errs, fmt.Errorf("schema %q: want lower-case letters, digits and underscores, at most 41, not beginning with a digit", s.schema))
	}
	if s.lease < time.Second || s.lease > time.Hour {
		errs = append(errs, fmt.Errorf("lease %s: want 1s to 1h", s.lease))
	}
	return errors.Join(errs...)
}

// mentions reports whether a DSN sets a parameter.
func mentions(dsn, parameter string) bool { return strings.Contains(dsn, parameter+"=") }

// text is a statement for the store's schema. Statements are written for the schema weir.
func (s *Store) text(query string) string {
	if s.schema == schemaDefault {
		return query
	}
	if t, ok := s.texts.Load(query); ok {
		return t.(string)
	}
	t := inSchema(query, s.schema)
	s.texts.Store(query, t)
	return t
}

// inSchema rewrites a statement for another schema, whose name check has let pass.
func inSchema(query, schema string) string {
	return strings.ReplaceAll(query, schemaDefault+".", `"`+schema+`".`)
}
