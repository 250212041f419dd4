// SPDX-License-Identifier: Apache-2.0

// Package stage keeps the input files of jobs on a worker, by the digest of
// their content, and links them into the working directories of tasks.
//
// A file is fetched once however many jobs and tasks use it: Fetch blocks until
// it is there, verified, and complete; callers who want the same file at the
// same time share one transfer. A file appears under its name by an atomic
// rename and is never changed afterwards; it has no write permission, since
// every task that links it sees the same bytes. Files are not synced: after a
// power cut a damaged one is found by its size or fetched again.
//
// Methods may be called concurrently.
package stage
