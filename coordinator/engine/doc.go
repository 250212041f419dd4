// SPDX-License-Identifier: Apache-2.0

// Package engine is the loop of the coordinator: apply, plan, journal, release
// effects.
//
// # Order and durability
//
// Commands are applied to the state as they come, and the scheduler plans on
// the result; both are speculation until the journal has committed the batch
// that they are part of. Nothing leaves the engine before that: not the answer
// to a command, not a grant to a worker, not an acknowledgement, and not what
// a View has read. So nobody outside can ever have seen something that a power
// cut takes back.
//
// Grants in particular wait for their batch. Sending them ahead would save one
// disk write of latency, but a coordinator that loses the batch would grant
// the same indexes again, under the same lease number, to another worker.
//
// At most two batches are on their way to the disk; what comes meanwhile
// gathers in the next. That is the group commit: the slower the disk, the
// larger the batches.
//
// # Snapshots
//
// A snapshot is cut at a moment at which no batch is on its way, so that the
// state holds exactly what the journal has committed. Frozen copies are
// copy-on-write and are written while the loop goes on.
//
// # Losing leadership
//
// The state then holds entries that may never be committed. Run returns
// ErrNotLeader, and the owner opens a new engine, which reads the journal
// again: there is one way to build a state, and it is tested by every start.
//
// Core is the machine without goroutines, clock or channels, which the
// simulator drives step by step. Engine is the goroutine around it.
package engine
