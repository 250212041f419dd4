// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/worker"
)

// Left says whether the error of a call may be that of an owner which has left
// the directory: Open joins the next one, or becomes it. The next owner refuses
// the token of the one before; that is no wrong token of the user's.
func (in *Instance) Left(err error) bool { return in.owner == nil && gone(err) }

func gone(err error) bool {
	k := client.Kind(err)
	return k == client.Unreachable || k == client.Unauthenticated
}

// Rest blocks until this process runs no task, and none is about to start; from
// that moment on it starts none, and Close stops no task of whoever it may be.
// Before it blocks, if it has to, it calls wait. When ctx ends first, or a part
// of the instance has ended by itself, work goes on and Rest returns an error.
//
// Jobs that only wait hold nobody here: they go on with the next process that
// runs tasks in the directory.
func (in *Instance) Rest(ctx context.Context, wait func()) error {
	if in.worker == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-in.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return in.worker.agent.Rest(ctx, wait)
}

// RunsTasks says whether tasks run in this process, and not in that of another
// owner.
func (in *Instance) RunsTasks() bool { return in.worker != nil }

// Kill ends the tasks of this process without their grace, and answers how many
// they were. It blocks for some seconds at most. The instance is good for Close
// only; another goroutine may be in it.
func (in *Instance) Kill() int {
	if in.worker == nil {
		return 0
	}
	return in.worker.agent.Kill()
}

// lockPause is the time between two tries of a lock that has no queue. It is
// held for the length of a plan.
const lockPause = 5 * time.Millisecond

// Alone blocks until no other process is between planning a job and submitting
// it in this directory. Two commands that plan the same job at the same moment
// would both find that nobody does it. The lock goes with release, or with the
// process.
func (in *Instance) Alone(ctx context.Context) (release func(), err error) {
	l := flock.New(in.dir.path("submit"), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, lockPause); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("lock %s: %w", in.dir.path("submit"), err)
	}
	return func() { _ = l.Close() }, nil
}

// newAgent makes a worker that has nothing left to deliver: results in the
// spool of a killed process would count as not done in the plan of the next
// job, and their points would run again.
func newAgent(ctx context.Context, c worker.Config) (*worker.Agent, error) {
	a, err := worker.New(c)
	if err != nil || a.Pending() == 0 {
		return a, err
	}
	if err := a.Deliver(ctx); err != nil {
		return nil, fmt.Errorf("record the results of an earlier process: %w", err)
	}
	return worker.New(c)
}

// guestAgent is newAgent for the coordinator of another process, which may
// leave meanwhile.
func guestAgent(ctx context.Context, c worker.Config) (*worker.Agent, error) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := newAgent(short, c)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = &client.Error{Kind: client.Unreachable, Err: err, Msg: err.Error()}
	}
	return a, err
}
