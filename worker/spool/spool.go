// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// headerSize: length of the body, CRC32C of the body, both little endian.
	headerSize = 8
	// A body is a kind, the number as a varint, and for records the payload.
	kindRecord = 1
	kindAck    = 2
	// MaxRecord bounds a record: a length beyond it is damage, not data.
	MaxRecord = 64 << 20

	defaultSegment = 8 << 20
	// trimAt is the size from which a fully acknowledged file is cut to zero;
	// below, one small acknowledgement frame is cheaper than a truncate.
	trimAt = 256 << 10

	suffix = ".spool"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt reports damage that is not a torn tail.
var ErrCorrupt = errors.New("spool: corrupt record")

// Record says where a record lies.
type Record struct {
	// Number is the spool's own number of the record.
	Number uint64
	seg    *segment
	off    int64
	size   int
}

// Size is the length of the payload.
func (r Record) Size() int { return r.size }

type segment struct {
	id   uint64
	path string
	file *os.File
	size int64
	// last is the number of the last record in the file; 0: none.
	last uint64
}

// Spool is a queue of records on disk.
type Spool struct {
	dir      string
	limit    int64
	segments []*segment // ascending; the last one is written
	next     uint64
	acked    uint64
	buf      []byte
}

// Open opens the spool in dir, which is made when missing, and answers with
// the records that are not acknowledged.
func Open(dir string) (*Spool, []Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{dir: dir, limit: defaultSegment, next: 1}
	ids, err := listSegments(dir)
	if err != nil {
		return nil, nil, err
	}
	var records []Record
	for i, id := range ids {
		seg, err := openSegment(dir, id)
		if err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		s.segments = append(s.segments, seg)
		found, err := s.scan(seg, i == len(ids)-1)
		if err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		records = append(records, found...)
	}
	records = slices.DeleteFunc(records, func(r Record) bool { return r.Number <= s.acked })
	if len(s.segments) == 0 {
		if err := s.rotate(); err != nil {
			return nil, nil, err
		}
	}
	if err := s.drop(); err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, records, nil
}

func listSegments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	var ids []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("open spool: %s is not a segment name; move it away", filepath.Join(dir, e.Name()))
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func openSegment(dir string, id uint64) (*segment, error) {
	path := filepath.Join(dir, fmt.Sprintf("%016x%s", id, suffix))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &segment{id: id, path: path, file: f}, nil
}

// scan reads a segment from its beginning. Only the last file can end in a
// torn frame, since a file is complete before the next one begins.
func (s *Spool) scan(seg *segment, last bool) ([]Record, error) {
	info, err := seg.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	var records []Record
	for seg.size < info.Size() {
		kind, number, head, body, err := s.readFrame(seg, seg.size, info.Size())
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				return nil, err
			}
			if !last {
				return nil, fmt.Errorf("%s at byte %d: %w; move the file away to go on without its records", seg.path, seg.size, ErrCorrupt)
			}
			if err := seg.file.Truncate(seg.size); err != nil {
				return nil, fmt.Errorf("read spool: cut the torn tail: %w", err)
			}
			break
		}
		switch kind {
		case kindRecord:
			records = append(records, Record{Number: number, seg: seg, off: seg.size + int64(head), size: len(body)})
			seg.last = number
			s.next = max(s.next, number+1)
		case kindAck:
			s.acked = max(s.acked, number)
			s.next = max(s.next, number+1)
		}
		seg.size += int64(head + len(body))
	}
	return records, nil
}

// readFrame reads one frame; head is the length of all that precedes body.
func (s *Spool) readFrame(seg *segment, off, end int64) (kind byte, number uint64, head int, body []byte, err error) {
	var h [headerSize]byte
	if end-off < headerSize {
		return 0, 0, 0, nil, ErrCorrupt
	}
	if _, err := seg.file.ReadAt(h[:], off); err != nil {
		return 0, 0, 0, nil, fmt.Errorf("read spool: %w", err)
	}
	n := int64(binary.LittleEndian.Uint32(h[:]))
	if n < 2 || n > MaxRecord || n > end-off-headerSize {
		return 0, 0, 0, nil, ErrCorrupt
	}
	s.buf = slices.Grow(s.buf[:0], int(n))[:n]
	if _, err := seg.file.ReadAt(s.buf, off+headerSize); err != nil {
		return 0, 0, 0, nil, fmt.Errorf("read spool: %w", err)
	}
	kind, number, used, err := decodeBody(h, s.buf)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	return kind, number, headerSize + used, s.buf[used:], nil
}

// decodeBody checks a frame and answers how many bytes of the body precede
// the payload.
func decodeBody(header [headerSize]byte, body []byte) (kind byte, number uint64, used int, err error) {
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return 0, 0, 0, ErrCorrupt
	}
	if len(body) < 2 || body[0] != kindRecord && body[0] != kindAck {
		return 0, 0, 0, ErrCorrupt
	}
	number, w := binary.Uvarint(body[1:])
	if w <= 0 || number == 0 {
		return 0, 0, 0, ErrCorrupt
	}
	return body[0], number, 1 + w, nil
}

// Append writes a record at the end.
func (s *Spool) Append(payload []byte) (Record, error) {
	if len(payload) > MaxRecord-16 {
		return Record{}, fmt.Errorf("append to spool: record of %d bytes is above the limit of %d", len(payload), MaxRecord-16)
	}
	if len(s.segments) == 0 || s.current().size >= s.limit {
		if err := s.rotate(); err != nil {
			return Record{}, err
		}
	}
	seg := s.current()
	number := s.next
	if err := s.write(kindRecord, number, payload); err != nil {
		return Record{}, err
	}
	s.next++
	seg.last = number
	return Record{Number: number, seg: seg, off: seg.size - int64(len(payload)), size: len(payload)}, nil
}

func (s *Spool) write(kind byte, number uint64, payload []byte) error {
	s.buf = append(s.buf[:0], make([]byte, headerSize)...)
	s.buf = append(s.buf, kind)
	s.buf = binary.AppendUvarint(s.buf, number)
	s.buf = append(s.buf, payload...)
	body := s.buf[headerSize:]
	binary.LittleEndian.PutUint32(s.buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(s.buf[4:], crc32.Checksum(body, castagnoli))
	seg := s.current()
	if _, err := seg.file.WriteAt(s.buf, seg.size); err != nil {
		// What was written of it lies beyond seg.size: the next frame goes
		// over it, and a restart before that sees a torn tail.
		return fmt.Errorf("append to spool: %w", err)
	}
	seg.size += int64(len(s.buf))
	return nil
}

// Read appends the payload of a record that is not acknowledged to dst.
func (s *Spool) Read(dst []byte, r Record) ([]byte, error) {
	if r.seg == nil {
		return dst, errors.New("read spool: no such record")
	}
	n := len(dst)
	dst = slices.Grow(dst, r.size)[:n+r.size]
	if _, err := io.ReadFull(io.NewSectionReader(r.seg.file, r.off, int64(r.size)), dst[n:]); err != nil {
		return dst[:n], fmt.Errorf("read spool: record %d: %w", r.Number, err)
	}
	return dst, nil
}

// Ack forgets all records up to number.
func (s *Spool) Ack(number uint64) error {
	if number <= s.acked || len(s.segments) == 0 {
		return nil
	}
	s.acked = min(number, s.next-1)
	if s.acked == s.next-1 && s.current().size >= trimAt {
		seg := s.current()
		if err := seg.file.Truncate(0); err != nil {
			return fmt.Errorf("trim spool: %w", err)
		}
		seg.size, seg.last = 0, 0
	}
	// The frame also carries the numbering over a restart.
	if err := s.write(kindAck, s.acked, nil); err != nil {
		return err
	}
	return s.drop()
}

// Pending is the number of records that are not acknowledged.
func (s *Spool) Pending() uint64 { return s.next - 1 - s.acked }

func (s *Spool) current() *segment { return s.segments[len(s.segments)-1] }

// drop removes the oldest files that hold nothing any more. An
// acknowledgement that lies in one of them is repeated in the newest file
// first, since it may be the only one for later records.
func (s *Spool) drop() error {
	for len(s.segments) > 1 && s.segments[0].last <= s.acked {
		seg := s.segments[0]
		if err := seg.file.Close(); err != nil {
			return fmt.Errorf("trim spool: %w", err)
		}
		if err := os.Remove(seg.path); err != nil {
			return fmt.Errorf("trim spool: %w", err)
		}
		s.segments = s.segments[1:]
	}
	return nil
}

func (s *Spool) rotate() error {
	id := uint64(1)
	if len(s.segments) > 0 {
		id = s.current().id + 1
	}
	seg, err := openSegment(s.dir, id)
	if err != nil {
		return err
	}
	s.segments = append(s.segments, seg)
	if s.acked > 0 {
		if err := s.write(kindAck, s.acked, nil); err != nil {
			return err
		}
	}
	return s.drop()
}

// Close closes the files.
func (s *Spool) Close() error {
	var errs []error
	for _, seg := range s.segments {
		errs = append(errs, seg.file.Close())
	}
	s.segments = nil
	return errors.Join(errs...)
}
