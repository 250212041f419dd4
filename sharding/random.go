// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// streamKey is the key of everything random about one parameter: a function
// of the seed, the use and the name only, so that other parameters and more
// points leave it alone.
func streamKey(seed uint64, use, name string) uint64 {
	b := make([]byte, 0, 64)
	b = append(b, "volley.sampler.v1\x00"...)
	b = append(b, use...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint64(b, seed)
	b = append(b, name...)
	sum := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}

// philox is one 64-bit draw of Philox2x64-10 (Salmon, Moraes, Dror, Shaw:
// Parallel random numbers: as easy as 1, 2, 3; 2011): counter-based, so draw
// i costs the same as draw 0. A generator with a state would have to be
// stepped, or jumped, to i.
func philox(key, lo, hi uint64) uint64 {
	x, _ := philox2(key, lo, hi)
	return x
}

func philox2(key, lo, hi uint64) (uint64, uint64) {
	const (
		multiplier = 0xD2B74407B1CE6E93
		weyl       = 0x9E3779B97F4A7C15
	)
	for range 10 {
		h, l := bits.Mul64(lo, multiplier)
		lo, hi = h^key^hi, l
		key += weyl
	}
	return lo, hi
}

// permutation is a seeded bijection of [0, n) that needs no memory: a
// Feistel network over the next even power of two, walked along its cycle
// until it is back below n (at most four steps on average).
type permutation struct {
	n    uint64
	half uint
	keys [6]uint64
}

func newPermutation(n, key uint64) permutation {
	p := permutation{n: n, half: uint(bits.Len64(n-1)+1) / 2}
	for i := range p.keys {
		p.keys[i] = philox(key, uint64(i), 1)
	}
	return p
}

// at is the image of i, which is below n.
func (p *permutation) at(i uint64) uint64 {
	if p.n <= 1 {
		return 0
	}
	mask := uint64(1)<<p.half - 1
	for {
		l, r := i>>p.half, i&mask
		for _, key := range p.keys {
			f := (r ^ key) * 0xFF51AFD7ED558CCD // the finalizer of MurmurHash3
			f = (f ^ f>>33) * 0xC4CEB9FE1A85EC53
			l, r = r, l^(f^f>>33)&mask
		}
		i = l<<p.half | r
		if i < p.n {
			return i
		}
	}
}

// stratum is a place inside stratum k of n, as a fraction of 2^64.
func stratum(k, n, jitter uint64) uint64 {
	q, _ := bits.Div64(k, jitter, n)
	return q
}
