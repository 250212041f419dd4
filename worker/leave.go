// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"time"
)

// killTimeout bounds how long Kill waits for killed processes to be gone: one
// that the kernel cannot end must not keep a user from leaving.
const killTimeout = 2 * time.Second

// Pending is how many reports the coordinator has not acknowledged, those of
// an earlier process included.
func (a *Agent) Pending() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries)
}

// Deliver is Run for what an earlier process left in the spool: it connects,
// blocks until the coordinator has recorded all of it, starts nothing and
// closes the agent. Who plans work right after a crash calls it first: results
// that wait in the spool would count as not done, and be worked out again.
func (a *Agent) Deliver(ctx context.Context) error {
	a.mu.Lock()
	a.stopping = true // what is granted meanwhile goes back
	a.mu.Unlock()
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	settled := make(chan error, 1)
	go func() {
		settled <- a.await(run, func() bool { return len(a.entries) == 0 })
		cancel()
	}()
	err := a.Run(run)
	cancel()
	if serr := <-settled; err == nil {
		err = serr
	}
	return err
}

// Rest blocks until no task runs and none is granted; from that moment on
// nothing starts, so that ending Run stops no task. Before it blocks, if it
// has to, it calls wait once. When ctx ends first, work goes on.
//
// To drain instead would leave the machine idle behind the longest task while
// others could have run.
func (a *Agent) Rest(ctx context.Context, wait func()) error {
	rest := func() bool {
		if a.busy > 0 || a.unstart > 0 {
			return false
		}
		a.stopping = true
		return true
	}
	a.mu.Lock()
	done := rest()
	a.mu.Unlock()
	if done {
		return nil
	}
	wait()
	return a.await(ctx, rest)
}

// Kill ends what runs without its grace, starts nothing more, and blocks until
// the processes are gone, at most for some seconds. It answers how many tasks
// it has killed. Run still has to be ended.
func (a *Agent) Kill() int {
	a.mu.Lock()
	a.stopping = true
	killed := 0
	for _, s := range a.slots {
		if s.lease != nil {
			killed++
			a.stopSlot(s, verdictPreempt, "worker was told to leave at once")
			s.task.kill("worker was told to leave at once")
		}
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	_ = a.await(ctx, func() bool { return a.busy == 0 })
	return killed
}
