// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Strays is what KillStrays has found.
type Strays struct {
	// Killed counts the processes that are gone.
	Killed int
	// Left are those that are not: in an uninterruptible wait, or those of a
	// user that this process may not signal.
	Left []Stray
}

// Stray is a process that an ended worker has left behind.
type Stray struct {
	PID int
	// Mark is the entry of its environment by which it was found.
	Mark string
}

// strayStall is how long beyond its time one look at a process may take.
const strayStall = 500 * time.Millisecond

// KillStrays sends SIGKILL to every process that was started with one of the
// marks ("NAME=value") in its environment, looks again, and goes on until none
// is left or ctx ends; it looks at least once. It spares this process, what it descends from and what
// descends from it: a worker that is started by a task of its predecessor must
// not end itself.
//
// The environment is that of the program's start, so a process is found
// whatever group, session or parent it has now; not one that was started with
// an environment that lacks the mark (env -i, sudo), or that has overwritten
// it. On systems other than Linux it returns errors.ErrUnsupported: they do not
// show the environment of programs of the system, which are most of what tasks
// start.
func KillStrays(ctx context.Context, marks []string) (Strays, error) {
	if !canKillStrays {
		return Strays{}, fmt.Errorf("runner: look for processes of an ended worker: %w", errors.ErrUnsupported)
	}
	if len(marks) == 0 {
		return Strays{}, nil
	}
	type outcome struct {
		found Strays
		err   error
	}
	// Reading an environment waits for the process's memory map, for ever when
	// its holder hangs in the kernel. A start that hangs with it would be worse
	// than a process that lives on; what the goroutine kills later is marked
	// all the same.
	ended := make(chan outcome, 1)
	var at atomic.Int64
	go func() {
		found, err := killStrays(ctx, marks, &at)
		ended <- outcome{found, err}
	}()
	select {
	case o := <-ended:
		return o.found, o.err
	case <-ctx.Done():
	}
	stall := time.NewTimer(strayStall)
	defer stall.Stop()
	select {
	case o := <-ended:
		return o.found, o.err
	case <-stall.C:
		return Strays{}, fmt.Errorf("runner: look for processes of an ended worker: process %d does not let its environment be read", at.Load())
	}
}
