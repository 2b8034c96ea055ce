package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// process is a child. Its standard input is a pipe, whose end tells the child to
// stop, also when we end without being able to say so.
type process struct {
	name  string
	cmd   *exec.Cmd
	life  io.WriteCloser // the pipe
	ended chan struct{}
	err   error // how it ended, once ended is closed
}

// program is this program with other arguments.
type program struct {
	name string // what it is, for people
	self string
	args []string
	env  []string  // beside our own
	out  io.Writer // nil: nowhere
	err  io.Writer
}

func (g program) start() (*process, error) {
	p := &process{name: g.name, cmd: exec.Command(g.self, g.args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = g.out, g.err
	p.cmd.Env = append(os.Environ(), g.env...)
	life, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.life = life
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// kill kills it with SIGKILL; false if it had ended by itself before.
func (p *process) kill() bool {
	_ = p.cmd.Process.Kill() // the only error is that it has ended
	<-p.ended
	return p.died()
}

// died says of an ended process that it was killed.
func (p *process) died() bool { return p.cmd.ProcessState.ExitCode() == killedExit }

// killedExit is the exit code of a process that ended by a signal.
const killedExit = -1

// stop asks it to stop, kills it if it does not, and waits for it.
func (p *process) stop() {
	_ = p.life.Close() // closed already, when it has ended
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
	}
}

// failure is why it ended by itself; nil when it had done its work.
func (p *process) failure() error {
	if p.err == nil {
		return nil
	}
	if _, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return fmt.Errorf("the process of %s, %d, has ended by itself: %w", p.name, p.cmd.Process.Pid, p.err)
	}
	return p.err
}
