// SPDX-License-Identifier: Apache-2.0

package sharding

import "slices"

// Limits of the offset index. With at most one mark in 512 records and marks of
// 3 to 5 bytes, 10^8 records cost at most 1 MiB; data sets below freeMarks
// marks get a denser index for the same message size.
const (
	freeMarks = 16384
	maxEvery  = 512
)

// offsetIndex knows where every k-th record of each file begins, so that
// record i is found by reading at most k records. k is one number for all
// files: with one per file, a million small files would each have an index.
type offsetIndex struct {
	every uint64 // k; a power of two when built here
	// marks[j] of a file is the offset of its record (j+1)*every; record 0 is
	// where the data begins. All files, one after the other.
	marks []uint64
	// first[f] is the position in marks of file f's first.
	first []int
}

// ofFile are the marks of file f.
func (x *offsetIndex) ofFile(f int) []uint64 {
	if f+1 < len(x.first) {
		return x.marks[x.first[f]:x.first[f+1]]
	}
	return x.marks[x.first[f]:]
}

// offsetBuilder makes an offsetIndex in one pass over the records.
type offsetBuilder struct {
	offsetIndex
	total uint64 // records so far
	n     uint64 // records of the current file
}

// file begins the next file.
func (b *offsetBuilder) file() {
	if b.every == 0 {
		b.every = 1
	}
	b.first = append(b.first, len(b.marks))
	b.n = 0
}

// add takes the offset of the next record.
func (b *offsetBuilder) add(off uint64) {
	if b.n > 0 && b.n&(b.every-1) == 0 {
		b.marks = append(b.marks, off)
	}
	b.n++
	b.total++
	for len(b.marks) > freeMarks && b.every < maxEvery {
		b.thin()
	}
}

// thin doubles k: of each file's marks every second one stays.
func (b *offsetBuilder) thin() {
	kept := 0
	for f := range b.first {
		marks := b.ofFile(f)
		b.first[f] = kept
		for j := 1; j < len(marks); j += 2 {
			b.marks[kept] = marks[j]
			kept++
		}
		if f+1 == len(b.first) {
			b.marks = b.marks[:kept]
		}
	}
	b.every *= 2
}

// finish frees what the builder allocated too much.
func (b *offsetBuilder) finish() offsetIndex {
	b.marks = slices.Clip(b.marks)
	return b.offsetIndex
}
