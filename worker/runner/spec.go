// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"syscall"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// DefaultGrace is the time between SIGTERM and SIGKILL when Spec.Grace is 0.
const DefaultGrace = 30 * time.Second

// Reasons in AWS Batch's words, which retry rules match.
const (
	ReasonTimeout     = "Job attempt duration exceeded timeout"
	ReasonOutOfMemory = "OutOfMemoryError: Container killed due to memory usage"
)

// Limits bounds what a task may use. Zero: not limited.
type Limits struct {
	// CPUMilli is CPU time per time, in thousandths of a CPU.
	CPUMilli int64
	// MemoryBytes bounds the memory of all processes of the task together,
	// page cache included; beyond it the task is killed.
	MemoryBytes int64
}

// Spec is one task. The runner reads it only during Start.
type Spec struct {
	// Path is the program as LookPath resolved it.
	Path string
	// Args is the whole argument vector; Args[0] is the name of the program.
	Args []string
	// Env is the whole environment, "NAME=value".
	Env []string
	// Dir is the working directory. Empty: the worker's.
	Dir string
	// Stdin, Stdout and Stderr are descriptors that the task gets as 0, 1 and
	// 2; the caller keeps its own copies. 0: /dev/null, so a task never reads
	// the worker's own standard input.
	Stdin, Stdout, Stderr int
	Limits                Limits
	// Timeout is the longest time from the start of the process to its end.
	// 0: none.
	Timeout time.Duration
	// Grace is the time between SIGTERM and SIGKILL. 0: DefaultGrace; below
	// 0: SIGKILL at once.
	Grace time.Duration
}

// Result says how a task ended.
type Result struct {
	Outcome volleyv1.Outcome
	// ExitCode is the exit code, or 128+n when signal n ended the process.
	// Meaningless for OUTCOME_NOT_STARTED.
	ExitCode int
	// Signal ended the process; 0: it exited.
	Signal    syscall.Signal
	StartedAt time.Time
	Duration  time.Duration
	// PeakMemoryBytes is 0 when not known (see the package comment).
	PeakMemoryBytes int64
	CPUTime         time.Duration
	// Reason is for people and for retry rules: the start error, the timeout,
	// the memory limit, or what Stop was given. Empty for a plain exit.
	Reason string
	// Stragglers: a process of the task may still be alive and hold its
	// output.
	Stragglers bool
}

// StartError is why a task could not be started.
type StartError struct {
	// Reason is one line for the user.
	Reason string
	// Err is the system's error; may be nil.
	Err error
}

func (e *StartError) Error() string { return e.Reason }

func (e *StartError) Unwrap() error { return e.Err }

// NotStarted is the Result of a task that Start or LookPath refused.
func NotStarted(err error) Result {
	return Result{
		Outcome:   volleyv1.Outcome_OUTCOME_NOT_STARTED,
		StartedAt: time.Now(),
		Reason:    err.Error(),
	}
}

// Validate says what is wrong with the spec by itself.
func (s *Spec) Validate() error {
	switch {
	case s.Path == "":
		return &StartError{Reason: "spec has no program path"}
	case len(s.Args) == 0:
		return &StartError{Reason: fmt.Sprintf("spec of %q has no argument vector; the first argument is the program's name", s.Path)}
	case s.Limits.CPUMilli < 0:
		return &StartError{Reason: fmt.Sprintf("cpu limit %d milli is negative; use 0 for none", s.Limits.CPUMilli)}
	case s.Limits.MemoryBytes < 0:
		return &StartError{Reason: fmt.Sprintf("memory limit %d bytes is negative; use 0 for none", s.Limits.MemoryBytes)}
	case s.Timeout < 0:
		return &StartError{Reason: fmt.Sprintf("timeout %s is negative; use 0 for none", s.Timeout)}
	case s.Stdin < 0 || s.Stdout < 0 || s.Stderr < 0:
		return &StartError{Reason: fmt.Sprintf("descriptors %d, %d, %d: a negative one is not open", s.Stdin, s.Stdout, s.Stderr)}
	}
	return nil
}
