// SPDX-License-Identifier: Apache-2.0

// Package spool keeps records on disk until they are acknowledged. The worker
// keeps its reports in one, so that results survive a killed worker process.
//
// Contract:
//
//  1. Append writes the record to the operating system and does not sync: it
//     outlives the process, not a power cut. A node that loses power loses its
//     tasks too, and the coordinator runs again what it has no result for; a
//     sync per report would cost more than the reports themselves.
//  2. Records are numbered by the spool, growing by one across restarts.
//     Ack(n) forgets every record up to n.
//  3. Open finds all records that were appended and not acknowledged, in
//     order. A record torn at the end of the last file is dropped: the process
//     died while it wrote it. An acknowledgement may be lost with it; then an
//     acknowledged record is found again, and the reader must bear that.
//  4. Space is given back: a segment file goes when all of its records are
//     acknowledged.
//
// A Spool is used by one goroutine at a time; no method blocks but on the
// disk.
package spool
