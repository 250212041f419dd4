// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Record is one record of a data set.
type Record struct {
	Index uint64
	// Absolute path of the file that it is in; for FILES, the record itself.
	File string
	// The record as it stands in the file, without its line end; for FILES the
	// absolute path. Valid until the Reader's next call.
	Raw []byte
	// LINES: line. CSV: the columns, as strings. JSONL: the top-level members;
	// null is absent, objects and arrays are compact JSON text. FILES: path
	// (absolute), file (as in the manifest: relative when below the job file's
	// directory), stem (the name without its last extension).
	Point Point
}

// Reader reads the records of a data set, one file open at a time. Successive
// records are read on; another one costs at most k records behind a mark of
// the offset index. A Reader belongs to one goroutine.
type Reader struct {
	m   *Manifest
	dir string

	file int // the open file; -1: none
	f    *os.File
	scan *recordScanner
	next uint64    // number in the file of the record that scan reads next
	last rawRecord // record next-1 when held is true
	held bool

	path   []byte // FILES: the raw record
	fields [][]byte
}

// Open makes a Reader of the data set below dir, the directory that the
// manifest was built in. It opens no file yet.
func (m *Manifest) Open(dir string) (*Reader, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open data set: %w", err)
	}
	return &Reader{m: m, dir: dir, file: -1, scan: newRecordScanner(m.format, m.comma, fetchBuffer)}, nil
}

// Close closes the open file.
func (r *Reader) Close() error {
	f := r.f
	r.f, r.file, r.held = nil, -1, false
	if f == nil {
		return nil
	}
	return f.Close()
}

// Manifest is what the Reader was opened from.
func (r *Reader) Manifest() *Manifest { return r.m }

// Record reads record i. It blocks on the file system. A file that is not what
// it was when the manifest was built is an *Error that says what differs.
func (r *Reader) Record(i uint64) (Record, error) {
	raw, f, err := r.raw(i)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Index: i, File: r.m.resolve(r.dir, f), Raw: raw}
	if rec.Point, err = r.point(raw, f); err != nil {
		return Record{}, r.recordError(f, i, err)
	}
	return rec, nil
}

func (r *Reader) recordError(f int, i uint64, err error) error {
	var user *Error
	var line *lineError
	switch {
	case errors.As(err, &user):
		return err
	case errors.As(err, &line):
		err = errors.New(line.msg) // lines were counted from a mark
	}
	return &Error{Path: "map.over", Value: r.m.files[f].path, Msg: fmt.Sprintf("record %d", i), Err: err, Offset: -1}
}

// raw is the raw record i and the number of its file.
func (r *Reader) raw(i uint64) ([]byte, int, error) {
	if i >= r.m.records {
		return nil, 0, fmt.Errorf("record %d: the data set has %d", i, r.m.records)
	}
	if !r.m.hasData() {
		f := int(i)
		name := r.m.resolve(r.dir, f)
		info, err := os.Stat(name)
		if err != nil {
			return nil, 0, &Error{Path: "map.over", Value: r.m.files[f].path, Msg: "cannot be read any more", Err: err, Offset: -1}
		}
		if err := checkInfo(info, r.m.files[f]); err != nil {
			return nil, 0, err
		}
		r.path = append(r.path[:0], name...)
		return r.path, f, nil
	}
	f := r.m.fileOf(i)
	n := i - r.m.data[f].first // number in the file
	if r.file == f && r.held && n+1 == r.next {
		return r.last.raw, f, nil
	}
	if err := r.seek(f, n); err != nil {
		return nil, f, r.recordError(f, i, err)
	}
	for {
		r.held = false
		rec, err := r.scan.next()
		if err != nil {
			// The file is what it was, so this is not its content.
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the file ends after %d records, the manifest has %d", r.next, r.m.data[f].n)
			}
			return nil, f, r.recordError(f, i, errors.Join(err, r.Close()))
		}
		r.next++
		if r.next == n+1 {
			r.last, r.held = rec, true
			return rec.raw, f, nil
		}
	}
}

// seek brings the scan to record n of file f or a little before it.
func (r *Reader) seek(f int, n uint64) error {
	if r.file != f {
		if err := r.Close(); err != nil {
			return err
		}
		name := r.m.resolve(r.dir, f)
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		// Before it is opened: a named pipe in its place would block Open.
		if err := checkInfo(info, r.m.files[f]); err != nil {
			return err
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := checkFile(file, r.m.files[f]); err != nil {
			return errors.Join(err, file.Close())
		}
		r.f, r.file = file, f
	} else if r.next <= n && n-r.next <= n%r.m.index.every {
		return nil // the mark is not nearer
	}
	off, first := r.m.data[f].start, uint64(0)
	if k := n / r.m.index.every; k > 0 {
		off, first = r.m.index.ofFile(f)[k-1], k*r.m.index.every
	}
	if _, err := r.f.Seek(int64(off), io.SeekStart); err != nil {
		return errors.Join(err, r.Close())
	}
	r.scan.reset(&unchangedReader{r.f, r.m.files[f]}, int64(off))
	r.next, r.held = first, false
	return nil
}

// unchangedReader checks after each read that the file is still the manifest's:
// a Reader may live for hours.
type unchangedReader struct {
	f    *os.File
	want manifestFile
}

func (u *unchangedReader) Read(p []byte) (int, error) {
	n, err := u.f.Read(p)
	if changed := checkFile(u.f, u.want); changed != nil {
		return 0, changed
	}
	return n, err
}

func checkFile(f *os.File, want manifestFile) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkInfo(info, want)
}

func checkInfo(info os.FileInfo, want manifestFile) error {
	if !info.Mode().IsRegular() {
		return errAt("map.over", want.path, "is no regular file any more (%s)", info.Mode().Type())
	}
	if info.Size() != want.size {
		return errAt("map.over", want.path, "the file has changed since it was listed for this job: size %d, was %d", info.Size(), want.size)
	}
	if mtime := info.ModTime().UnixNano(); mtime != want.mtime {
		return errAt("map.over", want.path, "the file has changed since it was listed for this job: modified %s, was %s",
			stamp(mtime), stamp(want.mtime))
	}
	return nil
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// point parses a raw record of file f.
func (r *Reader) point(raw []byte, f int) (Point, error) {
	m := r.m
	switch m.format {
	case volleyv1.MapFormat_MAP_FORMAT_FILES:
		base := filepath.Base(m.files[f].path)
		stem := base[:len(base)-len(filepath.Ext(base))]
		if stem == "" {
			stem = base // ".profile"
		}
		return Point{m.params, []Value{StringValue(string(raw)), StringValue(m.files[f].path), StringValue(stem)}}, nil
	case volleyv1.MapFormat_MAP_FORMAT_CSV:
		fields, err := csvFields(r.fields[:0], raw, m.comma)
		r.fields = fields
		if err != nil {
			return Point{}, err
		}
		if len(fields) != len(m.params.list) {
			return Point{}, fmt.Errorf("%d fields, the header has %d", len(fields), len(m.params.list))
		}
		values := make([]Value, len(fields))
		for i, field := range fields {
			values[i] = StringValue(string(field))
		}
		return Point{m.params, values}, nil
	case volleyv1.MapFormat_MAP_FORMAT_JSONL:
		return m.jsonPoint(raw)
	}
	return Point{m.params, []Value{StringValue(string(raw))}}, nil
}

// jsonPoint parses a JSON line. All points share the manifest's names unless
// there are too many to list.
func (m *Manifest) jsonPoint(raw []byte) (Point, error) {
	var list []string
	var values []Value
	if !m.open {
		values = make([]Value, len(m.params.list))
	}
	column := 0
	var err error
	object, valid := jsonMembers(raw, func(key, value []byte) {
		column++
		name := paramName(jsonString(key), column)
		if m.open {
			list, values = append(list, name), append(values, jsonValue(value))
			return
		}
		i, known := m.params.index[name]
		if !known {
			err = fmt.Errorf("key %q is not in the manifest", clipText(name))
			return
		}
		values[i] = jsonValue(value)
	})
	if !object || !valid {
		err = errors.New("not a JSON object")
	}
	if err != nil {
		return Point{}, err
	}
	if m.open {
		return NewPoint(list, values)
	}
	return Point{m.params, values}, nil
}
