// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// maxRecord bounds one record: more is a file that has no records, and would
// be held in memory whole.
const maxRecord = 16 << 20

// Sizes of the read buffer: large to stream, small to fetch one record.
const (
	streamBuffer = 256 << 10
	fetchBuffer  = 64 << 10
)

// rawRecord is one record as it stands in the file.
type rawRecord struct {
	raw  []byte // without the line end; valid until the next call of next
	off  int64  // where it begins
	end  int64  // where the next line begins
	line uint64 // number of its first line, counted from where the scan began
}

// recordScanner cuts a stream into records: lines, or rows of CSV, which may
// hold line ends in quotes. Empty lines are no records.
type recordScanner struct {
	r     io.Reader
	csv   bool
	json  bool
	comma byte

	buf      []byte
	pos, end int   // buf[pos:end] is read and not scanned
	base     int64 // offset of buf[0] in the file
	line     uint64
	eof      bool
	fields   [][]byte // scratch
}

func newRecordScanner(format volleyv1.MapFormat, comma byte, buffer int) *recordScanner {
	return &recordScanner{
		csv:   format == volleyv1.MapFormat_MAP_FORMAT_CSV,
		json:  format == volleyv1.MapFormat_MAP_FORMAT_JSONL,
		comma: comma,
		buf:   make([]byte, buffer),
	}
}

// reset begins anew with r, which stands at offset off of its file.
func (s *recordScanner) reset(r io.Reader, off int64) {
	s.r, s.base, s.pos, s.end, s.line, s.eof = r, off, 0, 0, 1, false
}

// offset is where the next record, or an empty line before it, begins.
func (s *recordScanner) offset() int64 { return s.base + int64(s.pos) }

// fill reads more behind buf[pos:end], moving or growing the buffer as needed.
func (s *recordScanner) fill() error {
	if s.pos > 0 {
		copy(s.buf, s.buf[s.pos:s.end])
		s.base += int64(s.pos)
		s.end -= s.pos
		s.pos = 0
	}
	if s.end == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := s.r.Read(s.buf[s.end:])
	if i := bytes.IndexByte(s.buf[s.end:s.end+n], 0); i >= 0 {
		return fmt.Errorf("NUL byte at offset %d: this is a binary, compressed or UTF-16 file, not text", s.base+int64(s.end+i))
	}
	s.end += n
	if errors.Is(err, io.EOF) {
		s.eof = true
		return nil
	}
	return err
}

// skipBOM drops a byte order mark at the beginning of a file. One of UTF-16 is
// an error.
func (s *recordScanner) skipBOM() error {
	for s.end < 3 && !s.eof {
		if err := s.fill(); err != nil {
			return err
		}
	}
	head := s.buf[:s.end]
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return errors.New("a UTF-16 file; convert it to UTF-8")
	}
	if bytes.HasPrefix(head, []byte{0xef, 0xbb, 0xbf}) {
		s.pos = 3
	}
	return nil
}

// lineError is a mistake in a record.
type lineError struct {
	line   uint64 // from 1
	column int    // in bytes, from 1; 0: the whole line
	msg    string
}

func (e *lineError) Error() string {
	if e.column == 0 {
		return fmt.Sprintf("line %d: %s", e.line, e.msg)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.line, e.column, e.msg)
}

// next answers with the next record, or io.EOF. A mistake in the data is a
// *lineError.
func (s *recordScanner) next() (rawRecord, error) {
	scanned, lines, open := 0, uint64(0), false // of buf[pos:], since pos
	for {
		nl := bytes.IndexByte(s.buf[s.pos+scanned:s.end], '\n')
		if nl < 0 && !s.eof {
			// Nothing is marked as scanned but whole lines: quotes are
			// counted once per line.
			if s.end-s.pos > maxRecord+2 {
				return rawRecord{}, s.tooLong(open)
			}
			if err := s.fill(); err != nil {
				return rawRecord{}, err
			}
			continue
		}
		var size, content int // of the record with and without its line end
		if nl < 0 {
			if s.pos == s.end {
				return rawRecord{}, io.EOF
			}
			size = s.end - s.pos
			content = size
		} else {
			size = scanned + nl + 1
			content = size - 1
		}
		if s.csv {
			// Quotes come in pairs: an odd number up to here means that
			// the line end is inside of quotes.
			if bytes.Count(s.buf[s.pos+scanned:s.pos+size], quote)%2 == 1 {
				open = !open
				if open {
					// A stray quote in an unquoted field would swallow
					// the file up to the next quote.
					fields, err := csvFields(s.fields[:0], s.buf[s.pos:s.pos+content], s.comma)
					if s.fields = fields; err != nil && !errors.Is(err, errOpenQuote) {
						return rawRecord{}, csvError(s.line, err)
					}
				}
			}
			if open && nl >= 0 {
				lines++
				scanned = size
				if scanned > maxRecord+2 {
					return rawRecord{}, s.tooLong(open)
				}
				continue
			}
			if open {
				return rawRecord{}, &lineError{s.line, 0, "a quoted field begins here and never ends"}
			}
		}
		if content > 0 && s.buf[s.pos+content-1] == '\r' {
			content--
		}
		if content > maxRecord {
			return rawRecord{}, s.tooLong(open)
		}
		rec := rawRecord{
			raw: s.buf[s.pos : s.pos+content : s.pos+content], off: s.offset(), line: s.line,
		}
		s.pos += size
		s.line += lines + 1
		rec.end = s.offset()
		if len(rec.raw) == 0 || s.json && len(bytes.TrimLeft(rec.raw, " \t\r")) == 0 {
			scanned, lines = 0, 0
			continue
		}
		return rec, nil
	}
}

func (s *recordScanner) tooLong(open bool) error {
	msg := fmt.Sprintf("a record of more than %d MiB", maxRecord>>20)
	if open {
		msg += ": a quoted field begins here and does not end"
	}
	return &lineError{s.line, 0, msg}
}

// csvError places a mistake in the record that begins at the given line.
func csvError(line uint64, err error) error {
	if bad, ok := errors.AsType[*csvFieldError](err); ok {
		return &lineError{line + uint64(bad.line), bad.column, bad.msg}
	}
	return &lineError{line, 0, err.Error()}
}
