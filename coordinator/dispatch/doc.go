// SPDX-License-Identifier: Apache-2.0

// Package dispatch holds the sessions of workers: leases go out, results come
// in.
//
// # Order
//
// A session begins with a Hello, which goes through the engine like every
// command. Its effects attach the session to the worker; from then on the
// session sends what the effects say, in the order in which their batches
// became durable. A session is told only what follows from its own Hello or
// what was decided after it: when a worker has two streams for a moment, the
// newer Hello cuts the older off.
//
// What a cut session had not sent yet is dropped. The next Hello states what
// the worker holds, and the state puts the difference back in the queue, so
// nothing here needs to be kept or repeated.
//
// # Blocking
//
// Release is called by the engine and only appends to queues. Each session has
// one goroutine that receives and one that sends. A report blocks its receiver
// while the engine's inbox is full: that is the back-pressure on workers.
// Output of tasks travels on the same stream and has credit of its own, so a
// slow reader of logs never holds up reports; one that is too far behind, of a
// worker that sends more than its credit, is cut off.
//
// Every message is a sign of life of its worker. The engine hears of it with
// reports and heartbeats, and now and then with the rest.
package dispatch
