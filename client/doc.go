// SPDX-License-Identifier: Apache-2.0

// Package client is the Go client of Volley's public API.
//
//	c, err := client.Dial(ctx, client.Options{Addr: "127.0.0.1:7480"})
//	if err != nil { … }
//	defer c.Close()
//	job, err := c.Submit(ctx, client.Submission{Spec: spec})
//	for j, err := range c.Watch(ctx, job.JobId, 0) { … }
//
// It is thin: messages are those of the generated package
// proto/volley/v1, and nothing is cached. What it adds is the order of calls
// (the files of a job are stored before the job is submitted), iterators in
// place of streams and pages, names in place of ids, and errors of which
// [Kind] says what to do.
//
// # Blocking
//
// Every method blocks until it has an answer or the context ends; give it a
// context with a deadline to wait no longer than that. Dial blocks until the
// coordinator has answered or refused the first connection and does not wait
// for one that is not there.
//
// # Retries
//
// A client from Dial that loses its coordinator waits for it, for
// Options.RetryFor, in calls that may be made twice: reading, watching,
// storing files, cancelling, and submitting, which always carries an
// idempotency key. Rerun is never repeated: a second one would run a third
// time what failed between the two. Streams of results and logs are not taken
// up again once a part of them was handed out. A client from New never
// retries: the one who made the connection knows whether it can come back.
//
// # Durability
//
// A job that Submit answered for survives a power cut of the coordinator.
//
// A Client is safe for concurrent use.
package client
