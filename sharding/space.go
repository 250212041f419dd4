// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"iter"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Space is a parameter space; immutable, safe for concurrent use. The order
// of its points is described with the package.
type Space struct {
	sampler volleyv1.Sampler
	names   *names
	axes    []axis
	whens   []*expression
	order   []int // parameters with a condition, topological
	size    uint64

	units []unit  // GRID
	table []Value // LIST, FILE: row-major

	// RANDOM, SOBOL, LHS.
	streams     []stream
	draws, reps uint64

	// When filtered, point i is row or candidate kept[i].
	// Invariant: ascending, below MaxCombinations.
	filtered bool
	kept     []uint32
}

// Len is the number of points, at least 1.
func (s *Space) Len() uint64 { return s.size }

// Names are the parameters in the order of declaration, those that not every
// point has included.
func (s *Space) Names() []string { return slices.Clone(s.names.list) }

// At returns point i in O(parameters); an error when i >= Len.
func (s *Space) At(i uint64) (Point, error) {
	var p Point
	err := s.Decode(i, &p)
	return p, err
}

// Decode is At into a point that is used again: it writes over p's values
// and allocates nothing when p came from the same space. Points of the same
// p are then no longer valid.
func (s *Space) Decode(i uint64, p *Point) error {
	if i >= s.size {
		return fmt.Errorf("point %d of %d: %w", i, s.size, ErrIndex)
	}
	if p.names != s.names {
		p.names, p.values = s.names, make([]Value, len(s.names.list))
	}
	if s.units != nil {
		for k := len(s.units) - 1; k >= 0; k-- {
			u := &s.units[k]
			q := i / u.n
			u.decode(s.axes, i-q*u.n, p.values)
			i = q
		}
		return nil
	}
	if s.filtered {
		i = uint64(s.kept[i])
	}
	if s.streams != nil {
		s.candidate(i, p.values)
	} else {
		s.row(i, p.values)
	}
	s.applyWhen(p.values)
	return nil
}

// Points iterates over the points from index first on. A yielded point is
// only valid until the next one.
func (s *Space) Points(first uint64) iter.Seq2[uint64, Point] {
	return func(yield func(uint64, Point) bool) {
		var p Point
		for i := first; i < s.size; i++ {
			if err := s.Decode(i, &p); err != nil || !yield(i, p) {
				return
			}
		}
	}
}

// applyWhen removes the parameters whose condition does not hold.
func (s *Space) applyWhen(values []Value) {
	for _, p := range s.order {
		if !s.whens[p].holds(values) {
			values[p] = Value{}
		}
	}
}
