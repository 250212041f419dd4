// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// WriteRecords writes the records of run as a file of the data set's format:
// lines, JSON lines, CSV with the header, and for FILES the absolute paths, one
// per line. Line ends are "\n".
func WriteRecords(w io.Writer, r *Reader, run Run) error {
	if err := r.m.checkRun(run); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	line := func(b []byte) error {
		if _, err := out.Write(b); err != nil {
			return err
		}
		return out.WriteByte('\n')
	}
	if r.m.format == volleyv1.MapFormat_MAP_FORMAT_CSV {
		if err := line(r.m.header); err != nil {
			return fmt.Errorf("write records: %w", err)
		}
	}
	for i := run.First; i < run.End(); i++ {
		raw, f, err := r.raw(i)
		if err != nil {
			return err
		}
		if !r.m.hasData() && bytes.IndexByte(raw, '\n') >= 0 {
			return errAt("map.over", r.m.files[f].path, "the name of this file has a line end: it cannot be one line of a list")
		}
		if err := line(raw); err != nil {
			return fmt.Errorf("write records: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	return nil
}

func (m *Manifest) checkRun(run Run) error {
	if run.First > m.records || run.Count > m.records-run.First {
		return fmt.Errorf("records %d+%d: the data set has %d", run.First, run.Count, m.records)
	}
	return nil
}

// recordIdentity is the version and kind of what AppendIdentity appends.
const (
	identityRecords = 1
	identityFiles   = 2
)

// AppendIdentity appends what makes the records of run what they are, 33 bytes:
// a kind and a SHA-256. Records are known by their content (and a CSV's header)
// wherever they stand, so that a data set that grows keeps its earlier records;
// files by relative path, size and modification time, since hashing a terabyte
// of images at each submit is out of the question.
func (r *Reader) AppendIdentity(dst []byte, run Run) ([]byte, error) {
	if err := r.m.checkRun(run); err != nil {
		return dst, err
	}
	h := sha256.New()
	var length, meta [2 * binary.MaxVarintLen64]byte
	part := func(b []byte) {
		h.Write(binary.AppendUvarint(length[:0], uint64(len(b))))
		h.Write(b)
	}
	kind := byte(identityRecords)
	h.Write([]byte{byte(r.m.format), r.m.comma})
	part(r.m.header)
	if r.m.hasData() {
		for i := run.First; i < run.End(); i++ {
			raw, _, err := r.raw(i)
			if err != nil {
				return dst, err
			}
			part(raw)
		}
	} else {
		kind = identityFiles
		for _, f := range r.m.files[run.First:run.End()] {
			part([]byte(f.path))
			part(binary.AppendVarint(binary.AppendUvarint(meta[:0], uint64(f.size)), f.mtime))
		}
	}
	return h.Sum(append(dst, kind)), nil
}
