// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// row is one kind of work.
type row string

const (
	rowNoop    row = "noop"    // tasks that do nothing, inside the worker
	rowProcess row = "process" // /bin/true as a process
	rowStart   row = "start"   // submit until the first process has started
)

var rows = []row{rowNoop, rowProcess, rowStart}

// contestant is one tool with one choice of settings.
type contestant struct {
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Settings string `json:"settings"`
	Durable  string `json:"durable"`
	// Skipped says why it did not take part.
	Skipped string `json:"skipped,omitempty"`

	// tasks is how many tasks, or samples, a turn has in each row: about as
	// many as fit into a few seconds.
	tasks map[row]int
	// find returns the version, or what is missing.
	find func(ctx context.Context, a *arena) (string, error)
	// open starts what has to run already when work comes, and returns when
	// it takes work.
	open func(ctx context.Context, a *arena) (instance, error)
}

// instance is a contestant during its turn.
type instance interface {
	// run does a row once and blocks until the success of every task is
	// confirmed. The instance measures: only it knows when its client began.
	run(ctx context.Context, r row, tasks int) (sample, error)
	// close stops it and waits until it has stopped.
	close() error
}

// sample is what an instance has measured of a row.
type sample struct {
	seconds   float64
	latencies []float64 // milliseconds
}

// paths are where things are outside the arena.
type paths struct {
	volley string // the binary
	python string // of the virtual environment; empty: there is none
}

// arena is the place of one turn.
type arena struct {
	paths
	dir   string // empty at first; its path is short, for the sockets in it
	slots int    // tasks at once
	// errs keeps the end of what the programs say, for errors.
	errs tail
}

// environ is the environment of every program: nothing of the user's home is
// read or written.
func (a *arena) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"HOME", "TMPDIR", "XDG_CONFIG_HOME", "SHELL", "PARALLEL", "PARALLEL_SHELL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}, name) ||
			strings.HasPrefix(name, "VOLLEY_") || strings.HasPrefix(name, "RAY_") || strings.HasPrefix(name, "DASK_") || strings.HasPrefix(name, "SLURM_") ||
			strings.HasPrefix(name, "SBATCH_") || strings.HasPrefix(name, "HQ_")
	})
	return append(env, "SHELL=/bin/sh", "HOME="+a.dir, "TMPDIR="+a.dir, "XDG_CONFIG_HOME="+filepath.Join(a.dir, "config"), "SLURM_CONF="+filepath.Join(a.dir, "slurm.conf"))
}

// command prepares a program. When ctx ends it is killed with its group.
func (a *arena) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = a.dir, a.environ(), &a.errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// timed runs a program to its end.
func (a *arena) timed(ctx context.Context, stdin io.Reader, name string, args ...string) (string, sample, error) {
	cmd := a.command(ctx, name, args...)
	cmd.Stdin = stdin
	var out bytes.Buffer
	cmd.Stdout = &out
	begin := time.Now()
	err := cmd.Run()
	s := sample{seconds: time.Since(begin).Seconds()}
	if err != nil {
		return out.String(), s, fmt.Errorf("%s: %w%s", filepath.Base(name), err, a.said())
	}
	return out.String(), s, nil
}

// said is the end of what the programs wrote to standard error.
func (a *arena) said() string {
	if s := strings.TrimSpace(a.errs.String()); s != "" {
		return "\n" + s
	}
	return ""
}

// daemon is a program that runs until it is stopped.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

func (a *arena) start(ctx context.Context, name string, args ...string) (*daemon, error) {
	d := &daemon{cmd: a.command(ctx, name, args...), done: make(chan struct{})}
	d.cmd.Stdout = &a.errs
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// stop asks with a signal and kills what has not ended after ten seconds.
func (d *daemon) stop(sig os.Signal) error {
	if d == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(sig) // it has ended already: done says so
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.done
		return fmt.Errorf("%s had to be killed", filepath.Base(d.cmd.Path))
	}
	return nil
}

// ready calls check until it succeeds.
func (a *arena) ready(ctx context.Context, what string, check func(context.Context) error, daemons ...*daemon) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		for _, d := range daemons {
			select {
			case <-d.done:
				return fmt.Errorf("%s ended before %s was ready: %w%s", filepath.Base(d.cmd.Path), what, errors.Join(d.err, err), a.said())
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w%s", what, errors.Join(ctx.Err(), err), a.said())
		case <-tick.C:
		}
	}
}

// tail keeps the last bytes that were written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 2 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
