// SPDX-License-Identifier: Apache-2.0

// Package worker is the agent of a node: it takes leases from the coordinator,
// runs their tasks and reports how they ended.
//
//	a, err := worker.New(worker.Config{DataDir: dir, Dial: dial, Logger: log})
//	err = a.Run(ctx) // until ctx ends
//
// # Parts
//
// The flusher cuts what has happened into reports and spools them. The
// connector keeps one session with the coordinator: it receives and applies
// what comes; a writer beside it sends reports, then task output. Slots, one
// pinned goroutine each, run the tasks. They share one lock, held for a
// fraction of a microsecond per task: a slot that has finished records the
// result in the columns of the next report and takes its next index in the
// same critical section, so the steady path has no goroutine switch and no
// allocation per task.
//
// # Promises
//
//  1. An index is started at most once under a lease, and what happened to it
//     is reported once: as finished, returned, or preempted. Reports are
//     repeated until they are acknowledged, also by the next process with the
//     same data directory; the coordinator must take a repetition as such. An
//     index that was handed back starts under the same lease only when it is
//     granted again after the hand-back was acknowledged, or after a Hello
//     that does not hold it.
//  2. Results outlive this process: they are in the spool before they are
//     sent. Nothing is synced to the disk, so they do not outlive the machine
//     (see package spool). Task output is findable before its result is sent.
//  3. Neither the capacity of the node nor the parallel number of a lease is
//     exceeded, whatever was granted. Among leases, priority goes first, then
//     the smaller lease number; within a lease, the smaller index. A lease
//     whose task does not fit keeps what it needs from those behind it.
//  4. Without a coordinator everything that is held goes on.
//  5. A clean end stops all tasks. When the process is killed, the kernel kills
//     the first process of each task (on Linux, by the parent-death signal),
//     and New of the next process whatever else has this one's VOLLEY_WORKER in
//     its environment, before Run connects: see home.begin. It waits at most
//     two seconds for that, and only after an unclean end. A restarted worker
//     holds no leases but the results in its spool.
//
// # Reports
//
// A report costs the coordinator a durable batch. One is cut at once when a
// task failed, a lease is done, indexes were handed back, or what is left to
// start lasts less than 20 ms; otherwise when none is unacknowledged and the
// last is 10 ms old, or when news is 10 ms old. Without a session, reports go
// to the spool ten times a second. `started` is said only of processes that
// run when the report is cut.
//
// # What a task sees
//
// Its environment is a clean base (PATH, HOME, LANG, LC_ALL, TZ, USER, LOGNAME,
// TMPDIR of the worker), the job's own variables, and the names VOLLEY_* and
// AWS_BATCH_*; a variable of more than 96 KiB is left out, since it would keep
// the process from starting. Its working directory is the job's, or
// work/JOB/INDEX.ATTEMPT below the data directory (with a level of
// INDEX/1000 for large arrays, and a number behind it when the attempt runs a
// second time), made just before the start and removed when the task leaves
// nothing in it. Links to inputs, the file of records, and a results.json that
// was recorded and has no company do not count as left.
//
// What the task says in results.json (in a working directory that tasks share:
// only of jobs with one task) or on VOLLEY_SOCKET becomes its output, at most
// 64 KiB; invalid or larger, it is left out and the reason says so. The outcome
// is that of the process alone.
//
// Of each of its two streams Config.MaxOutputBytes are kept. Running tasks are
// looked at once a second: one that has written more is stopped, killed a
// second later whatever its grace, and fails with OutputLimitExceeded. One that
// has ended before is cut, and its outcome stays.
//
// # Fused processes
//
// With shard.target_ms one process gets successive indexes. All of them get
// its outcome, and an equal share of its time; its output object and metric go
// with the first. When it fails and the job would not try again, the worker
// runs the halves, their halves, and so on, before it reports, until the
// records that fail alone are found: at most 2·log2(k) processes for each.
// Otherwise the coordinator repeats the indexes, and repeated ones run alone.
//
// # Blocking
//
// Run and Drain block as their comments say; nothing else does but on the
// disk. Config.Logger and Executor are called from many goroutines.
package worker
