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
	steps    []string // the schema's
	wait     time.Duration
	lockWait time.Duration // for others who migrate
}

// Schema names the schema. Defaults to weir. Lower-case letters, digits and
// underscores, at most 41, not beginning with a digit.
func Schema(name string) Option { return func(s *settings) { s.schema = name } }

// Clock sets what the store takes for the time. Defaults to the server's clock, which
// all processes share; anything else is for tests.
func Clock(now func() time.Time) Option { return func(s *settings) { s.clock = now } }

// Existing opens only a schema that holds a journal of this version's schema: it
// makes none and migrates none. For programs that look into the database of a service,
// and for services that are to start only once weir migrate up was run.
func Existing() Option { return func(s *settings) { s.existing = true } }

// Unsafe opens also a server whose settings lose what was committed: fsync,
// full_page_writes or synchronous_commit off. Else such a server is refused with ErrUnsafe.
func Unsafe() Option { return func(s *settings) { s.unsafe = true } }

// Lease is for how long a process that does not beat is believed to live: then others
// take over what it works on. Defaults to 30 s; 1 s to 1 h.
func Lease(d time.Duration) Option { return func(s *settings) { s.lease = d } }

// Wait is for how long opening waits for a server that cannot be reached yet: it starts
// up, or refuses connections. Defaults to 10 s, and with Existing to 0; at most 1 h. What waiting
// does not mend (a wrong password, a database that is not there) ends it at once.
func Wait(d time.Duration) Option { return func(s *settings) { s.wait = d } }

const (
	schemaDefault = "weir"
	leaseDefault  = 30 * time.Second
	waitDefault   = 10 * time.Second
	lockWait      = 5 * time.Minute
)

func (s *settings) apply(options []Option) (err error) {
	s.schema, s.lease, s.wait, s.lockWait = schemaDefault, leaseDefault, -1, lockWait
	for _, o := range options {
		o(s)
	}
	if s.wait < 0 {
		s.wait = waitDefault
		if s.existing {
			s.wait = 0
		}
	}
	if s.steps == nil {
		if s.steps, err = embedded(); err != nil {
			return err
		}
	}
	return s.check()
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
	if s.wait > time.Hour {
		errs = append(errs, fmt.Errorf("wait %s: want 0 to 1h", s.wait))
	}
	return errors.Join(errs...)
}

// mentions reports whether a DSN sets a parameter, in a URL or by keywords.
func mentions(dsn, parameter string) bool {
	for rest := dsn; ; {
		_, after, found := strings.Cut(rest, parameter)
		if !found {
			return false
		}
		if strings.HasPrefix(strings.TrimLeft(after, " \t\n\r\f\v"), "=") {
			return true
		}
		rest = after
	}
}

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
