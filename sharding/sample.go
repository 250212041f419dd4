// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"math/bits"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// stream is where the draws of one sampled parameter come from.
type stream struct {
	key   uint64           // RANDOM; jitter of LHS
	shift uint64           // SOBOL: digital shift
	sobol *sobolDirections // SOBOL
	perm  permutation      // LHS
}

// sample prepares RANDOM, SOBOL and LHS. Candidate c is repetition
// c % reps of draw c / reps.
func (b *builder) sample(s *Space, sw *volleyv1.Sweep) error {
	s.draws, s.reps = sw.GetPoints(), 1
	for p, a := range b.axes {
		if a.shape != shapeRepeat {
			continue
		}
		hi, lo := bits.Mul64(s.reps, a.n)
		if hi != 0 || lo > MaxPoints {
			return errAt("sweep.params."+b.names[p]+".repeat", utoa(a.n), "the sweep has more than 2^63-1 points")
		}
		s.reps = lo
	}
	hi, lo := bits.Mul64(s.draws, s.reps)
	if hi != 0 || lo > MaxPoints {
		return errAt("sweep.points", utoa(s.draws), "%d points × %d repetitions are more than 2^63-1", s.draws, s.reps)
	}
	s.size = lo
	b.streams(s, sw.GetSeed())
	return b.filter(s)
}

func (b *builder) streams(s *Space, seed uint64) {
	s.streams = make([]stream, len(b.axes))
	dimension := 0
	for p, a := range b.axes {
		if a.shape == shapeRepeat {
			continue
		}
		st := &s.streams[p]
		switch s.sampler {
		case volleyv1.Sampler_SAMPLER_SOBOL:
			// MaxParams dimensions are in the table: see its test.
			st.sobol = &sobolTable()[dimension]
			st.shift = streamKey(seed, "sobol", b.names[p])
			dimension++
		case volleyv1.Sampler_SAMPLER_LHS:
			st.perm = newPermutation(s.draws, streamKey(seed, "lhs", b.names[p]))
			st.key = streamKey(seed, "lhs jitter", b.names[p])
		default:
			st.key = streamKey(seed, "random", b.names[p])
		}
	}
}

// filter lists the candidates that are points, where expressions decide it.
func (b *builder) filter(s *Space) error {
	needed := b.needed(s)
	if needed == nil {
		return nil
	}
	what, src := "sweep.exclude", b.exclude
	if src == "" {
		what = "sweep.points"
	}
	if s.size > MaxCombinations {
		return errAt(what, src, "the sweep has %d points; with exclude, or with when on a repeat, at most %d are examined", s.size, MaxCombinations)
	}
	cost := b.evaluationCost() + 16*len(needed) + 4
	values := make([]Value, len(b.axes))
	accepted, examined := uint64(0), uint64(0)
	for draw := uint64(0); accepted < s.draws; draw++ {
		if s.sampler == volleyv1.Sampler_SAMPLER_LHS && draw == s.draws {
			break
		}
		some := false
		for rep := range s.reps {
			if examined++; examined > MaxCombinations {
				return b.tooFew(what, src, accepted, draw)
			}
			if b.budget -= cost; b.budget < 0 {
				return b.tooFew(what, src, accepted, draw)
			}
			for _, p := range needed {
				values[p] = s.drawn(p, draw)
			}
			s.repetition(rep, values)
			if s.applyWhen(values); b.repeated(s, rep, values) || b.excluded(values) {
				continue
			}
			some = true
			s.kept = append(s.kept, uint32(draw*s.reps+rep))
		}
		if some {
			accepted++
		}
	}
	if len(s.kept) == 0 {
		return errAt(what, src, "excludes every point: the sweep is empty")
	}
	s.filtered, s.size = true, uint64(len(s.kept))
	return nil
}

func (b *builder) tooFew(path, src string, accepted, draws uint64) error {
	return errAt(path, src, "only %d of the first %d draws pass: ask for fewer points, or exclude less", accepted, draws)
}

// needed are the sampled parameters on which the choice of points depends;
// nil when every candidate is a point.
func (b *builder) needed(s *Space) []int {
	use := make([]bool, len(b.axes))
	any := len(b.excludes) > 0
	for _, e := range b.excludes {
		for _, p := range e.vars {
			use[p] = true
		}
	}
	for p, w := range b.whens {
		if w != nil && b.axes[p].shape == shapeRepeat {
			use[p], any = true, true
		}
	}
	if !any {
		return nil
	}
	for _, p := range slices.Backward(b.order) { // dependents before what they need
		if use[p] && b.whens[p] != nil {
			for _, q := range b.whens[p].vars {
				use[q] = true
			}
		}
	}
	list := []int{}
	for p := range b.axes {
		if use[p] && b.axes[p].shape != shapeRepeat {
			list = append(list, p)
		}
	}
	return list
}

// repeated reports whether this repetition differs from an earlier one only
// in a counter that the point does not have.
func (b *builder) repeated(s *Space, rep uint64, values []Value) bool {
	for p := len(b.axes) - 1; p >= 0; p-- {
		if a := &b.axes[p]; a.shape == shapeRepeat {
			if rep%a.n != 0 && !values[p].Present() {
				return true
			}
			rep /= a.n
		}
	}
	return false
}

// candidate writes candidate c before conditions.
func (s *Space) candidate(c uint64, values []Value) {
	draw, rep := c, uint64(0)
	if s.reps > 1 {
		draw, rep = c/s.reps, c%s.reps
	}
	for p := range s.axes {
		if s.axes[p].shape != shapeRepeat {
			values[p] = s.drawn(p, draw)
		}
	}
	s.repetition(rep, values)
}

// repetition writes the counters of repetition rep, the last one fastest.
func (s *Space) repetition(rep uint64, values []Value) {
	for p := len(s.axes) - 1; p >= 0; p-- {
		if a := &s.axes[p]; a.shape == shapeRepeat {
			values[p] = IntValue(int64(rep % a.n))
			rep /= a.n
		}
	}
}

// drawn is the value of a sampled parameter in one draw.
func (s *Space) drawn(p int, draw uint64) Value {
	st := &s.streams[p]
	var x uint64
	switch s.sampler {
	case volleyv1.Sampler_SAMPLER_SOBOL:
		x = st.sobol.at(draw) ^ st.shift
	case volleyv1.Sampler_SAMPLER_LHS:
		x = stratum(st.perm.at(draw), s.draws, philox(st.key, draw, 0))
	default:
		x = philox(st.key, draw, 0)
	}
	return s.axes[p].draw(x)
}
