// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// BuildManifest reads the data set that m.Over names, relative to dir, once and
// without holding it in memory. It blocks on the file system until all is read,
// and returns early with the context's cause when ctx ends. A mistake of the
// user's is an *Error.
//
// Without m.Format, a pattern is FILES, however many files it matches (a job
// must not change its meaning when all but one file are gone); the name of one
// file is JSONL (.jsonl, .ndjson, .json), CSV (.csv, .tsv, .tab) or LINES. With
// a record format, a pattern is the records of all files in the order of their
// paths. Records are checked here: what a worker could only find out in the
// middle of the job is an error at submit, with file, line and column.
func BuildManifest(ctx context.Context, dir string, m *volleyv1.Map) (*Manifest, error) {
	if err := checkShard(m.GetShard()); err != nil {
		return nil, err
	}
	format := m.GetFormat()
	if _, known := volleyv1.MapFormat_name[int32(format)]; !known {
		return nil, errAt("map.format", strconv.Itoa(int(format)), "unknown format; use lines, csv, jsonl or files")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("build manifest: %w", err)
	}
	over := m.GetOver()
	found, pattern, err := findFiles(ctx, dir, over)
	if err != nil {
		return nil, err
	}
	if format == volleyv1.MapFormat_MAP_FORMAT_UNSPECIFIED {
		format = formatOf(over, pattern)
	}
	b := manifestBuilder{
		ctx: ctx, over: over,
		out:  &Manifest{format: format, files: make([]manifestFile, len(found))},
		cuts: cutBuilder{cutList: cutList{bytes: m.GetShard().GetBytes()}},
	}
	for i, f := range found {
		path := f.path
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			path = rel
		}
		b.out.files[i] = manifestFile{path, f.size, f.mtime}
	}
	if err := b.build(found); err != nil {
		return nil, shardError(err, b.cuts.bytes)
	}
	return b.out, nil
}

func formatOf(over string, pattern bool) volleyv1.MapFormat {
	if pattern {
		return volleyv1.MapFormat_MAP_FORMAT_FILES
	}
	switch strings.ToLower(filepath.Ext(over)) {
	case ".jsonl", ".ndjson", ".json":
		return volleyv1.MapFormat_MAP_FORMAT_JSONL
	case ".csv", ".tsv", ".tab":
		return volleyv1.MapFormat_MAP_FORMAT_CSV
	}
	return volleyv1.MapFormat_MAP_FORMAT_LINES
}

type manifestBuilder struct {
	ctx     context.Context // lives for one call of BuildManifest
	over    string
	out     *Manifest
	offsets offsetBuilder
	cuts    cutBuilder
	keys    jsonKeys
	fields  [][]byte // scratch
	columns [][]byte // fields of the header
}

func (b *manifestBuilder) build(found []foundFile) error {
	out := b.out
	if !out.hasData() {
		out.records = uint64(len(found))
		for _, f := range found {
			if err := b.cuts.add(uint64(f.size)); err != nil {
				return err
			}
		}
	} else {
		scan := newRecordScanner(out.format, ',', streamBuffer)
		for i := range found {
			if err := b.read(scan, i, found[i]); err != nil {
				if b.ctx.Err() != nil {
					return fmt.Errorf("read %s: %w", out.files[i].path, context.Cause(b.ctx))
				}
				return b.fileError(i, err)
			}
		}
		if out.records == 0 {
			return errAt("map.over", b.over, "no records: %s", emptyReason(out))
		}
	}
	if err := b.cuts.finish(); err != nil {
		return err
	}
	out.index = b.offsets.finish()
	out.cuts = b.cuts.cutList
	list := paramsOf(out.format)
	switch out.format {
	case volleyv1.MapFormat_MAP_FORMAT_CSV:
		list, _ = csvColumns(out.header, out.comma) // parsed before
	case volleyv1.MapFormat_MAP_FORMAT_JSONL:
		list, out.open = b.keys.names, b.keys.open
	}
	out.params = newNames(list)
	return nil
}

func emptyReason(m *Manifest) string {
	if len(m.files) > 1 {
		return fmt.Sprintf("all %d files are empty", len(m.files))
	}
	if len(m.header) > 0 {
		return "the file has a header and no rows"
	}
	return "the file is empty"
}

// fileError names the file in an error of its content.
func (b *manifestBuilder) fileError(i int, err error) error {
	var user *Error
	var line *lineError
	switch {
	case errors.As(err, &user), errors.Is(err, errCuts):
		return err
	case errors.As(err, &line):
		return errAt("map.over", b.over, "%s, %v", b.out.files[i].path, line)
	}
	return &Error{Path: "map.over", Value: b.over, Msg: b.out.files[i].path, Err: err, Offset: -1}
}

// ctxReader ends a long read when the context ends.
type ctxReader struct {
	ctx context.Context // lives for one file
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func (b *manifestBuilder) read(scan *recordScanner, i int, found foundFile) error {
	f, err := os.Open(found.path)
	if err != nil {
		return err
	}
	defer f.Close()
	scan.reset(ctxReader{b.ctx, f}, 0)
	if err := scan.skipBOM(); err != nil {
		return err
	}
	out := b.out
	if scan.csv {
		if err := b.readHeader(scan, i); err != nil {
			return err
		}
	}
	data := fileRecords{first: out.records, start: uint64(scan.offset())}
	b.offsets.file()
	for {
		rec, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case scan.json:
			err = b.keys.add(rec)
		case scan.csv:
			err = b.checkRow(rec)
		}
		if err != nil {
			return err
		}
		b.offsets.add(uint64(rec.off))
		if err := b.cuts.add(uint64(rec.end - rec.off)); err != nil {
			return err
		}
		data.n++
	}
	out.records += data.n
	out.data = append(out.data, data)
	// The file must be the one that was found, from beginning to end.
	return checkFile(f, out.files[i])
}

// readHeader reads the header of a CSV file, and compares it with the first
// file's. A file without any line has no header and no records.
func (b *manifestBuilder) readHeader(scan *recordScanner, i int) error {
	out := b.out
	scan.comma = out.comma
	rec, err := scan.next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	if out.header == nil {
		out.comma = csvComma(strings.ToLower(filepath.Ext(out.files[i].path)), rec.raw)
		scan.comma = out.comma
		out.header = bytes.Clone(rec.raw)
		if _, err := csvColumns(out.header, out.comma); err != nil {
			return csvError(rec.line, fmt.Errorf("header: %w", err))
		}
		b.columns, err = csvFields(nil, out.header, out.comma)
		return err
	}
	fields, err := csvFields(nil, rec.raw, out.comma)
	if err != nil {
		return csvError(rec.line, err)
	}
	if slices.EqualFunc(fields, b.columns, bytes.Equal) {
		return nil
	}
	if len(fields) != len(b.columns) {
		return &lineError{rec.line, 0, fmt.Sprintf("%d columns, %s has %d", len(fields), out.files[0].path, len(b.columns))}
	}
	c := 0
	for bytes.Equal(fields[c], b.columns[c]) {
		c++
	}
	return &lineError{rec.line, 0, fmt.Sprintf("column %d is %q, in %s it is %q",
		c+1, fields[c], out.files[0].path, b.columns[c])}
}

func (b *manifestBuilder) checkRow(rec rawRecord) (err error) {
	var n int
	n, b.fields, err = csvCount(b.fields, rec.raw, b.out.comma)
	if err != nil {
		return csvError(rec.line, err)
	}
	if n != len(b.columns) {
		return &lineError{rec.line, 0, fmt.Sprintf("%d fields, the header has %d", n, len(b.columns))}
	}
	return nil
}
