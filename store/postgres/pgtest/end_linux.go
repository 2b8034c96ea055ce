package pgtest

import "syscall"

// diesWithUs has the kernel end the server when this program ends without doing so. In a
// group of its own it does not hear a terminal's Ctrl-C: those who use it end first.
func diesWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}
