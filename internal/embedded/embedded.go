// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	// patience is how long Open waits for an owner that starts or stops.
	patience = 10 * time.Second
	// idlePatience is how long an Open that wants a worker waits for an owner
	// without one: most of them print a listing and are gone.
	idlePatience = time.Second
	// retryFor is short: the owner is a process of the same machine that is
	// gone for good, and the directory is free to be taken over.
	retryFor = 300 * time.Millisecond
	// silence is how long Open waits for an owner without a word.
	silence = 5 * time.Second
)

// Config says what to open.
type Config struct {
	// Dir is the state directory; it is made when it does not exist.
	// Default: .volley in the current directory.
	Dir string

	// Worker runs tasks in this process, unless the instance that it joins
	// has a worker already. Without it an instance only answers questions.
	Worker bool

	// Before is called in an owner before its worker starts, while nothing
	// runs, and after the results of a killed one are recorded. An error ends
	// Open. Default: nothing.
	Before func(context.Context, *client.Client) error

	// Waiting is called, once and on a goroutine of its own, when the process
	// that has the directory does not answer for five seconds: it may be
	// stopped, and Open waits on. pid is 0 when it is not known. Default:
	// nothing.
	Waiting func(pid int)

	// silence is the five seconds; tests make it short.
	silence time.Duration

	// Capacity of the worker. Default: the whole machine.
	Capacity *volleyv1.Resources

	// Listen is a loopback host:port where the coordinator listens beside the
	// socket. When the directory is in use, it is not listened on.
	Listen string

	// Token opens the coordinator. Default: a new one with each owner.
	Token string

	// Version of the program.
	Version string

	// Logger gets what coordinator and worker have to say. Default: discarded.
	Logger *slog.Logger
}

// Instance is a coordinator of this process, or the connection to that of
// another one.
type Instance struct {
	dir    directory
	client *client.Client
	owner  *owner  // nil when joined
	worker *runner // nil without one
	ep     *endpoint
	ended
}

// Open takes the directory, or joins the process that has it. That this process
// cannot run what it should is an *Error.
func Open(ctx context.Context, c Config) (*Instance, error) {
	in, err := enter(ctx, c)
	if err != nil {
		return nil, failed("", err)
	}
	return in, nil
}

func enter(ctx context.Context, c Config) (*Instance, error) {
	if c.Dir == "" {
		c.Dir = DirName
	}
	abs, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("state directory %q: %w", c.Dir, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d := directory(abs)
	if err := d.prepare(); err != nil {
		return nil, err
	}
	lock := flock.New(d.path("lock"), flock.SetPermissions(0o600))
	begin := time.Now()
	told := c.tellWaiting(d)
	defer told.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		free, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", d.path("lock"), err)
		}
		if free {
			told.Stop()
			in, err := own(ctx, d, lock, c)
			if err != nil {
				_ = lock.Close()
			}
			return in, err
		}
		in, err := join(ctx, d, c, time.Since(begin) > idlePatience)
		if err == nil {
			_ = lock.Close()
			return in, nil
		}
		if !passing(err) || time.Since(begin) > patience {
			_ = lock.Close()
			return nil, fmt.Errorf("another process uses %s and does not answer: %w", abs, err)
		}
		// The owner starts or stops; there is no event to wait for that a
		// killed process would still send.
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			_ = lock.Close()
			return nil, ctx.Err()
		}
	}
}

// tellWaiting starts the clock of Waiting.
func (c *Config) tellWaiting(d directory) *time.Timer {
	return time.AfterFunc(cmp.Or(c.silence, silence), func() {
		if c.Waiting == nil {
			return
		}
		pid := 0
		if ep, err := d.readEndpoint(); err == nil {
			pid = ep.PID
		}
		c.Waiting(pid)
	})
}

// errNoWorker says that the owner runs no tasks.
var errNoWorker = errors.New("it runs no tasks")

// passing says whether an error may be that of an owner which starts or stops.
func passing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoWorker) {
		return true
	}
	// A token of the owner before this one is refused until the endpoint is
	// written anew.
	return gone(err)
}

// join connects to the owner.
func join(ctx context.Context, d directory, c Config, attach bool) (*Instance, error) {
	ep, err := d.readEndpoint()
	if err != nil {
		return nil, err
	}
	if c.Worker && !ep.Worker && !attach {
		return nil, errNoWorker
	}
	o := client.Options{Addr: ep.Addr, Token: ep.Token, RetryFor: retryFor}
	cl, err := client.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	in := &Instance{dir: d, client: cl, ep: ep, ended: newEnded()}
	if c.Worker && !ep.Worker {
		agent, err := guestAgent(ctx, workerConfig(d, c, dialer(o)))
		if err != nil {
			return nil, errors.Join(err, cl.Close())
		}
		in.worker = startWorker(agent, in.fail)
	}
	return in, nil
}

// Client calls the coordinator. It is closed with the instance.
func (in *Instance) Client() *client.Client { return in.client }

// Owner says whether the coordinator runs in this process.
func (in *Instance) Owner() bool { return in.owner != nil }

// Dir is the absolute path of the state directory.
func (in *Instance) Dir() string { return string(in.dir) }

// Working says whether the instance runs tasks, here or in its owner.
func (in *Instance) Working() bool { return in.worker != nil || in.ep.Worker }

// OnlyNode says that the worker of this process is the only one that can come:
// the coordinator is that of this process, and it listens for no others.
func (in *Instance) OnlyNode() bool {
	return in.owner != nil && in.worker != nil && in.owner.listen == ""
}

// Addr is where commands of other processes reach the coordinator.
func (in *Instance) Addr() string { return in.ep.Addr }

// Listen is the host:port of Config.Listen, the port filled in; empty without
// one, and in an instance that joined.
func (in *Instance) Listen() string {
	if in.owner == nil {
		return ""
	}
	return in.owner.srv.Addr()
}

// Close stops what this process runs: the worker first, so that it can hand
// back what it holds.
func (in *Instance) Close() error {
	var errs []error
	if in.worker != nil {
		errs = append(errs, in.worker.stop())
	}
	errs = append(errs, in.client.Close())
	if in.owner != nil {
		errs = append(errs, in.owner.close(in.dir))
	}
	return errors.Join(errs...)
}
