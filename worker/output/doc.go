// SPDX-License-Identifier: Apache-2.0

// Package output keeps the standard output and error of many tasks in few
// files.
//
// # Segments
//
// A [Slot] runs one attempt at a time and owns one segment: two append-only
// files, NNN.out and NNN.err. Begin opens them for the attempt and the process
// gets them as descriptors 1 and 2: nothing is copied, and no goroutine or pipe
// exists per task. What lies between the sizes at Begin and at End is the
// attempt's output. A segment that has grown over Options.SegmentBytes is
// followed by a new one at the next Begin; an attempt never spans two.
//
// A process that the task left behind may hold the files and write later. End
// finds out by the kernel's own count of writers (a read lease, Linux) whatever
// the process did to hide from its parent, and then the slot goes on in a new
// segment: outputs never mix. Where leases are not supported the caller's word
// (Result.Stragglers of package runner) decides. This is why the files are
// opened for each attempt and not once: descriptors that come from one open
// count as one writer.
//
// # Index
//
// The file "index" says which part of which segment is whose: after an 8-byte
// magic come frames
//
//	length uint32 | crc32c uint32 | payload
//
// (little endian, length and checksum of the payload), each with many records
// of a kind byte and uvarints:
//
//	1 output   job index attempt segment outOff outLen errOff errLen
//	2 silent   job attempt first count      (attempts that wrote nothing)
//	3 removed  job
//
// Open reads frames up to the first that is torn or wrong and cuts the file
// there. Segments found at Open are never appended to again: a task that
// outlived its worker may still write there. Segments without a live entry
// are deleted, and an index of mostly removed records is rewritten.
//
// # Durability
//
// End keeps its record in memory until Flush, or until 32 KiB of them have
// gathered. Flush hands them to the system with one write: they then survive
// the death of the process, not of the machine; Sync makes index and output
// survive that too. A worker flushes before it reports results. The output of
// an attempt that was running when the worker died is not in the index and
// not found afterwards.
//
// # Memory
//
// An attempt with output costs 32 bytes, in one sorted slice per job (up to
// twice that while the slice grows). Attempts without output are kept as runs
// of successive indexes: 16 bytes a run, whatever its length. One million
// attempts that all wrote cost 32 MB, one million that wrote nothing a few
// hundred bytes.
//
// # Concurrency and blocking
//
// A Slot's Begin and End belong to one goroutine; everything else may be
// called by any. Readers read the files without a lock while slots write.
// Follow blocks until the attempt has ended or its context is done; nothing
// else blocks on a task.
package output
