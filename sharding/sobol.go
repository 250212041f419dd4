// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"
)

// sobolBits is how many index bits have a direction number: MaxSequence
// points.
const sobolBits = 53

// sobolDirections holds the direction numbers of one dimension as fractions
// of 2^64: number k is m_k / 2^k.
type sobolDirections [sobolBits]uint64

// sobolTable expands the Joe-Kuo rows once, on first use: a grid sweep, which
// is most of them, does not pay for it.
var sobolTable = sync.OnceValue(func() []sobolDirections {
	lines := strings.Split(strings.TrimSpace(joeKuo), "\n")
	table := make([]sobolDirections, 1, len(lines)+1)
	for k := range table[0] { // dimension 1: van der Corput
		table[0][k] = 1 << (63 - k)
	}
	for _, line := range lines {
		s, a, m := sobolRow(line)
		table = append(table, expandDirections(s, a, m))
	}
	return table
})

func sobolRow(line string) (s, a int, m []uint64) {
	fields := strings.Fields(line)
	nums := make([]uint64, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil { // the table is a constant of this package
			panic(fmt.Sprintf("sharding: direction numbers %q: %v", line, err))
		}
		nums[i] = n
	}
	return int(nums[0]), int(nums[1]), nums[2:]
}

// expandDirections runs the recurrence of the primitive polynomial
// x^s + a_1 x^(s-1) + … + a_(s-1) x + 1 over the s initial numbers.
func expandDirections(s, a int, m []uint64) (v sobolDirections) {
	for k := range v {
		if k < s {
			v[k] = m[k] << (63 - k)
			continue
		}
		v[k] = v[k-s] ^ v[k-s]>>s
		for j := 1; j < s; j++ {
			if a>>(s-1-j)&1 == 1 {
				v[k] ^= v[k-j]
			}
		}
	}
	return v
}

// at is the i-th number of the dimension as a fraction of 2^64, through the
// Gray code of i: the order of the usual recursive generator, without its
// state.
func (v *sobolDirections) at(i uint64) uint64 {
	var x uint64
	for g := i ^ i>>1; g != 0; g &= g - 1 {
		x ^= v[bits.TrailingZeros64(g)]
	}
	return x
}
