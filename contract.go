package weir

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/weir-go/weir/store"
)

// None is the reply of a command that has none.
type None struct{}

type (
	// Command is the contract of a message to the one boundary that owns it. Out is
	// None but for a request (see [NewRequest]). Contracts are immutable values.
	Command[In, Out any] struct{ contract[In] }
	// Event is the contract of an immutable fact, published by its owner.
	Event[T any] struct{ contract[T] }
	// ContractOption is an option of a contract whose body is T.
	ContractOption[T any] interface{ apply(*contract[T]) }
)

// contract is what all contracts share.
type contract[T any] struct {
	topic   store.Topic
	version int // of T
	keyOf   func(T) string
	upcasts map[int]func(Codec, []byte) (T, error)
	err     error // what is wrong with it, said where it is used
}

// NewCommand declares a command. Its name is its owner's, a dot, and what to do:
// "kitchen.prepare-food" (lower-case letters, digits and hyphens, up to 200 in all). A contract
// that is not well-formed is reported wherever it is used.
func NewCommand[T any](name string, o ...ContractOption[T]) Command[T, None] {
	return Command[T, None]{newContract(store.Topic{Name: name, Kind: store.KindCommand}, o)}
}

// NewRequest declares a command with a reply: its handler is registered with [Answer].
func NewRequest[In, Out any](name string, o ...ContractOption[In]) Command[In, Out] {
	return Command[In, Out]{newContract(store.Topic{Name: name, Kind: store.KindCommand}, o)}
}

// NewEvent declares an event. Only a boundary of its name's owner publishes it.
func NewEvent[T any](name string, o ...ContractOption[T]) Event[T] {
	return Event[T]{newContract(store.Topic{Name: name, Kind: store.KindEvent}, o)}
}

// Reply is what the request is answered with, as something to [Subscribe] to. A
// reply's Cause is the request's ID.
func (c Command[In, Out]) Reply() Event[Out] {
	r := newContract[Out](store.Topic{Name: c.topic.Name + replySuffix, Kind: store.KindReply}, nil)
	r.err = c.err
	return Event[Out]{r}
}

// Name is the contract's name.
func (c contract[T]) Name() string { return c.topic.Name }

const (
	replySuffix   = ".reply"
	refusedSuffix = ".refused"
)

var (
	validName     = regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$`)
	validBoundary = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

func newContract[T any](t store.Topic, opts []ContractOption[T]) contract[T] {
	c := contract[T]{topic: t, version: 1}
	if t.Kind == store.KindReply {
		return c
	}
	c.err = checkName(string(t.Kind.String()), t.Name)
	if c.err == nil && strings.HasSuffix(t.Name, replySuffix) {
		c.err = fmt.Errorf("weir: %s %q: names ending in %q are those of replies", t.Kind, t.Name, replySuffix)
	}
	if c.err == nil && t.Name == ownerOf(t.Name)+refusedSuffix {
		c.err = fmt.Errorf("weir: %s %q: that is where a boundary's refused messages go", t.Kind, t.Name)
	}
	for _, o := range opts {
		o.apply(&c)
	}
	return c
}

func checkName(what, name string) error {
	if len(name) > 200 || !validName.MatchString(name) {
		return fmt.Errorf("weir: %s name %q: want owner.name of lower-case letters, digits and hyphens, 200 bytes at most, such as kitchen.prepare-food", what, name)
	}
	return nil
}

// ownerOf is the boundary that a name belongs to.
func ownerOf(name string) string {
	owner, _, _ := strings.Cut(name, ".")
	return owner
}

// KeyedBy gives messages their key: those of one key are worked in the order of
// their commits, one at a time. An empty key is none. The [Key] option of a send overrides it.
func KeyedBy[T any](key func(T) string) ContractOption[T] { return keyedBy[T](key) }

type keyedBy[T any] func(T) string

func (k keyedBy[T]) apply(c *contract[T]) { c.keyOf = k }

// Upcast reads messages of an older version of the contract: those of version are
// decoded as Old and converted. A contract's own version is one more than the
// highest upcast, 1 without any, and is stored with each message it sends.
func Upcast[Old, T any](version int, f func(Old) (T, error)) ContractOption[T] {
	return upcast[T]{version: version, convert: func(codec Codec, body []byte) (T, error) {
		var old Old
		if err := codec.Unmarshal(body, &old); err != nil {
			var none T
			return none, undecodable(err)
		}
		return f(old)
	}}
}

type upcast[T any] struct {
	version int
	convert func(Codec, []byte) (T, error)
}

func (u upcast[T]) apply(c *contract[T]) {
	if u.version < 1 || u.version > 10_000 || c.upcasts[u.version] != nil {
		c.err = errors.Join(c.err, fmt.Errorf("weir: %s: Upcast from version %d: want each of 1 to 10000 once", c.topic.Name, u.version))
		return
	}
	if c.upcasts == nil {
		c.upcasts = map[int]func(Codec, []byte) (T, error){}
	}
	c.upcasts[u.version] = u.convert
	c.version = max(c.version, u.version+1)
}

// errTooNew is a message that only a newer program can read: retried, since a
// rollout may be under way.
type errTooNew struct {
	name       string
	has, knows int
}

func (e *errTooNew) Error() string {
	return fmt.Sprintf("%s has contract version %d, this program knows %d: deploy the newer one, then retry", e.name, e.has, e.knows)
}

// decode reads a stored body of any version into *into.
func (c *contract[T]) decode(codec Codec, version int, body []byte, into *T) error {
	if version == c.version {
		if err := codec.Unmarshal(body, into); err != nil {
			return undecodable(err)
		}
		return nil
	}
	if version > c.version {
		return &errTooNew{c.topic.Name, version, c.version}
	}
	convert := c.upcasts[version]
	if convert == nil {
		return fmt.Errorf("%s has contract version %d and there is no Upcast from it", c.topic.Name, version)
	}
	v, err := convert(codec, body)
	if err == nil {
		*into = v
	}
	return err
}
