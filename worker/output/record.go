// SPDX-License-Identifier: Apache-2.0

package output

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

const (
	frameHeader = 8
	// No frame is longer, so a torn length is not taken for one.
	maxFrame = 1 << 20
)

type recordKind byte

const (
	kindOutput  recordKind = 1
	kindSilent  recordKind = 2
	kindRemoved recordKind = 3
)

type record struct {
	kind recordKind
	job  uint64
	// kindOutput
	entry entry
	// kindSilent
	attempt      uint32
	first, count uint64
}

var (
	errRecord  = errors.New("malformed index record")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func (r *record) encode(b []byte) []byte {
	b = append(b, byte(r.kind))
	b = binary.AppendUvarint(b, r.job)
	switch r.kind {
	case kindOutput:
		e := &r.entry
		b = binary.AppendUvarint(b, e.index)
		for _, v := range [...]uint32{e.attempt, e.segment, e.off[0], e.length[0], e.off[1], e.length[1]} {
			b = binary.AppendUvarint(b, uint64(v))
		}
	case kindSilent:
		b = binary.AppendUvarint(b, uint64(r.attempt))
		b = binary.AppendUvarint(b, r.first)
		b = binary.AppendUvarint(b, r.count)
	}
	return b
}

// decodeRecord reads one record and returns what follows it.
func decodeRecord(b []byte, r *record) ([]byte, error) {
	if len(b) == 0 {
		return nil, errRecord
	}
	*r = record{kind: recordKind(b[0])}
	b = b[1:]
	ok := true
	u64 := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	u32 := func() uint32 {
		v := u64()
		if v > math.MaxUint32 {
			ok = false
		}
		return uint32(v)
	}
	r.job = u64()
	switch r.kind {
	case kindOutput:
		e := &r.entry
		e.index = u64()
		for _, f := range [...]*uint32{&e.attempt, &e.segment, &e.off[0], &e.length[0], &e.off[1], &e.length[1]} {
			*f = u32()
		}
		ok = ok && e.segment != 0
	case kindSilent:
		r.attempt = u32()
		r.first = u64()
		r.count = u64()
		ok = ok && r.count > 0 && r.first <= math.MaxUint64-r.count
	case kindRemoved:
	default:
		return nil, fmt.Errorf("%w: unknown kind %d", errRecord, r.kind)
	}
	if !ok {
		return nil, errRecord
	}
	return b, nil
}

// decodeFrames calls apply for the records of every whole frame and returns the
// length of what was good. A frame counts as a whole or not at all.
func decodeFrames(b []byte, apply func(*record)) (good int) {
	var r record
	for {
		rest := b[good:]
		if len(rest) < frameHeader {
			return good
		}
		n := binary.LittleEndian.Uint32(rest)
		if n == 0 || n > maxFrame || int(n) > len(rest)-frameHeader {
			return good
		}
		payload := rest[frameHeader : frameHeader+int(n)]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			return good
		}
		// Once to see whether it is sound, once to take it.
		for p := payload; len(p) > 0; {
			var err error
			if p, err = decodeRecord(p, &r); err != nil {
				return good
			}
		}
		for p := payload; len(p) > 0; {
			p, _ = decodeRecord(p, &r)
			apply(&r)
		}
		good += frameHeader + int(n)
	}
}
