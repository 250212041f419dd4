// SPDX-License-Identifier: Apache-2.0

package sharding

import "slices"

// Set algebra. Each operation walks the set with fewer runs and searches in the
// other: O(min log max) plus what it changes, so one finished index costs
// nothing in a set of a million runs.

// Union adds the indexes of o to s.
func (s *Set) Union(o *Set) {
	if s == o || o.n == 0 {
		return
	}
	if o.runs > s.runs {
		small := *s
		*s = *o.Clone()
		o = &small
	}
	for r := range o.Ranges() {
		s.AddRange(r.First, r.Count)
	}
}

// Subtract takes the indexes of o out of s.
func (s *Set) Subtract(o *Set) {
	if s == o {
		s.Reset()
		return
	}
	if o.runs <= s.runs {
		for r := range o.Ranges() {
			s.RemoveRange(r.First, r.Count)
		}
		return
	}
	var rest Set
	for r := range s.Ranges() {
		at := r.First
		for p := o.find(at); o.valid(p) && o.at(p).First < r.End(); p = o.next(p) {
			hole := o.at(p)
			if hole.First > at {
				rest.push(Run{at, hole.First - at})
			}
			at = hole.End()
		}
		if at < r.End() {
			rest.push(Run{at, r.End() - at})
		}
	}
	*s = rest
}

// Intersect keeps the indexes of s that are in o too.
func (s *Set) Intersect(o *Set) {
	if s == o {
		return
	}
	small, large := s, o
	if large.runs < small.runs {
		small, large = large, small
	}
	var both Set
	for r := range small.Ranges() {
		for p := large.find(r.First); large.valid(p) && large.at(p).First < r.End(); p = large.next(p) {
			q := large.at(p)
			lo, hi := max(r.First, q.First), min(r.End(), q.End())
			both.push(Run{lo, hi - lo})
		}
	}
	*s = both
}

// Clone is a copy that shares nothing with s.
func (s *Set) Clone() *Set {
	c := &Set{blocks: slices.Clone(s.blocks), n: s.n, runs: s.runs}
	for i := range c.blocks {
		c.blocks[i].runs = slices.Clone(c.blocks[i].runs)
	}
	return c
}

// Equal reports whether both sets hold the same indexes.
func (s *Set) Equal(o *Set) bool {
	if s.n != o.n || s.runs != o.runs {
		return false
	}
	// Runs that do not touch are a canonical form; blocks are not.
	p, q := (pos{}), (pos{})
	for s.valid(p) {
		if s.at(p) != o.at(q) {
			return false
		}
		p, q = s.next(p), o.next(q)
	}
	return true
}
