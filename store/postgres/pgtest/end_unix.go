//go:build unix && !linux

package pgtest

import "syscall"

func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
