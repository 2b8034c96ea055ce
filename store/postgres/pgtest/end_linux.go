package pgtest

import "syscall"

// diesWithUs has the kernel end the server when this program ends without doing so.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT} }
