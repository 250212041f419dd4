// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Slot runs tasks one after the other. It belongs to the goroutine that made
// it.
type Slot struct {
	r     *Runner
	attr  syscall.ProcAttr
	sys   syscall.SysProcAttr
	files [3]uintptr
	// current is the task that the meter looks at.
	current atomic.Pointer[Task]
}

// NewSlot pins the calling goroutine to its thread until Close.
func (r *Runner) NewSlot() *Slot {
	runtime.LockOSThread()
	clearSignalMask()
	s := &Slot{r: r}
	s.sys = newSysProcAttr()
	s.attr.Sys = &s.sys
	s.attr.Files = s.files[:]
	if sampleMemory {
		r.meter.add(s)
	}
	return s
}

// Close unpins the goroutine. No task of the slot may be running.
func (s *Slot) Close() {
	s.r.meter.remove(s)
	runtime.UnlockOSThread()
}

// Run starts the task, calls started (which may be nil) with it in the slot's
// goroutine, and blocks until it has ended.
func (s *Slot) Run(spec *Spec, started func(*Task)) Result {
	t, err := s.Start(spec)
	if err != nil {
		return NotStarted(err)
	}
	if started != nil {
		started(t)
	}
	return t.Wait()
}

// Start starts the task; the error is a *StartError. The task must be waited
// for before the slot starts another.
func (s *Slot) Start(spec *Spec) (*Task, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	s.files[0] = s.descriptor(spec.Stdin)
	s.files[1] = s.descriptor(spec.Stdout)
	s.files[2] = s.descriptor(spec.Stderr)
	s.attr.Dir = spec.Dir
	s.attr.Env = spec.Env
	t := &Task{grace: spec.Grace}
	if t.grace == 0 {
		t.grace = DefaultGrace
	}
	var err error
	if spec.Limits == (Limits{}) {
		t.startedAt = time.Now()
		t.pid, err = forkExec(spec.Path, spec.Args, &s.attr)
	} else {
		err = s.startLimited(t, spec)
	}
	s.attr.Env = nil
	if err != nil {
		return nil, startError(spec, err)
	}
	if spec.Timeout > 0 {
		t.mu.Lock()
		t.timeout = time.AfterFunc(spec.Timeout, t.onTimeout)
		t.mu.Unlock()
	}
	if sampleMemory {
		// Nobody else has the task yet.
		t.pause, t.nextLook = firstLook, t.startedAt.Add(firstLook)
		s.current.Store(t)
		t.slot = s
		s.r.meter.started()
	}
	return t, nil
}

func (s *Slot) startLimited(t *Task, spec *Spec) error {
	if s.r.groups != nil {
		g, err := s.r.groups.create(spec.Limits)
		if err != nil {
			return &StartError{Reason: "cgroup for the task's limits: " + err.Error(), Err: err}
		}
		t.group = g
		t.startedAt = time.Now()
		t.pid, err = g.start(s, spec)
		if err != nil {
			g.remove()
		}
		return err
	}
	s.r.warnNoGroups()
	t.startedAt = time.Now()
	var err error
	if spec.Limits.MemoryBytes > 0 && s.r.rlimits {
		t.pid, err = s.startWithRlimit(spec)
	} else {
		t.pid, err = forkExec(spec.Path, spec.Args, &s.attr)
	}
	return err
}

func (s *Slot) descriptor(fd int) uintptr {
	if fd == 0 {
		return uintptr(s.r.nullFD)
	}
	return uintptr(fd)
}

// Wait blocks until the task has ended and is reaped. It must be called once,
// by the slot's goroutine.
func (t *Task) Wait() Result {
	err := waitExited(t.pid)
	ended := time.Now()
	if t.slot != nil {
		t.slot.current.Store(nil)
	}
	// From here to the reap the process id is a zombie's and cannot be
	// recycled; the lock keeps late signals out once it is reaped.
	t.mu.Lock()
	t.exited = true
	if t.timeout != nil {
		t.timeout.Stop()
	}
	if t.escalate != nil {
		t.escalate.Stop()
	}
	var ws syscall.WaitStatus
	var ru syscall.Rusage
	if err == nil {
		_ = syscall.Kill(-t.pid, syscall.SIGKILL)
		err = reap(t.pid, &ws, &ru)
	}
	outcome, reason, sampled := t.stopOutcome, t.stopReason, t.sampled
	t.mu.Unlock()

	res := Result{StartedAt: t.startedAt, Duration: ended.Sub(t.startedAt)}
	res.Stragglers = !groupGone(t.pid)
	var oom bool
	var groupPeak int64
	if t.group != nil {
		if !t.group.killAll() {
			res.Stragglers = true
		}
		oom, groupPeak = t.group.memory()
		t.group.remove()
	}
	if err != nil {
		// Someone else reaped our child (a foreign wait for any process).
		res.Outcome = volleyv1.Outcome_OUTCOME_FAILED
		res.ExitCode = 255
		res.Reason = "exit status lost: " + err.Error()
		return res
	}
	res.CPUTime = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	if res.PeakMemoryBytes = max(peakMemory(&ru), sampled); res.PeakMemoryBytes == 0 {
		res.PeakMemoryBytes = groupPeak
	}
	switch {
	case ws.Signaled():
		res.Signal = ws.Signal()
		res.ExitCode = 128 + int(ws.Signal())
	default:
		res.ExitCode = ws.ExitStatus()
	}
	switch {
	case outcome != volleyv1.Outcome_OUTCOME_UNSPECIFIED:
		res.Outcome, res.Reason = outcome, reason
	case res.ExitCode != 0 && oom:
		res.Outcome, res.Reason = volleyv1.Outcome_OUTCOME_OUT_OF_MEMORY, ReasonOutOfMemory
	case res.ExitCode != 0:
		res.Outcome = volleyv1.Outcome_OUTCOME_FAILED
	}
	return res
}
