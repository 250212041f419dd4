// SPDX-License-Identifier: Apache-2.0

// Package embedded runs a coordinator and a worker inside the command that
// needs them, with their state in a directory of the project: no set-up.
//
//	.volley/
//	  lock           held by the process that runs the coordinator
//	  endpoint.json  where it listens, and the token (mode 0600)
//	  socket         a unix socket; loopback TCP where the path is too long
//	  coordinator/   the journal
//	  submit         held between planning a job and submitting it
//	  worker/        spool, output of tasks, work directories
//
// One process owns the directory at a time: the one with the lock, which the
// kernel releases whatever ends the process. [Open] takes the lock, or joins
// the instance of the process that has it, so that `volley ls` in one terminal
// sees the sweep that runs in another. When an owner leaves, those who joined
// lose their connection and Open again: one of them becomes the owner, and the
// jobs go on from the journal.
//
// # Blocking
//
// Open blocks until the coordinator leads and serves, a few tens of
// milliseconds; for an instance that is just starting or stopping in another
// process it waits some seconds. Close blocks until the worker has stopped its
// tasks, which takes as long as their grace, and the journal is closed.
//
// # Durability
//
// That of the coordinator: what was acknowledged survives. Tasks that run when
// the owner ends are stopped, and queued again without being charged for it;
// who calls Rest before Close stops none. Open records what the worker of a
// killed owner has finished before it returns, so that a plan counts it.
package embedded
