// SPDX-License-Identifier: Apache-2.0

package state

import (
	"math"

	"github.com/volley-batch/volley/sharding"
)

// Blocks lists the blocks of neighbouring children of which one at least has a
// record, in no order. A reader of 10^8 children goes through them a few at a
// time: one walk would stop the engine for seconds.
func (j *Job) Blocks() []uint64 {
	list := make([]uint64, 0, len(j.chunks))
	for base := range j.chunks {
		list = append(list, base)
	}
	return list
}

// AddSucceeded adds the children of a block that have succeeded to the set.
func (j *Job) AddSucceeded(set *sharding.Set, block uint64) {
	c := j.chunks[block]
	if c == nil {
		return
	}
	for k := range c.recs {
		if p := c.recs[k].phase(); p == phaseSucceeded || p == phaseSkipped {
			set.Add(block<<chunkBits + uint64(k))
		}
	}
}

// AddEnded adds the children of a block that have ended, after they ran or in
// place of it, to the set.
func (j *Job) AddEnded(set *sharding.Set, block uint64) {
	c := j.chunks[block]
	if c == nil {
		return
	}
	for k := range c.recs {
		if c.recs[k].phase().terminal() {
			set.Add(block<<chunkBits + uint64(k))
		}
	}
}

// AddNeverRun adds the children that have ended and will not run: cancelled, or
// behind a dependency that failed.
func (j *Job) AddNeverRun(set *sharding.Set) {
	set.Union(j.cancelled)
	set.Union(j.depFailed)
}

// Live says that the job has not ended, and was not told to.
func (j *Job) Live() bool { return !j.terminal && !j.cancel }

// NextTouched is the first child from i on that may be running or have ended;
// the size of the job if there is none. It costs the number of blocks, not the
// number of children.
func (j *Job) NextTouched(i uint64) uint64 {
	if j.chunks[i>>chunkBits] != nil {
		return min(i, j.Size)
	}
	next := uint64(math.MaxUint64)
	for base := range j.chunks {
		if first := base << chunkBits; first > i {
			next = min(next, first)
		}
	}
	for _, set := range []*sharding.Set{j.cancelled, j.depFailed} {
		for r := range set.Ranges() {
			if r.End() > i {
				next = min(next, max(r.First, i))
				break
			}
		}
	}
	return min(next, j.Size)
}

// AppendRanked appends the children of a block that have succeeded with a
// value of the job's metric.
func (j *Job) AppendRanked(list []Best, block uint64) []Best {
	c := j.chunks[block]
	if c == nil {
		return list
	}
	for k, v := range c.metric {
		if p := c.recs[k].phase(); !math.IsNaN(v) && (p == phaseSucceeded || p == phaseSkipped) {
			list = append(list, Best{OK: true, Index: block<<chunkBits + uint64(k), Value: v})
		}
	}
	return list
}
