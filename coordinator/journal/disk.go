// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
)

// Disk is what a Memory writes to and what outlives it. A simulator keeps one per
// node and opens a new Memory on it after each crash. The zero value is empty.
type Disk struct {
	mu sync.Mutex
	// log holds frames. Invariant: log[:synced] ends at the end of a frame, and
	// holds every record that was delivered and is not in snapshot.
	log    []byte
	synced int
	// snapshot is one frame, or empty.
	snapshot []byte
	// term of the newest leadership that this node has heard of, and the last
	// index used in it.
	term, index uint64
	limit       int // of len(log), 0: none
	user        *Memory
}

// SetLimit makes the disk full once the log needs more than n bytes: the write
// that does not fit ends in EventFailed, wrapping syscall.ENOSPC. 0: no limit.
func (d *Disk) SetLimit(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = n
}

// LogSize returns the bytes of the log.
func (d *Disk) LogSize() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// FlipBit damages the log. Bits are counted from the start, and wrap around; an
// empty log has none to damage.
func (d *Disk) FlipBit(bit int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.log) * 8; n > 0 {
		bit = (bit%n + n) % n
		d.log[bit/8] ^= 1 << (bit % 8)
	}
}

// FlipSnapshotBit is FlipBit for the snapshot.
func (d *Disk) FlipSnapshotBit(bit int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.snapshot) * 8; n > 0 {
		bit = (bit%n + n) % n
		d.snapshot[bit/8] ^= 1 << (bit % 8)
	}
}

// frame is one record on a Disk:
//
//	length of data (4) | checksum (4) | index (8) | term (8) | data
//
// The checksum covers all but itself.
type frame struct {
	index, term uint64
	data        []byte
}

const frameHead = 24

func (f frame) append(b []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, f.index)
	b = binary.LittleEndian.AppendUint64(b, f.term)
	b = append(b, f.data...)
	binary.LittleEndian.PutUint32(b[at+4:], frameSum(b[at:]))
	return b
}

func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:])
}

// decodeFrame returns the first frame of b and its length.
func decodeFrame(b []byte) (f frame, n int, err error) {
	if len(b) < frameHead {
		return f, 0, fmt.Errorf("%d bytes are no frame", len(b))
	}
	size := uint64(binary.LittleEndian.Uint32(b)) + frameHead
	if size > uint64(len(b)) {
		return f, 0, fmt.Errorf("frame of %d bytes is cut at %d", size, len(b))
	}
	b = b[:size]
	if frameSum(b) != binary.LittleEndian.Uint32(b[4:]) {
		return f, 0, fmt.Errorf("checksum does not match")
	}
	f.index, f.term = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	f.data = append([]byte(nil), b[frameHead:]...)
	return f, int(size), nil
}

// decodeLog returns the frames of b and where they end. What lies behind synced
// and is not whole was being written when the node died, and is left out. What
// lies before it was acknowledged: damage there is an error.
func decodeLog(b []byte, synced int) (frames []frame, end int, err error) {
	last := uint64(0)
	for end < len(b) {
		f, n, err := decodeFrame(b[end:])
		if err == nil && f.index <= last {
			err = fmt.Errorf("index %d after %d", f.index, last)
		}
		if err != nil {
			if end >= synced {
				return frames, end, nil
			}
			return nil, 0, fmt.Errorf("%w: log at byte %d: %w", ErrCorrupt, end, err)
		}
		last = f.index
		frames = append(frames, f)
		end += n
	}
	if end < synced {
		return nil, 0, fmt.Errorf("%w: log of %d bytes, %d were written", ErrCorrupt, end, synced)
	}
	return frames, end, nil
}
