// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"sync"
	"sync/atomic"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Executor runs tasks in place of processes.
type Executor interface {
	// Execute runs the task to its end and says in r, which is zero, how it
	// ended. It is called by many goroutines at once, keeps neither pointer,
	// and returns soon after t.Stopped() is closed.
	Execute(t *Task, r *Result)
}

// Task is one execution: of one index, or of Count successive ones in one
// process. It is valid until Execute returns.
type Task struct {
	Job     uint64
	JobID   string
	Spec    *volleyv1.JobSpec
	Size    uint64
	Index   uint64
	Count   uint64
	Attempt uint32
	Lease   uint64

	job     *job
	prep    *prepared
	started atomic.Bool
	agent   *Agent

	mu      sync.Mutex
	stopped bool
	reason  string
	stopC   chan struct{}
	// onStop is called once, under mu, when the task is to stop. It must not
	// block.
	onStop func(reason string)
	// onKill is called under mu, after onStop, when the task is to end at once.
	onKill func(reason string)
}

// MarkStarted says that the process runs. An executor that does not call it
// has its tasks reported by their results alone.
func (t *Task) MarkStarted() {
	t.started.Store(true)
	if a := t.agent; a != nil && !a.startedNews.Load() && a.startedNews.CompareAndSwap(false, true) {
		a.wake()
	}
}

// Stopped is closed when the task is to stop.
func (t *Task) Stopped() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopC == nil {
		t.stopC = make(chan struct{})
		if t.stopped {
			close(t.stopC)
		}
	}
	return t.stopC
}

// setOnStop registers both; stop is called at once when the stop came before.
func (t *Task) setOnStop(stop, kill func(reason string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onStop, t.onKill = stop, kill
	if t.stopped && stop != nil {
		stop(t.reason)
	}
}

// kill ends a task that was told to stop and is not to have the rest of its
// grace.
func (t *Task) kill(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.onKill != nil {
		t.onKill(reason)
	}
}

func (t *Task) stop(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	t.stopped, t.reason = true, reason
	if t.stopC != nil {
		close(t.stopC)
	}
	if t.onStop != nil {
		t.onStop(reason)
	}
}

// reset makes the task ready for the next execution. It is called under the
// agent's mutex, as stop is; the lock is taken only when the last execution
// left something.
func (t *Task) reset() {
	t.started.Store(false)
	t.mu.Lock()
	t.stopped, t.reason, t.onStop, t.onKill, t.stopC = false, "", nil, nil, nil
	t.mu.Unlock()
}

// Result is how a task ended. The zero Result is a success.
type Result struct {
	Outcome   volleyv1.Outcome
	ExitCode  int
	StartedAt time.Time
	Duration  time.Duration
	PeakKiB   uint64
	CPUMillis uint64
	// Reason says more than the outcome, when there is more to say.
	Reason string
	// Output is what the task reported, a JSON object. The agent keeps it.
	Output []byte
	// Metric holds when HasMetric.
	Metric    float64
	HasMetric bool
	// Isolated: the indexes of a fused process that failed by themselves, all
	// others succeeded. Unset: the outcome is that of every index.
	isolated []isolated
}

// isolated is the outcome of a part of a fused task.
type isolated struct {
	first, count uint64
	result       Result
}

// slotMaker makes what a slot goroutine runs its tasks with.
type slotMaker interface {
	// newSlot is called in the goroutine of the slot.
	newSlot() slotRunner
	// prepare begins to make j ready and calls a.jobReady when it is; it does
	// not block. Called under the agent's mutex; true: it is ready already.
	prepare(j *job) bool
}

type slotRunner interface {
	run(t *Task, r *Result)
	close()
}

type custom struct{ Executor }

func (c custom) newSlot() slotRunner { return customSlot(c) }
func (c custom) prepare(*job) bool   { return true }

type customSlot struct{ Executor }

func (c customSlot) run(t *Task, r *Result) { c.Execute(t, r) }
func (c customSlot) close()                 {}
