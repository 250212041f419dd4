// SPDX-License-Identifier: Apache-2.0

// Package coordinator puts the coordinator together: journal, engine, worker
// sessions and the API, behind one gRPC server.
//
// Open returns when the server leads and serves. Close gives up what it holds
// in the reverse order: it stops taking calls, ends streams, stops the engine
// and closes the journal. Workers go on running and connect again.
//
// Everyone who can reach the listener and has no token is refused. The package
// listens on loopback addresses and unix sockets only: a token in the clear has
// no place on a network.
package coordinator
