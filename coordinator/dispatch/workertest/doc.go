// SPDX-License-Identifier: Apache-2.0

// Package workertest is a worker for tests of the coordinator: it speaks the
// whole protocol of WorkerService and runs functions instead of processes.
//
// A Worker outlives its sessions, as a real one does: it keeps its leases and
// the reports that were not acknowledged, and states them in the next Hello.
// Functions run at once, in the session's goroutine; a task that a function
// holds goes on until Finish. All methods may be called from any goroutine.
// Connect blocks until the coordinator has answered; Cut and Bye block until
// the session has ended.
package workertest
