// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// checkBolt walks a bbolt file before bbolt sees it.
//
// bbolt has no checksum on its pages. It panics on what it cannot read, some of
// it in goroutines of its own where nobody can recover, is killed by SIGBUS where
// a file is too short, and takes the older root page without a word when the
// newer one is damaged, which loses the last batch that was acknowledged. This
// walk refuses all of these. It also refuses a page whose elements do not lie
// exactly as bbolt packs them, so that a damaged count does not hide records.
// Values are not looked at: they carry checksums (see store).
//
// A root page cannot be torn by a crash: what counts of it are 80 bytes at the
// start of a sector.
func checkBolt(r io.ReaderAt, size int64) error {
	w := boltWalk{r: r, size: size}
	first, err := w.meta(0)
	if err != nil {
		return fmt.Errorf("root page 0: %w", err)
	}
	w.pageSize = int64(first.pageSize)
	second, err := w.meta(w.pageSize)
	if err != nil {
		return fmt.Errorf("root page 1: %w", err)
	}
	if second.pageSize != first.pageSize {
		return fmt.Errorf("root pages disagree on the page size: %d and %d", first.pageSize, second.pageSize)
	}
	m := first
	if second.txid > first.txid {
		m = second
	}
	w.high = m.high
	if int64(m.high) < 0 || int64(m.high) > size/w.pageSize {
		return fmt.Errorf("file has %d pages, root page says %d: it was cut short", size/w.pageSize, m.high)
	}
	w.seen = make([]uint64, m.high/64+1)
	if m.free != boltNoFreelist {
		if err := w.freelist(m.free); err != nil {
			return err
		}
	}
	return w.page(m.root, nil, nil, 0)
}

const (
	boltMagic, boltVersion       = 0xED0CDAED, 2
	boltBranch, boltLeaf         = 0x01, 0x02
	boltMeta, boltFreelist       = 0x04, 0x10
	boltNoFreelist               = 1<<64 - 1
	boltHeader, boltElement      = 16, 16
	boltMetaLen                  = 56 // bytes of the root that its checksum covers
	boltBucketFlag               = 0x01
	boltMaxDepth                 = 32
	boltMinPage, boltMaxPageSize = 1024, 1 << 16
)

type boltRoot struct {
	pageSize               uint32
	root, free, high, txid uint64
}

type boltWalk struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	high     uint64   // pages at and above are not in use
	seen     []uint64 // bit set of pages visited
}

func (w *boltWalk) meta(off int64) (boltRoot, error) {
	var b [boltHeader + boltMetaLen + 8]byte
	if _, err := w.r.ReadAt(b[:], off); err != nil {
		return boltRoot{}, fmt.Errorf("read at %d: %w", off, err)
	}
	if binary.LittleEndian.Uint16(b[8:]) != boltMeta {
		return boltRoot{}, fmt.Errorf("flags are %#x", binary.LittleEndian.Uint16(b[8:]))
	}
	m := b[boltHeader:]
	if v := binary.LittleEndian.Uint32(m); v != boltMagic {
		return boltRoot{}, fmt.Errorf("magic number is %#x", v)
	}
	if v := binary.LittleEndian.Uint32(m[4:]); v != boltVersion {
		return boltRoot{}, fmt.Errorf("format version is %d, this program reads %d", v, boltVersion)
	}
	h := fnv.New64a()
	h.Write(m[:boltMetaLen])
	if h.Sum64() != binary.LittleEndian.Uint64(m[boltMetaLen:]) {
		return boltRoot{}, fmt.Errorf("checksum does not match")
	}
	r := boltRoot{
		pageSize: binary.LittleEndian.Uint32(m[8:]),
		root:     binary.LittleEndian.Uint64(m[16:]),
		free:     binary.LittleEndian.Uint64(m[32:]),
		high:     binary.LittleEndian.Uint64(m[40:]),
		txid:     binary.LittleEndian.Uint64(m[48:]),
	}
	if r.pageSize < boltMinPage || r.pageSize > boltMaxPageSize || r.pageSize&(r.pageSize-1) != 0 {
		return boltRoot{}, fmt.Errorf("page size is %d", r.pageSize)
	}
	return r, nil
}

// freelist checks the list of free pages. This package has none written; only a
// file that was just created holds one, and it is empty.
func (w *boltWalk) freelist(id uint64) error {
	if id < 2 || id >= w.high {
		return fmt.Errorf("list of free pages: page %d is outside the file's %d pages", id, w.high)
	}
	var head [boltHeader]byte
	if _, err := w.r.ReadAt(head[:], int64(id)*w.pageSize); err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	if binary.LittleEndian.Uint64(head[:]) != id || binary.LittleEndian.Uint16(head[8:]) != boltFreelist || binary.LittleEndian.Uint16(head[10:]) != 0 {
		return fmt.Errorf("list of free pages: page %d is %x", id, head)
	}
	return nil
}

// page checks the subtree of page id, whose keys must lie in [from, to).
func (w *boltWalk) page(id uint64, from, to []byte, depth int) error {
	if id < 2 || id >= w.high {
		return fmt.Errorf("page %d: outside the file's %d pages", id, w.high)
	}
	var head [boltHeader]byte
	off := int64(id) * w.pageSize
	if _, err := w.r.ReadAt(head[:], off); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if self := binary.LittleEndian.Uint64(head[:]); self != id {
		return fmt.Errorf("page %d: calls itself page %d", id, self)
	}
	span := uint64(binary.LittleEndian.Uint32(head[12:])) + 1
	if span > w.high-id {
		return fmt.Errorf("page %d: %d pages long, beyond the end", id, span)
	}
	for p := id; p < id+span; p++ {
		if w.seen[p/64]&(1<<(p%64)) != 0 {
			return fmt.Errorf("page %d: in use twice", p)
		}
		w.seen[p/64] |= 1 << (p % 64)
	}
	b := make([]byte, int64(span)*w.pageSize)
	if _, err := w.r.ReadAt(b, off); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if err := w.elements(b, from, to, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *boltWalk) elements(b, from, to []byte, depth int) error {
	if depth > boltMaxDepth {
		return fmt.Errorf("tree deeper than %d", boltMaxDepth)
	}
	flags, count := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	if flags != boltBranch && flags != boltLeaf {
		return fmt.Errorf("flags are %#x", flags)
	}
	if flags == boltBranch && count == 0 {
		return fmt.Errorf("branch without children")
	}
	next := boltHeader + count*boltElement // where the next element's bytes must begin
	if next > len(b) {
		return fmt.Errorf("%d elements do not fit", count)
	}
	type child struct {
		id  uint64
		key []byte
	}
	var children []child
	last := from
	for i := range count {
		at := boltHeader + i*boltElement
		e := b[at : at+boltElement]
		var pos, klen, vlen uint32
		if flags == boltLeaf {
			pos, klen, vlen = binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		} else {
			pos, klen = binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		}
		if int64(at)+int64(pos) != int64(next) {
			return fmt.Errorf("element %d of %d: bytes begin at %d, not at %d", i, count, int64(at)+int64(pos), next)
		}
		end := int64(next) + int64(klen) + int64(vlen)
		if end > int64(len(b)) {
			return fmt.Errorf("element %d of %d: runs over the end", i, count)
		}
		key := b[next : next+int(klen)]
		if c := bytes.Compare(last, key); c > 0 || (c == 0 && i > 0) {
			return fmt.Errorf("element %d of %d: key %x after key %x", i, count, key, last)
		}
		if to != nil && bytes.Compare(key, to) >= 0 {
			return fmt.Errorf("element %d of %d: key %x belongs to the next page", i, count, key)
		}
		last = key
		value := b[next+int(klen) : end]
		next = int(end)
		switch {
		case flags == boltBranch:
			children = append(children, child{binary.LittleEndian.Uint64(e[8:]), key})
		case binary.LittleEndian.Uint32(e) == boltBucketFlag:
			if err := w.bucket(value, depth); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		case binary.LittleEndian.Uint32(e) != 0:
			return fmt.Errorf("element %d of %d: flags are %#x", i, count, binary.LittleEndian.Uint32(e))
		}
	}
	for i, c := range children {
		until := to
		if i+1 < len(children) {
			until = children[i+1].key
		}
		if err := w.page(c.id, c.key, until, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the tree behind a bucket's entry. A small bucket has its only
// page within the entry.
func (w *boltWalk) bucket(v []byte, depth int) error {
	if len(v) < 16 {
		return fmt.Errorf("entry of %d bytes", len(v))
	}
	if root := binary.LittleEndian.Uint64(v); root != 0 {
		return w.page(root, nil, nil, depth+1)
	}
	if len(v) < 16+boltHeader {
		return fmt.Errorf("entry of %d bytes", len(v))
	}
	if flags := binary.LittleEndian.Uint16(v[16+8:]); flags != boltLeaf {
		return fmt.Errorf("flags are %#x", flags)
	}
	return w.elements(v[16:], nil, nil, depth+1)
}
