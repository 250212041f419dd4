// SPDX-License-Identifier: Apache-2.0

package output

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
)

const (
	indexName = "index"
	// The last byte is the version of the format.
	indexMagic = "VLYOUT\x00\x01"
	// Records are written when so many bytes of them have gathered; also the
	// size of a frame, about.
	batchBytes = 32 << 10
	// Runs of silent attempts that are kept open, in the hope of growing.
	maxOpenRuns = 16
	// The index is rewritten when so many records are waste and they are the
	// larger part.
	minWaste = 1024
)

// indexFile is the index on disk and what is still to be written to it. Its
// owner's lock guards it.
type indexFile struct {
	path string
	file *os.File
	// size of the good part of the file: frames are written there, so a write
	// that failed half way is overwritten by the next.
	size int64
	w    frameWriter
	// silent runs that may still grow.
	silent []record
	// records in the file and not yet written, and how many of them removed
	// jobs made worthless.
	records, waste int
}

// frameWriter lays records out in frames.
type frameWriter struct {
	buf []byte
	// frame is where the frame under construction begins; len(buf): none is.
	frame int
}

func (w *frameWriter) put(r *record) {
	if w.frame == len(w.buf) {
		w.buf = append(w.buf, make([]byte, frameHeader)...)
	}
	w.buf = r.encode(w.buf)
	if len(w.buf)-w.frame >= batchBytes {
		w.seal()
	}
}

func (w *frameWriter) seal() {
	if w.frame == len(w.buf) {
		return
	}
	header, payload := w.buf[w.frame:], w.buf[w.frame+frameHeader:]
	binary.LittleEndian.PutUint32(header, uint32(len(payload)))
	binary.LittleEndian.PutUint32(header[4:], crc32.Checksum(payload, castagnoli))
	w.frame = len(w.buf)
}

// open reads the file, or makes it, and cuts off a torn tail.
func (x *indexFile) open(path string, apply func(*record)) error {
	x.path = path
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	x.file = f
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) < len(indexMagic) && string(b) == indexMagic[:len(b)] {
		// New, or torn at birth: nothing was in it.
		if _, err := f.WriteAt([]byte(indexMagic), 0); err != nil {
			return err
		}
		x.size = int64(len(indexMagic))
		return nil
	}
	if len(b) < len(indexMagic) || string(b[:len(indexMagic)]) != indexMagic {
		return errors.New("index is not one of this version; move the directory away to start empty")
	}
	jobs := make(map[uint64]int)
	good := decodeFrames(b[len(indexMagic):], func(r *record) {
		x.records++
		if r.kind == kindRemoved {
			x.waste += jobs[r.job] + 1
			delete(jobs, r.job)
		} else {
			jobs[r.job]++
		}
		apply(r)
	})
	x.size = int64(len(indexMagic) + good)
	if x.size < int64(len(b)) {
		return f.Truncate(x.size)
	}
	return nil
}

// append takes a record, and writes when enough have gathered.
func (x *indexFile) append(r *record) error {
	if r.kind == kindRemoved {
		// What is open may be of the job, and must come before.
		x.closeRuns()
	}
	x.put(r)
	return x.flushIfFull()
}

// appendSilent is append for one silent attempt; successive ones become one
// record.
func (x *indexFile) appendSilent(job uint64, attempt uint32, index uint64) error {
	for i := range x.silent {
		r := &x.silent[i]
		switch {
		case r.job != job || r.attempt != attempt:
			continue
		case index == r.first+r.count && r.count < math.MaxUint64-r.first:
			r.count++
			return nil
		case r.first > 0 && index == r.first-1:
			r.first--
			r.count++
			return nil
		}
	}
	if len(x.silent) == maxOpenRuns {
		x.closeRuns()
	}
	x.silent = append(x.silent, record{kind: kindSilent, job: job, attempt: attempt, first: index, count: 1})
	return x.flushIfFull()
}

func (x *indexFile) put(r *record) {
	x.w.put(r)
	x.records++
}

func (x *indexFile) closeRuns() {
	for i := range x.silent {
		x.put(&x.silent[i])
	}
	x.silent = x.silent[:0]
}

func (x *indexFile) flushIfFull() error {
	if len(x.w.buf) < batchBytes {
		return nil
	}
	return x.flush()
}

// flush writes what has gathered. After an error it is kept for the next
// flush.
func (x *indexFile) flush() error {
	x.closeRuns()
	x.w.seal()
	if len(x.w.buf) == 0 {
		return nil
	}
	if _, err := x.file.WriteAt(x.w.buf, x.size); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	x.size += int64(len(x.w.buf))
	x.w.buf, x.w.frame = x.w.buf[:0], 0
	return nil
}

// wasteful says whether rewriting pays.
func (x *indexFile) wasteful() bool { return x.waste >= minWaste && x.waste > x.records/2 }

// rewrite replaces the file, atomically and durably, by the records that each
// yields. What had not been written yet must be among them.
func (x *indexFile) rewrite(each func(put func(*record))) error {
	temp := x.path + ".new"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite index: %w", err)
	}
	size := int64(0)
	records := 0
	var w frameWriter
	write := func(b []byte) {
		if err != nil {
			return
		}
		var n int
		n, err = f.Write(b)
		size += int64(n)
	}
	write([]byte(indexMagic))
	each(func(r *record) {
		w.put(r)
		records++
		if w.frame == len(w.buf) {
			write(w.buf)
			w.buf, w.frame = w.buf[:0], 0
		}
	})
	w.seal()
	write(w.buf)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		// The descriptor goes on as the index: opening it again could fail
		// when the old one is gone already.
		err = os.Rename(temp, x.path)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(temp)
		return fmt.Errorf("rewrite index: %w", err)
	}
	_ = x.file.Close() // the replaced file
	x.file, x.size, x.records, x.waste = f, size, records, 0
	x.w, x.silent = frameWriter{}, nil
	if err := syncPath(filepath.Dir(x.path)); err != nil {
		return fmt.Errorf("rewrite index: %w", err)
	}
	return nil
}

func (x *indexFile) close() error {
	if x.file == nil {
		return nil
	}
	err := x.file.Close()
	x.file = nil
	return err
}
