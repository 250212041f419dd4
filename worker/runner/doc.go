// SPDX-License-Identifier: Apache-2.0

// Package runner runs one task as one process and says how it ended.
//
// # Use
//
//	r, err := runner.New(runner.Options{ID: nodeID, Logger: log})
//	slot := r.NewSlot()              // in the goroutine that will use it
//	defer slot.Close()
//	for spec := range work {
//		res := slot.Run(&spec, func(t *runner.Task) { live.Add(t) })
//	}
//
// A [Slot] belongs to one goroutine and pins it to its thread. The same
// thread forks and waits: no goroutine is started per task and the wait costs
// no thread switch beside the one that the kernel makes. The pin is also what
// makes the parent-death signal right, because Linux sends it when the
// *thread* that forked ends; a runtime thread that forked for an unpinned
// goroutine may end under a live task. [Runner.Run] is the same for callers
// without a slot; it keeps pinned goroutines of its own.
//
// # What a task gets
//
// Descriptors 0, 1 and 2 and no other; default signal dispositions and an
// empty mask; a process group of its own; SIGKILL when the worker dies (Linux;
// it reaches the task's first process, not what that started, which the next
// worker ends by [KillStrays]); the limits of its [Spec]. No shell is involved.
//
// # Order and blocking
//
// Start blocks until the program has been executed or could not be, typically
// under a millisecond. Wait blocks until the first process of the task has
// ended, the rest of its group (and cgroup, where it has one) has been killed,
// and the process is reaped: after Wait nothing of the group runs, unless
// Result.Stragglers says so. A process that the kernel cannot kill (in an
// uninterruptible wait on a dead file server) keeps Wait blocked.
//
// Task.Stop and Task.Kill may be called by any goroutine at any time, never
// block and do nothing after the end: signals are sent only while the kernel
// still holds the process id (the wait looks first with WNOWAIT and reaps
// under the task's lock), so a recycled id is never hit.
//
// A process that leaves its group by setsid is killed with the cgroup, where
// the task has one. Elsewhere it survives the task; package output notices
// when it still holds the task's output. The worker should not be process 1 of
// a container, since escaped processes would then stay as its zombies: use an
// init (docker run --init).
//
// # Limits
//
// CPU and memory limits use cgroup v2 or v1, whichever the worker may write
// below its own cgroup; found once by New. Tasks without limits use none. A
// task is born inside its cgroup: v2 by CLONE_INTO_CGROUP, v1 by moving the
// forking thread there and back, which v1 permits per thread; writing the id
// of the started process instead would let it allocate or fork outside first.
//
// Where no cgroup is writable the first task with limits logs it once, memory limits become
// RLIMIT_DATA of every process of the task, and CPU limits are not enforced.
// RLIMIT_DATA is set while the program is stopped at its first instruction. It
// counts private writable memory, so that an allocation beyond it fails
// instead of the task being killed, and it holds per process. RLIMIT_AS would
// also count what is only reserved, and stop every program that maps a large
// address space up front (CUDA, Java, Go) at once.
//
// # Accounting
//
// Peak memory and CPU time come from the wait (rusage): the task's first
// process and every descendant that was waited for. Linux counts the memory
// of the worker at the moment of the fork as the child's own peak, so a peak
// not above the worker's is taken from looks at the running task, the first
// after 10 ms, the next ever later: what a task takes in its last third may be
// missed then. Of shorter tasks it is unknown and reported as 0, unless the
// task's cgroup knows better.
package runner
