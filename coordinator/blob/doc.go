// SPDX-License-Identifier: Apache-2.0

// Package blob keeps the snapshots of files that jobs name, by the SHA-256 of
// their content, in a directory of the coordinator.
//
// A blob is there whole or not at all: it is written beside its place, hashed
// on the way, synced, and renamed. Storing the same content twice is no error,
// also at the same time. When Commit has returned, the blob survives a power
// cut.
//
// Blobs have an age: the time since they were stored, or asked for with Keep.
// RemoveBefore removes old ones only, so that files which were stored for a job
// that is still to be submitted are not taken away before it names them.
//
// All methods may be called from any goroutine and
// block on the disk.
package blob
