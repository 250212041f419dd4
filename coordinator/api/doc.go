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
// Errors are gRPC statuses whose text is meant for people: what, which value,
// what to do.
package api
