// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"errors"
	"slices"
)

var (
	quote        = []byte{'"'}
	errOpenQuote = errors.New("a quoted field does not end")
)

// csvFieldError is a breach of RFC 4180 inside a record.
type csvFieldError struct {
	line   int // after the record's first
	column int // in bytes, from 1
	msg    string
}

func (e *csvFieldError) Error() string { return e.msg }

// csvFields appends the fields of one record to dst. Fields without quotes in
// them share rec's memory.
func csvFields(dst [][]byte, rec []byte, comma byte) ([][]byte, error) {
	fail := func(at int, msg string) ([][]byte, error) {
		before := rec[:at]
		return dst, &csvFieldError{
			line:   bytes.Count(before, []byte{'\n'}),
			column: at - bytes.LastIndexByte(before, '\n'),
			msg:    msg,
		}
	}
	at := 0
	for {
		if at < len(rec) && rec[at] == '"' {
			field, next, err := csvQuoted(rec, at+1)
			if err != nil {
				return dst, err
			}
			dst = append(dst, field)
			if next == len(rec) {
				return dst, nil
			}
			if rec[next] != comma {
				return fail(next, `text after a closing quote; a quote inside a quoted field is written ""`)
			}
			at = next + 1
			continue
		}
		field := rec[at:]
		end := bytes.IndexByte(field, comma)
		if end >= 0 {
			field = field[:end]
		}
		if q := bytes.IndexByte(field, '"'); q >= 0 {
			return fail(at+q, `a quote inside an unquoted field; quote the whole field and write ""`)
		}
		dst = append(dst, field)
		if end < 0 {
			return dst, nil
		}
		at += end + 1
	}
}

// csvQuoted reads a quoted field whose content begins at from, and answers with
// it and the position after the closing quote.
func csvQuoted(rec []byte, from int) (field []byte, next int, err error) {
	start := from
	copied := false
	for {
		q := bytes.IndexByte(rec[from:], '"')
		if q < 0 {
			return nil, 0, errOpenQuote
		}
		q += from
		if copied {
			field = append(field, rec[from:q]...)
		}
		if q+1 == len(rec) || rec[q+1] != '"' {
			if !copied {
				field = rec[start:q]
			}
			return field, q + 1, nil
		}
		if !copied {
			field, copied = slices.Clone(rec[start:q]), true
		}
		field = append(field, '"')
		from = q + 2
	}
}

// csvCount is the number of fields of a record.
func csvCount(scratch [][]byte, rec []byte, comma byte) (n int, rest [][]byte, err error) {
	if bytes.IndexByte(rec, '"') < 0 { // the common case, at memory speed
		return bytes.Count(rec, []byte{comma}) + 1, scratch, nil
	}
	fields, err := csvFields(scratch[:0], rec, comma)
	return len(fields), fields, err
}

// csvComma guesses the delimiter: a tab for .tsv and .tab; else what the header
// has, a comma before a tab before a semicolon.
func csvComma(ext string, header []byte) byte {
	if ext == ".tsv" || ext == ".tab" {
		return '\t'
	}
	for _, c := range []byte{',', '\t', ';'} {
		if bytes.IndexByte(header, c) >= 0 {
			return c
		}
	}
	return ','
}

// csvColumns parses a header into parameter names.
func csvColumns(header []byte, comma byte) ([]string, error) {
	fields, err := csvFields(nil, header, comma)
	if err != nil {
		return nil, err
	}
	raw := make([]string, len(fields))
	for i, f := range fields {
		raw[i] = string(f)
	}
	return columnNames(raw, "column")
}
