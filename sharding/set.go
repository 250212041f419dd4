// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"iter"
	"slices"
	"sort"
)

// maxIndex bounds the indexes of a Set from above: [0, 1<<63). It keeps every
// end and every length within uint64, so that no operation can overflow.
const maxIndex = uint64(1) << 63

// maxBlock is the largest number of runs in one block. An insertion moves at
// most one block (8 KiB) and, once in maxBlock/2 insertions, the block list.
const maxBlock = 512

// Run is the range of indexes [First, First+Count).
type Run struct{ First, Count uint64 }

// End is the index after the last one.
func (r Run) End() uint64 { return r.First + r.Count }

// Set is a set of indexes kept as runs: a range costs 16 bytes however long it
// is. The zero value is the empty set. Indexes are below 1<<63; what a range
// has beyond is left out, because the packed forms could not carry it.
//
// A Set is not safe for concurrent mutation, and must not be changed while it
// is iterated. It must not be copied by value: the copies would share blocks.
// Use Clone.
type Set struct {
	// Invariant: ascending; no block is empty or longer than maxBlock; no two
	// runs overlap or touch, across blocks too; no run has Count 0.
	blocks []block
	n      uint64 // sum of all counts
	runs   int    // sum of all block lengths
}

// block is a leaf of the two-level tree. A flat slice of runs would move 16 MB
// for one insertion into a set of 10^6 singletons; a pointer tree would cost
// three times the memory and a cache miss per level.
type block struct {
	// Invariant: runs[0].First. Here so that the search for a block reads one
	// contiguous slice.
	min  uint64
	runs []Run
}

// pos addresses a run. The position after the last run is (len(blocks), 0).
type pos struct{ b, i int }

// NewSet makes a set of the given runs, in any order; they may overlap.
func NewSet(runs ...Run) *Set {
	s := new(Set)
	for _, r := range runs {
		s.AddRange(r.First, r.Count)
	}
	return s
}

// clip is the end of the range, cut at maxIndex.
func clip(first, count uint64) (end uint64) {
	if first >= maxIndex || count > maxIndex-first {
		return maxIndex
	}
	return first + count
}

// find answers with the first run that ends after i.
func (s *Set) find(i uint64) pos {
	// The first block that begins after i; the run is in the one before, or
	// is the first of this one.
	b := sort.Search(len(s.blocks), func(k int) bool { return s.blocks[k].min > i })
	if b == 0 {
		return pos{0, 0}
	}
	runs := s.blocks[b-1].runs
	k := sort.Search(len(runs), func(k int) bool { return runs[k].End() > i })
	if k == len(runs) {
		return pos{b, 0}
	}
	return pos{b - 1, k}
}

func (s *Set) valid(p pos) bool { return p.b < len(s.blocks) }

func (s *Set) at(p pos) Run { return s.blocks[p.b].runs[p.i] }

func (s *Set) next(p pos) pos {
	if p.i+1 < len(s.blocks[p.b].runs) {
		return pos{p.b, p.i + 1}
	}
	return pos{p.b + 1, 0}
}

// Add adds one index. One at or above 1<<63 is left out.
func (s *Set) Add(i uint64) { s.AddRange(i, 1) }

// AddRange adds [first, first+count).
func (s *Set) AddRange(first, count uint64) {
	end := clip(first, count)
	if count == 0 || first >= end {
		return
	}
	// Everything that overlaps or touches becomes one run.
	from := pos{}
	if first > 0 {
		from = s.find(first - 1)
	}
	to, removed := from, uint64(0)
	merged := Run{first, end - first}
	for s.valid(to) && s.at(to).First <= end {
		r := s.at(to)
		removed += r.Count
		lo, hi := min(merged.First, r.First), max(merged.End(), r.End())
		merged = Run{lo, hi - lo}
		to = s.next(to)
	}
	s.n += merged.Count - removed
	s.splice(from, to, [2]Run{merged}, 1)
}

// Remove takes one index out, and reports whether it was there.
func (s *Set) Remove(i uint64) bool {
	before := s.n
	s.RemoveRange(i, 1)
	return s.n != before
}

// RemoveRange takes [first, first+count) out.
func (s *Set) RemoveRange(first, count uint64) {
	end := clip(first, count)
	if count == 0 || first >= end {
		return
	}
	from := s.find(first)
	to, removed := from, uint64(0)
	var rest [2]Run
	n := 0
	for s.valid(to) && s.at(to).First < end {
		r := s.at(to)
		removed += r.Count
		if r.First < first {
			rest[n] = Run{r.First, first - r.First}
			removed -= rest[n].Count
			n++
		}
		if r.End() > end {
			rest[n] = Run{end, r.End() - end}
			removed -= rest[n].Count
			n++
		}
		to = s.next(to)
	}
	if from == to {
		return
	}
	s.n -= removed
	s.splice(from, to, rest, n)
}

// splice replaces the runs [from, to) by the first n of repl. It keeps the
// invariants of blocks and s.runs; s.n is the caller's.
func (s *Set) splice(from, to pos, repl [2]Run, n int) {
	// Ends are brought into the block of what stands before them, so that an
	// insertion after a block's last run extends this block.
	if to.i == 0 && to.b > 0 && (from.b < to.b || to.b == len(s.blocks)) {
		to = pos{to.b - 1, len(s.blocks[to.b-1].runs)}
		if from.b > to.b {
			from = to
		}
	}
	if len(s.blocks) == 0 {
		if n > 0 {
			s.blocks = append(s.blocks, block{repl[0].First, slices.Clone(repl[:n])})
			s.runs += n
		}
		return
	}
	if from.b == to.b {
		b := &s.blocks[from.b]
		s.runs += n - (to.i - from.i)
		switch {
		case from.b == len(s.blocks)-1 && from.i == len(b.runs) && len(b.runs) >= maxBlock:
			// Ascending insertion: leave full blocks behind, not halves.
			s.blocks = append(s.blocks, block{repl[0].First, slices.Clone(repl[:n])})
			return
		case n == 0 && from.i == 0:
			b.runs = b.runs[to.i:]
		default:
			b.runs = slices.Replace(b.runs, from.i, to.i, repl[:n]...)
		}
		s.settle(from.b)
		return
	}
	left, right := &s.blocks[from.b], &s.blocks[to.b]
	removed := len(left.runs) - from.i + to.i
	for _, b := range s.blocks[from.b+1 : to.b] {
		removed += len(b.runs)
	}
	s.runs += n - removed
	left.runs = append(left.runs[:from.i], repl[:n]...)
	right.runs = right.runs[to.i:]
	cut := to.b
	if len(right.runs) == 0 {
		cut++
	} else {
		right.min = right.runs[0].First
	}
	s.blocks = slices.Delete(s.blocks, from.b+1, cut)
	s.settle(from.b)
}

// settle restores a block after a change: drops it when empty, halves it when
// too long, joins it with a neighbour when both are nearly empty (else random
// removals would leave blocks of one run).
func (s *Set) settle(b int) {
	runs := s.blocks[b].runs
	switch {
	case len(runs) == 0:
		s.blocks = slices.Delete(s.blocks, b, b+1)
		return
	case len(runs) > maxBlock:
		half := slices.Clone(runs[maxBlock/2:])
		s.blocks[b].runs = runs[:maxBlock/2]
		s.blocks = slices.Insert(s.blocks, b+1, block{half[0].First, half})
	case len(runs) <= maxBlock/4:
		if b+1 < len(s.blocks) && len(runs)+len(s.blocks[b+1].runs) <= maxBlock/2 {
			s.join(b)
		} else if b > 0 && len(runs)+len(s.blocks[b-1].runs) <= maxBlock/2 {
			b--
			s.join(b)
		}
	}
	s.blocks[b].min = s.blocks[b].runs[0].First
}

func (s *Set) join(b int) {
	s.blocks[b].runs = append(s.blocks[b].runs, s.blocks[b+1].runs...)
	s.blocks = slices.Delete(s.blocks, b+1, b+2)
}

// push appends a run that begins at or after the end of the last one.
func (s *Set) push(r Run) {
	s.n += r.Count
	k := len(s.blocks) - 1
	if k >= 0 {
		runs := s.blocks[k].runs
		if last := &runs[len(runs)-1]; last.End() == r.First {
			last.Count += r.Count
			return
		}
		if len(runs) < maxBlock {
			s.blocks[k].runs = append(runs, r)
			s.runs++
			return
		}
	}
	s.blocks = append(s.blocks, block{r.First, []Run{r}})
	s.runs++
}

// Contains reports whether i is in the set. It does not allocate.
func (s *Set) Contains(i uint64) bool {
	p := s.find(i)
	return s.valid(p) && s.at(p).First <= i
}

// Len is the number of indexes. O(1).
func (s *Set) Len() uint64 { return s.n }

// Runs is the number of runs. O(1).
func (s *Set) Runs() int { return s.runs }

// Empty reports whether there is no index in the set.
func (s *Set) Empty() bool { return s.n == 0 }

// Min is the smallest index; false when the set is empty.
func (s *Set) Min() (uint64, bool) {
	if s.n == 0 {
		return 0, false
	}
	return s.blocks[0].min, true
}

// Max is the largest index; false when the set is empty.
func (s *Set) Max() (uint64, bool) {
	if s.n == 0 {
		return 0, false
	}
	runs := s.blocks[len(s.blocks)-1].runs
	return runs[len(runs)-1].End() - 1, true
}

// PopFront removes the n smallest indexes, or all when there are fewer, and
// returns them in ascending order; nil when there are none.
func (s *Set) PopFront(n uint64) []Run { return s.PopFrontInto(nil, n) }

// PopFrontInto is PopFront that appends to dst: no allocation when dst has the
// room.
func (s *Set) PopFrontInto(dst []Run, n uint64) []Run {
	for n > 0 && len(s.blocks) > 0 {
		b := &s.blocks[0]
		k := 0
		for k < len(b.runs) && n > 0 {
			r := &b.runs[k]
			if r.Count > n {
				dst = append(dst, Run{r.First, n})
				s.n -= n
				r.First += n
				r.Count -= n
				n = 0
				break
			}
			dst = append(dst, *r)
			s.n -= r.Count
			n -= r.Count
			k++
		}
		s.runs -= k
		b.runs = b.runs[k:]
		if len(b.runs) == 0 {
			*b = block{}
			s.blocks = s.blocks[1:]
			continue
		}
		b.min = b.runs[0].First
	}
	if len(s.blocks) == 0 {
		s.blocks = nil // else the consumed front of the list stays reachable
	}
	return dst
}

// AppendFront appends the n smallest indexes to dst and leaves them in the set.
func (s *Set) AppendFront(dst []Run, n uint64) []Run {
	for r := range s.Ranges() {
		if n == 0 {
			break
		}
		r.Count = min(r.Count, n)
		n -= r.Count
		dst = append(dst, r)
	}
	return dst
}

// All iterates the indexes, ascending.
func (s *Set) All() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for r := range s.Ranges() {
			for i := r.First; i < r.End(); i++ {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// Ranges iterates the runs, ascending; they do not touch.
func (s *Set) Ranges() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for i := range s.blocks {
			for _, r := range s.blocks[i].runs {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// Reset empties the set.
func (s *Set) Reset() { *s = Set{} }
