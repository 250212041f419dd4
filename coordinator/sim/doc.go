// SPDX-License-Identifier: Apache-2.0

// Package sim runs the coordinator's state, scheduler and engine against a
// simulated disk, network and workers, all driven by one seed.
//
// # What is real
//
// engine.Core with state and scheduler, and journal.Memory with held commits.
// Sessions of workers need goroutines and gRPC in package dispatch; the rule by
// which effects find their session is stated again here, see coord.release.
// Workers follow proto/volley/v1/worker.proto to the letter and share no code
// with package worker.
//
// # Time and order
//
// There are no goroutines, no clock and no map order: one queue of events in
// virtual time, one random source. The same seed gives the same run, event by
// event. Events of one stream keep their order; those of two streams of one
// worker do not, so a Hello may arrive after a newer one.
//
// # What is checked
//
// After every event: the invariants of the state; that what the engine released
// is what a second state says which reads only what the disk holds; that every
// recorded attempt is one execution, recorded once, under a lease that was
// current; that no index ran twice under one lease and executions under current
// leases have growing numbers; that capacity, parallel and concurrency hold.
// After every crash: that the state is the one of the disk, and that everything
// which was acknowledged is in it. When the faults have stopped: that every job
// ends.
package sim
