// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/bits"
	"sync/atomic"
)

// tally counts which indexes of a job were executed, by whichever worker. It
// is safe for concurrent use.
type tally struct {
	size uint64
	done []atomic.Uint64
	// twice counts executions of an index after its first; beyond, those of
	// indexes that the job does not have.
	twice, beyond atomic.Uint64
}

func newTally(size uint64) *tally {
	return &tally{size: size, done: make([]atomic.Uint64, (size+63)/64)}
}

// mark notes the execution of count indexes.
func (t *tally) mark(first, count uint64) {
	if first >= t.size || count > t.size-first {
		t.beyond.Add(count)
		return
	}
	for end := first + count; first < end; {
		n := min(64-first%64, end-first)
		mask := (^uint64(0) >> (64 - n)) << (first % 64)
		if old := t.done[first/64].Or(mask); old&mask != 0 {
			t.twice.Add(uint64(bits.OnesCount64(old & mask)))
		}
		first += n
	}
}

// missing is the number of indexes that were not executed.
func (t *tally) missing() uint64 {
	n := uint64(0)
	for i := range t.done {
		n += uint64(bits.OnesCount64(t.done[i].Load()))
	}
	return t.size - n
}
