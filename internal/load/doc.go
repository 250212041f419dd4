// SPDX-License-Identifier: Apache-2.0

// Package load drives a coordinator with a known load and measures what comes
// out: it is what `volley bench` runs.
//
// Four benchmarks share one frame. Dispatch runs tasks that do nothing through
// real workers, spawn runs processes, latency measures from the call of
// SubmitJob to the first process of the job, and scale connects thousands of
// simulated workers, which speak the real protocol over streams of their own.
//
// The coordinator is one of this process, one in a process of its own, or one
// that runs already. The first two keep their data in a directory that is made
// for the run and removed after it; both are real servers with the journal
// fsynced, reached over loopback TCP. A coordinator that runs already is used
// with care: workers that only pretend to run tasks must never be given
// somebody's work, so dispatch and scale refuse a coordinator that has workers
// or unfinished jobs, and stop at the first task that is not theirs, which
// they hand back.
//
// Only what a client has seen recorded counts as done. Times are of the
// monotonic clock of this process. A figure that was not measured is left out,
// never zero.
//
// Run blocks until the load is done or ctx ends; then it stops what it has
// started, in good order, and reports what was measured until then.
package load
