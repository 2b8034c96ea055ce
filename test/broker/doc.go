// Package broker puts two boundaries, each with a store of its own, on a real broker, stops that, wipes it, and
// talks to them as programs do that know nothing of weir.
package broker
