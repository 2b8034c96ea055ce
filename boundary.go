package weir

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

const (
	routesMost      = 1_000
	publicMost      = 1_000
	capacityDefault = 100_000
	capacityMost    = 1 << 31
)

// checkExchange reports what is wrong with Transport, Routes and Public.
func (c *Config) checkExchange() error {
	var err error
	if c.Transport == nil && (len(c.Routes) > 0 || len(c.Public) > 0) {
		err = errors.New("weir: Config.Routes and Config.Public need a Config.Transport")
	}
	if len(c.Owns) == 0 && (len(c.Routes) > 0 || len(c.Public) > 0) {
		err = errors.Join(err, errors.New("weir: Config.Routes and Config.Public need a boundary in Config.Owns: what is sent is sent in its name"))
	}
	err = errors.Join(err,
		within("Config.Routes: how many", len(c.Routes), 0, routesMost),
		within("Config.Public: how many", len(c.Public), 0, publicMost),
	)
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if transport.CheckBoundary(name) != nil {
			err = errors.Join(err, fmt.Errorf("weir: Config.Routes has %q, want a boundary's name of lower-case letters, digits and hyphens, such as kitchen", name))
		}
		if slices.Contains(c.Owns, name) {
			err = errors.Join(err, fmt.Errorf("weir: Config.Routes has %q, which Config.Owns has too: it lives here, or it is reached over the transport", name))
		}
		err = errors.Join(err, within("Config.Routes: "+name+": Capacity", c.Routes[name].Capacity, -1, capacityMost))
	}
	for i, name := range c.Public {
		if bad := checkName("event", name); bad != nil {
			err = errors.Join(err, fmt.Errorf("weir: Config.Public: %w", bad))
		} else if !slices.Contains(c.Owns, ownerOf(name)) {
			err = errors.Join(err, fmt.Errorf("weir: Config.Public has %q, but Config.Owns has no %q: only its owner publishes an event", name, ownerOf(name)))
		}
		if slices.Contains(c.Public[:i], name) {
			err = errors.Join(err, fmt.Errorf("weir: Config.Public has %q twice", name))
		}
	}
	return err
}

// exchange is what the engine needs to know of other stores' boundaries.
func (c *Config) exchange() engine.Exchange {
	x := engine.Exchange{Transport: c.Transport, Routes: make(map[string]int, len(c.Routes)), Public: c.Public, ContentType: "application/octet-stream", MaxBody: c.MaxBody}
	if _, ok := c.Codec.(JSON); ok {
		x.ContentType = "application/json"
	}
	for name, r := range c.Routes {
		x.Routes[name] = max(orDefault(r.Capacity, capacityDefault), 0) // -1: unbounded
	}
	return x
}

// routes reports whether a boundary lives in another store and is reached from here.
func (e *Engine) routes(boundary string) bool {
	_, ok := e.config.Routes[boundary]
	return ok
}

// homeless says why nothing can be sent to a boundary, or started in it.
func (e *Engine) homeless(what, name string) error {
	owner := ownerOf(name)
	if owner == "" {
		return fmt.Errorf("weir: %s: the contract has no name: make it with NewCommand, NewEvent and the like", strings.TrimSpace(what))
	}
	if e.routes(owner) {
		return fmt.Errorf("weir: %s: boundary %q lives in another store, where only commands go: send one, whose handler does it there", what, owner)
	}
	return fmt.Errorf("weir: %s: nobody knows boundary %q: add it to Config.Owns if it lives in this store, or to Config.Routes if in another, or check the contract's name", what, owner)
}

// unheard says what to do about an event of another store that a run waits for, and that does not come here.
func (e *Engine) unheard(t store.Topic) error {
	owner := ownerOf(t.Name)
	if _, heard := e.heard.Load(t.Name); heard || t.Kind != store.KindEvent || e.owns[owner] || e.core.Detached() {
		return nil
	}
	if !e.routes(owner) {
		return e.homeless("event "+t.Name, t.Name)
	}
	return fmt.Errorf("event %s is of boundary %q in another store, and comes here only for a subscriber: Subscribe to it in this program", t.Name, ownerOf(t.Name))
}
