// SPDX-License-Identifier: Apache-2.0

// Package render turns the messages of the API into what a command prints:
// tables for people, JSON and YAML for programs, names for shells.
//
// JSON and YAML take their field names from the proto (lowerCamel). They differ
// from protojson in four points, because the reader is jq and not another
// protobuf: 64-bit integers are numbers and not strings, enums lose the prefix
// that repeats their type (SUCCEEDED, not JOB_STATE_SUCCEEDED), the fields that
// hold a JSON document (params, output) hold it as such, and scalars and lists
// are there also when they are zero or empty.
//
// Whatever comes from a task or another user (names, reasons, parameters) goes
// through [Clean] before it reaches a terminal: an escape sequence in an error
// text must not repaint the screen of the one who reads it.
//
// Nothing here blocks but the writer, and nothing keeps state. Tables are held
// in memory until they are complete, since a column is as wide as its widest
// cell; JSON is written element by element.
package render
