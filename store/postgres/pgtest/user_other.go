//go:build !unix

package pgtest

import "syscall"

// owner is the user that the server runs as: always us.
type owner struct{}

func serverUser() (*owner, error)           { return nil, nil }
func (o *owner) own(string) error           { return nil }
func (o *owner) attr() *syscall.SysProcAttr { return nil }

func reachable(string) bool { return true }
