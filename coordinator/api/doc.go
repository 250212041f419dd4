// SPDX-License-Identifier: Apache-2.0

// Package api serves clients: gRPC on one side, the engine's commands and
// views on the other. It keeps no truth of its own.
//
// What a client is told is durable: commands are answered after their batch,
// and reads wait for the batch that they may have seen part of (see package
// engine).
//
// Work that grows with the number of points, such as rendering parameters or
// finding what an earlier job has done, happens here and not in the engine's
// goroutine: views copy what is needed, a page at a time.
//
// # Blocking
//
// Every call blocks until the engine has answered or its context ends. Views
// are bounded: so many rows, blocks of records or jobs each, and between two of
// them the engine does other things, so a listing of 10^8 children is no
// snapshot. A job is looked up once in a call; a page token names the job that
// the listing began with, because its name may mean another one by then.
//
// Watchers of one job share a topic, which reads the job for all of them, as
// often as the most impatient asks for and at once when it has ended. Readings
// are numbered in the order of the views, so that no watcher sees an older one
// after a newer.
//
// # Names
//
// Wherever a job id is asked for, the name of a job will do: it means the
// newest of that name.
//
// # Errors
//
// Errors are gRPC statuses whose text is meant for people: what, which value,
// what to do.
package api
