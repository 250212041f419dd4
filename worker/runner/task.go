// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"sync"
	"syscall"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Task is a started task.
type Task struct {
	pid       int
	slot      *Slot  // nil: the meter does not look at it
	group     cgroup // nil: none
	startedAt time.Time
	grace     time.Duration

	mu sync.Mutex
	// Invariant: signals are sent only while exited is false, under mu.
	exited   bool
	timeout  *time.Timer
	escalate *time.Timer
	// Of the meter: peak memory as seen while the task runs.
	sampled  int64
	nextLook time.Time
	pause    time.Duration
	// What the first stop said; it decides the Result.
	stopOutcome volleyv1.Outcome
	stopReason  string
}

// PID is the process id, and the process group id, of the task.
func (t *Task) PID() int { return t.pid }

// StartedAt is when the process was started.
func (t *Task) StartedAt() time.Time { return t.startedAt }

// Stop sends SIGTERM to the task's process group and, after the grace, SIGKILL
// to everything of the task. The Result will be OUTCOME_KILLED with the reason.
// It does not block. A second call changes nothing.
func (t *Task) Stop(reason string) {
	t.stop(volleyv1.Outcome_OUTCOME_KILLED, reason)
}

// Kill sends SIGKILL to everything of the task at once, also within the grace
// of an earlier Stop, whose reason stays. It does not block.
func (t *Task) Kill(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exited {
		return
	}
	if t.stopOutcome == volleyv1.Outcome_OUTCOME_UNSPECIFIED {
		t.stopOutcome, t.stopReason = volleyv1.Outcome_OUTCOME_KILLED, reason
	}
	t.killLocked()
}

// Signal sends a signal to the task's process group: a notice, say. It does
// not change the Result.
func (t *Task) Signal(sig syscall.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.exited {
		_ = syscall.Kill(-t.pid, sig)
	}
}

func (t *Task) onTimeout() { t.stop(volleyv1.Outcome_OUTCOME_TIMED_OUT, ReasonTimeout) }

func (t *Task) stop(outcome volleyv1.Outcome, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exited || t.stopOutcome != volleyv1.Outcome_OUTCOME_UNSPECIFIED {
		return
	}
	t.stopOutcome, t.stopReason = outcome, reason
	if t.grace < 0 {
		t.killLocked()
		return
	}
	_ = syscall.Kill(-t.pid, syscall.SIGTERM)
	// A stopped process takes SIGTERM only when it goes on.
	_ = syscall.Kill(-t.pid, syscall.SIGCONT)
	t.escalate = time.AfterFunc(t.grace, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.killLocked()
	})
}

func (t *Task) killLocked() {
	if t.exited {
		return
	}
	_ = syscall.Kill(-t.pid, syscall.SIGKILL)
	if t.group != nil {
		t.group.kill()
	}
}
