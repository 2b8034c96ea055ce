package transport

import (
	"errors"
	"fmt"
)

var (
	// ErrFull is returned by Send when the boundary's inlet holds as much as it may.
	// There is room when its receiver has taken some: try again later.
	ErrFull = errors.New("the boundary's inlet is full")
	// ErrTooBig is returned, wrapped with what is too big and how big it may be, for a
	// packet or a note that this transport never takes.
	ErrTooBig = errors.New("too big for the transport")
	// ErrInvalid is returned, wrapped with what is wrong, for what no transport carries.
	ErrInvalid = errors.New("not fit for the transport")
	// ErrUnknown is returned by Send to a boundary of which no inlet was ever opened on
	// this transport, or none since the transport has lost its memory. It passes when its
	// process starts, so it is worth a word to a person when it stays.
	ErrUnknown = errors.New("nobody has opened an inlet of this boundary")
	// ErrUnavailable is returned, wrapped with its cause, while the transport cannot be
	// reached, or has not answered in time. It connects again by itself.
	ErrUnavailable = errors.New("the transport is unavailable")
	// ErrNeedsPerson matches, beside any of the others or alone, what does not pass until a person has mended it: a login
	// that is refused, no storage left, settings that would lose packets. The error says what to do. It may be tried again.
	ErrNeedsPerson = errors.New("a person must mend it")
	// ErrClosed is returned by calls on what is closed.
	ErrClosed = errors.New("the transport is closed")
)

// MalformedError says why something on the wire is no packet.
type MalformedError struct {
	// Attribute is the CloudEvents attribute that is wrong; empty where it is the packet as a whole.
	Attribute string
	// Problem is what is wrong with it, and what it should be.
	Problem string
}

func (e *MalformedError) Error() string {
	if e.Attribute == "" {
		return "malformed packet: " + e.Problem
	}
	return "malformed packet: CloudEvents attribute " + e.Attribute + " " + e.Problem
}

func malformed(attribute, format string, args ...any) *MalformedError {
	return &MalformedError{Attribute: attribute, Problem: fmt.Sprintf(format, args...)}
}

func tooBig(what string, have, most int) error {
	return fmt.Errorf("%w: %s is %d bytes, at most %d", ErrTooBig, what, have, most)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
