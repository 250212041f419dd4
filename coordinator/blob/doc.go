// SPDX-License-Identifier: Apache-2.0

// Package blob keeps the snapshots of files that jobs name, by the SHA-256 of
// their content, in a directory of the coordinator.
//
// A blob is there whole or not at all: it is written beside its place, hashed
// on the way, synced, and renamed. Storing the same content twice is no error,
// also at the same time. All methods may be called from any goroutine and
// block on the disk.
package blob
