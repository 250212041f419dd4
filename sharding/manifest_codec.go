// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// manifestVersion is the first byte of the encoding.
const manifestVersion = 1

// pathRestart is how often a path is written in full. It bounds what hostile
// input can make of one long prefix.
const pathRestart = 16

// Encode is the binary form: a version byte, then varints and strings.
//
//	format, delimiter, header, flags, parameter names (JSONL)
//	number of files, for each: shared prefix with the path before, rest of
//	    the path, size, difference of the times
//	record formats: k, and for each file: records, start, its marks as
//	    differences
//	shards: bytes, number of runs, for each: records per shard, shards
func (m *Manifest) Encode() []byte {
	e := encoder{manifestVersion}
	e.uint(uint64(m.format))
	e.uint(uint64(m.comma))
	e.bytes(m.header)
	if m.open {
		e.uint(1)
	} else {
		e.uint(0)
	}
	if m.format == volleyv1.MapFormat_MAP_FORMAT_JSONL {
		e.uint(uint64(len(m.params.list)))
		for _, name := range m.params.list {
			e.bytes([]byte(name))
		}
	}
	e.uint(uint64(len(m.files)))
	var last manifestFile
	for i, f := range m.files {
		shared := 0
		if i%pathRestart != 0 {
			for shared < min(len(last.path), len(f.path)) && last.path[shared] == f.path[shared] {
				shared++
			}
		}
		e.uint(uint64(shared))
		e.bytes([]byte(f.path[shared:]))
		e.uint(uint64(f.size))
		e.int(f.mtime - last.mtime)
		last = f
	}
	if m.hasData() {
		e.uint(m.index.every)
		for i, d := range m.data {
			e.uint(d.n)
			e.uint(d.start)
			at := d.start
			for _, mark := range m.index.ofFile(i) {
				e.uint(mark - at)
				at = mark
			}
		}
	}
	e.uint(m.cuts.bytes)
	if m.cuts.bytes > 0 {
		e.uint(uint64(len(m.cuts.shard) - 1))
		for r := range len(m.cuts.shard) - 1 {
			e.uint(m.cuts.per(r))
			e.uint(m.cuts.shard[r+1] - m.cuts.shard[r])
		}
	}
	return e
}

type encoder []byte

func (e *encoder) uint(v uint64) { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) int(v int64)   { *e = binary.AppendVarint(*e, v) }
func (e *encoder) bytes(b []byte) {
	e.uint(uint64(len(b)))
	*e = append(*e, b...)
}

// ErrManifest is what every error of ParseManifest wraps.
var ErrManifest = errors.New("manifest is malformed")

// ParseManifest decodes what Encode made. Memory is bounded by a small multiple
// of the length of data, which it does not keep.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: no data", ErrManifest)
	}
	if data[0] != manifestVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrManifest, data[0], manifestVersion)
	}
	d := &decoder{rest: data[1:]}
	m := new(Manifest)
	for _, part := range []func(*Manifest){d.head, d.files, d.records, d.cuts} {
		if part(m); d.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrManifest, d.err)
		}
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrManifest, len(d.rest))
	}
	return m, nil
}

// decoder reads values until the first mistake; after it all values are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.rest = nil
}

func (d *decoder) uint(what string) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail("%s", what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) int(what string) int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail("%s", what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads the length of a list whose elements take at least size bytes.
func (d *decoder) count(what string, size int) int {
	n := d.uint(what)
	if n > uint64(len(d.rest)/size) {
		d.fail("%s: %d is more than the data holds", what, n)
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(what string) []byte {
	n := d.count(what, 1)
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) head(m *Manifest) {
	format, comma := d.uint("format"), d.uint("delimiter")
	m.header = append(m.header, d.bytes("header")...)
	open := d.uint("flags")
	switch {
	case d.err != nil:
		return
	case format == 0 || format > uint64(volleyv1.MapFormat_MAP_FORMAT_FILES):
		d.fail("format %d", format)
		return
	case open > 1:
		d.fail("flags %d", open)
		return
	}
	m.format = volleyv1.MapFormat(format)
	csv := m.format == volleyv1.MapFormat_MAP_FORMAT_CSV
	json := m.format == volleyv1.MapFormat_MAP_FORMAT_JSONL
	if !csv && (comma != 0 || len(m.header) > 0) || csv && comma != ',' && comma != '\t' && comma != ';' ||
		csv && (len(m.header) == 0 || len(m.header) > maxRecord) || open == 1 && !json {
		d.fail("dialect")
		return
	}
	m.comma, m.open = byte(comma), open == 1
	list := paramsOf(m.format)
	var err error
	switch {
	case csv:
		list, err = csvColumns(m.header, m.comma)
	case json:
		n := d.count("parameters", 1)
		for range n {
			list = append(list, string(d.bytes("parameter name")))
		}
		// Each name must be its own parameter name, once.
		var again []string
		again, err = columnNames(list, "parameter")
		for i := range again {
			if again[i] != list[i] {
				err = fmt.Errorf("parameter name %q", list[i])
			}
		}
	}
	if err != nil {
		d.fail("%w", err)
		return
	}
	m.params = newNames(list)
}

func (d *decoder) files(m *Manifest) {
	n := d.count("files", 4)
	if d.err == nil && (n == 0 || n > maxFiles) {
		d.fail("%d files", n)
		return
	}
	m.files = make([]manifestFile, 0, n)
	var last manifestFile
	for i := range n {
		shared, rest := d.uint("shared prefix"), d.bytes("path")
		size, step := d.uint("size"), d.int("time")
		if d.err != nil {
			return
		}
		if shared > uint64(len(last.path)) || i%pathRestart == 0 && shared > 0 || size > 1<<62 {
			d.fail("file %d: prefix of %d bytes, size %d", i, shared, size)
			return
		}
		f := manifestFile{last.path[:shared] + string(rest), int64(size), last.mtime + step}
		if len(f.path) > maxPath || strings.IndexByte(f.path, 0) >= 0 || filepath.Clean(f.path) != f.path ||
			!filepath.IsAbs(f.path) && !filepath.IsLocal(f.path) {
			d.fail("file %d: path %q", i, clipText(f.path))
			return
		}
		m.files = append(m.files, f)
		last = f
	}
}

func (d *decoder) records(m *Manifest) {
	if !m.hasData() {
		m.records = uint64(len(m.files))
		return
	}
	m.index.every = d.uint("marks")
	if every := m.index.every; d.err == nil && (every == 0 || every > maxEvery || every&(every-1) != 0) {
		d.fail("a mark every %d records", every)
		return
	}
	m.data = make([]fileRecords, len(m.files))
	m.index.first = make([]int, len(m.files))
	for i := range m.data {
		f := &m.data[i]
		*f = fileRecords{first: m.records, n: d.uint("records"), start: d.uint("start")}
		m.index.first[i] = len(m.index.marks)
		size := uint64(m.files[i].size)
		// A record has at least one byte, and all but the last a line end.
		if d.err != nil || f.start > size || f.n > (size-f.start+1)/2 {
			d.fail("file %d: %d records in %d bytes from %d", i, f.n, size, f.start)
			return
		}
		if m.records += f.n; m.records > maxIndex {
			d.fail("too many records")
			return
		}
		if f.n == 0 {
			continue
		}
		marks := (f.n - 1) / m.index.every
		if marks > uint64(len(d.rest)) {
			d.fail("file %d: %d marks are more than the data holds", i, marks)
			return
		}
		at := f.start
		for range marks {
			step := d.uint("mark")
			if d.err != nil || step == 0 || step >= size-at {
				d.fail("file %d: mark %d after offset %d", i, step, at)
				return
			}
			at += step
			m.index.marks = append(m.index.marks, at)
		}
	}
	if m.records == 0 {
		d.fail("no records")
	}
}

func (d *decoder) cuts(m *Manifest) {
	m.cuts.bytes = d.uint("shard size")
	if m.cuts.bytes == 0 {
		return
	}
	n := d.count("shards", 2)
	for range n {
		if per, shards := d.uint("records per shard"), d.uint("shards"); d.err == nil && !m.cuts.add(per, shards) {
			d.fail("%d shards of %d records", shards, per)
			return
		}
	}
	if d.err == nil && (n == 0 || m.cuts.rec[len(m.cuts.rec)-1] != m.records) {
		d.fail("the shards do not cover the %d records", m.records)
	}
}
