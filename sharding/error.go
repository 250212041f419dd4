// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrIndex is wrapped where an index is not below the length.
var ErrIndex = errors.New("index out of range")

// Error is a mistake in a sweep or a map, with its place in the job file.
type Error struct {
	// Path below the root of the job file, e.g. "sweep.params.lr.log[1]",
	// "sweep.exclude", "map.over".
	Path string
	// Value is the offending text, empty where the absence is the mistake.
	Value string
	// Msg says what is wrong and what to do.
	Msg string
	// Err is the cause, nil for most.
	Err error
	// Offset is the byte offset inside Value of an expression or template;
	// -1 otherwise.
	Offset int
}

// Error is one line: path, value, message, place inside an expression.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	if e.Value != "" {
		b.WriteString(strconv.Quote(clipText(e.Value)))
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Offset >= 0 {
		line, col := e.LineColumn()
		fmt.Fprintf(&b, " (at %d:%d)", line, col)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// LineColumn is the place of Offset inside Value, both from 1, columns in
// characters; 0, 0 without an offset.
func (e *Error) LineColumn() (line, column int) {
	if e.Offset < 0 || e.Offset > len(e.Value) {
		return 0, 0
	}
	before := e.Value[:e.Offset]
	line = 1 + strings.Count(before, "\n")
	before = before[strings.LastIndexByte(before, '\n')+1:]
	return line, 1 + len([]rune(before))
}

// clipText keeps an error readable when the value is hostile.
func clipText(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func errAt(path, value, format string, args ...any) *Error {
	return &Error{Path: path, Value: value, Msg: fmt.Sprintf(format, args...), Offset: -1}
}
