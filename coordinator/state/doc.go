// SPDX-License-Identifier: Apache-2.0

// Package state is what is true about the cluster: jobs, children, leases and
// workers, as a pure function of the journal.
//
// # Contract
//
// Apply takes one entry and returns its effects. There is no clock, no
// goroutine, no random source and no I/O in this package, and nothing depends
// on the order of a map: time and ids come in with the entry, so a replay of
// the journal ends in the same state on every machine.
//
// An entry is either applied whole or refused with an error and no change.
// Refused entries are not journaled; entries read back from the journal are
// never refused, and the caller stops the node when one is.
//
// Effects must not be acted on before the entry is durable. They are a closed
// set of types, see Effect.
//
// A State is not safe for concurrent use. Freeze gives a copy that may be
// written to a snapshot by another goroutine while the State goes on.
//
// # How a child is stored
//
// A child that nobody has touched costs nothing: it is a member of a run in
// one of the job's sets.
//
//	ready      may be leased now
//	cancelled  failed before it started, by the job's cancelReason
//	depFailed  failed because a dependency failed
//	(none)     pending, if it has no record either
//
// A child that has started has a record of 28 bytes in a chunk of 1024
// neighbours; chunks exist only where records do. Leased children are in the
// `remaining` set of exactly one lease. The rare rest (earlier attempts,
// outputs, metrics) hangs off the chunk.
//
// # Fencing
//
// A lease is the right of one worker to run a set of indexes of one job. All
// indexes of a lease run as the same attempt number. First attempts may be
// added to a lease that the worker holds already, unless it is older than the
// last time that the job lost indexes with a worker (they may have started
// unheard); every later attempt opens a new lease. So each execution of an index happens under a lease number larger
// than the one before, and a result counts only if its index is still in the
// `remaining` set of its lease. That one test is what makes recording
// exactly-once: a second report of the same result, or a result of a worker
// that was given up for lost, does not find its index there.
package state
