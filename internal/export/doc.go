// SPDX-License-Identifier: Apache-2.0

// Package export writes the results of a job as a table, JSON, YAML, CSV, JSON
// lines or Parquet: one row per index, with the point and what the task reported as
// typed columns.
//
// # Columns
//
//	index  <parameters…>  <outputs…>  state exitCode attempts durationMs
//	peakMemory startedAt node reason reusedFrom
//
// Parameters and outputs stand in the order in which they first occur. Nested
// outputs are named with dots (metrics.val_loss). A parameter or output whose
// name is taken gets the prefix "param." or "output.". exitCode to node are
// those of the last attempt; durationMs is in milliseconds, peakMemory in
// bytes, startedAt in UTC. A column holds integers, floats, booleans or text,
// whichever fits all of its values; integers and floats together are floats,
// any other mix is text. Lists are text too, as JSON. Where a format types each
// value (JSON, YAML, JSON lines), a column that would be text holds every value
// as it was reported: a list stays a list. A value that is not there is empty
// in CSV, else null.
//
// # Two passes
//
// The columns and their types are known only when the last row has been seen:
// a parameter may exist in the last point alone. Guessing them from the first
// rows would drop values or fail in the middle of a file. Asking the
// coordinator twice would see two different states of a running job. So the
// rows are read from the coordinator once, into a spool (in memory up to 8 MiB,
// then in a temporary file that is removed), and written from there. Memory
// does not grow with the number of rows, except in a table, which is cut at
// [MaxTableRows].
//
// Write blocks until all is written. What was written before an error is
// incomplete; callers that write to a file write to a temporary one.
package export
