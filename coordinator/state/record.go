// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// phase is what a record says about its child. Where the child waits is told
// by the sets of the job, not here, so that returning a lease of a million
// untouched indexes touches no record.
type phase uint8

const (
	// phaseNone: no attempt yet, or the zero record of an untouched child.
	phaseNone phase = iota
	// phaseWaiting: an earlier attempt is in the history; the child is in
	// ready or in a lease again.
	phaseWaiting
	phaseRunning
	phaseSucceeded
	phaseFailed
	// phaseSkipped: succeeded by taking over the result of an earlier job.
	phaseSkipped
)

func (p phase) terminal() bool { return p >= phaseSucceeded }

// noExit marks a record whose process end was not seen.
const noExit = math.MaxUint16

// record is the last attempt of one child: 28 bytes, because there may be
// 10^8 of them. Times keep full precision where people look: the start in
// milliseconds (40 bits: 34 years from the epoch of the job), durations as
// packed by packDuration.
type record struct {
	startLo  uint32 // ms since the job was created, low bits
	duration uint32 // packDuration of microseconds
	worker   uint32
	peakKiB  uint32
	cpu      uint32 // packDuration of microseconds
	attempt  uint16
	reason   uint16 // index into job.reasons
	exit     uint16
	startHi  uint8
	bits     uint8 // phase in the low 4 bits, lost attempts (saturating) in the high 4
}

const recordSize = 28

func (r *record) phase() phase     { return phase(r.bits & 15) }
func (r *record) setPhase(p phase) { r.bits = r.bits&0xf0 | uint8(p) }
func (r *record) lost() int        { return int(r.bits >> 4) }
func (r *record) setLost(n int)    { r.bits = r.bits&15 | uint8(min(n, 15))<<4 }
func (r *record) start() int64     { return int64(r.startHi)<<32 | int64(r.startLo) }
func (r *record) setStart(ms int64) {
	ms = min(max(ms, 0), 1<<40-1)
	r.startLo, r.startHi = uint32(ms), uint8(ms>>32)
}

// packDuration stores a duration in 32 bits with at least six significant
// digits: microseconds up to 17 minutes, milliseconds up to 12 days, seconds
// beyond. The two top bits name the unit. Milliseconds throughout would round
// a task of 1 ms to nothing, and lease sizes are computed from it.
func packDuration(us uint64) uint32 {
	const limit = 1 << 30
	switch {
	case us < limit:
		return uint32(us)
	case us/1e3 < limit:
		return 1<<30 | uint32(us/1e3)
	default:
		return 2<<30 | uint32(min(us/1e6, limit-1))
	}
}

func unpackDuration(p uint32) uint64 {
	v := uint64(p & (1<<30 - 1))
	switch p >> 30 {
	case 0:
		return v
	case 1:
		return v * 1e3
	default:
		return v * 1e6
	}
}

func (r *record) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, r.startLo)
	b = binary.LittleEndian.AppendUint32(b, r.duration)
	b = binary.LittleEndian.AppendUint32(b, r.worker)
	b = binary.LittleEndian.AppendUint32(b, r.peakKiB)
	b = binary.LittleEndian.AppendUint32(b, r.cpu)
	b = binary.LittleEndian.AppendUint16(b, r.attempt)
	b = binary.LittleEndian.AppendUint16(b, r.reason)
	b = binary.LittleEndian.AppendUint16(b, r.exit)
	return append(b, r.startHi, r.bits)
}

func decodeRecord(b []byte) record {
	return record{
		startLo:  binary.LittleEndian.Uint32(b),
		duration: binary.LittleEndian.Uint32(b[4:]),
		worker:   binary.LittleEndian.Uint32(b[8:]),
		peakKiB:  binary.LittleEndian.Uint32(b[12:]),
		cpu:      binary.LittleEndian.Uint32(b[16:]),
		attempt:  binary.LittleEndian.Uint16(b[20:]),
		reason:   binary.LittleEndian.Uint16(b[22:]),
		exit:     binary.LittleEndian.Uint16(b[24:]),
		startHi:  b[26],
		bits:     b[27],
	}
}

const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits
)

// chunk holds the records of up to 1024 neighbouring children.
type chunk struct {
	// epoch is that of the State which may write to it, see State.epoch.
	epoch uint64
	recs  []record
	// history has the earlier attempts, oldest first, of children that had
	// more than one.
	history map[uint16][]record
	// base is the number of attempts that do not count against the budget:
	// lost with a node, or made before a rerun.
	base map[uint16]uint16
	// output and metric are nil until a task of the chunk reports one.
	output [][]byte
	metric []float64
}

func newChunk(epoch, size, first uint64) *chunk {
	return &chunk{epoch: epoch, recs: make([]record, min(chunkLen, size-first))}
}

// clone copies everything that a mutation may write to.
func (c *chunk) clone(epoch uint64) *chunk {
	n := &chunk{epoch: epoch, recs: slices.Clone(c.recs), output: slices.Clone(c.output), metric: slices.Clone(c.metric)}
	if c.history != nil {
		n.history = make(map[uint16][]record, len(c.history))
		for k, v := range c.history {
			// Only ever appended to: without spare capacity the append must
			// copy instead of writing behind the frozen one.
			n.history[k] = slices.Clip(v)
		}
	}
	if c.base != nil {
		n.base = maps.Clone(c.base)
	}
	return n
}

// keepHistory moves the earlier attempt that the record still shows into the
// history, before a new attempt is written over it.
func (r *record) keepHistory(c *chunk, k uint16) {
	if r.phase() != phaseWaiting {
		return
	}
	if c.history == nil {
		c.history = make(map[uint16][]record)
	}
	old := *r
	c.history[k] = append(c.history[k], old)
	*r = record{}
	r.setLost(old.lost())
}

func (c *chunk) addBase(k uint16, n uint16) {
	if c.base == nil {
		c.base = make(map[uint16]uint16)
	}
	c.base[k] += n
}

func (c *chunk) setOutput(k uint16, b []byte) {
	if c.output == nil {
		if len(b) == 0 {
			return
		}
		c.output = make([][]byte, len(c.recs))
	}
	c.output[k] = b
}

func (c *chunk) setMetric(k uint16, v float64) {
	if c.metric == nil {
		if math.IsNaN(v) {
			return
		}
		c.metric = make([]float64, len(c.recs))
		for i := range c.metric {
			c.metric[i] = math.NaN()
		}
	}
	c.metric[k] = v
}
