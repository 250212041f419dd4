// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// checkSet fails the test when an invariant of s is broken.
func checkSet(t interface{ Fatalf(string, ...any) }, s *Set) {
	n, runs, end := uint64(0), 0, uint64(0)
	for i, b := range s.blocks {
		if len(b.runs) == 0 || len(b.runs) > maxBlock {
			t.Fatalf("block %d has %d runs", i, len(b.runs))
		}
		if b.min != b.runs[0].First {
			t.Fatalf("block %d: min %d, first run at %d", i, b.min, b.runs[0].First)
		}
		for _, r := range b.runs {
			if r.Count == 0 || runs > 0 && r.First <= end {
				t.Fatalf("run %v after end %d", r, end)
			}
			end = r.End()
			n += r.Count
			runs++
		}
	}
	if n != s.Len() || runs != s.Runs() || (n == 0) != s.Empty() {
		t.Fatalf("len %d runs %d, counted %d and %d", s.Len(), s.Runs(), n, runs)
	}
}

func (s *Set) slice() []uint64 { return slices.Collect(s.All()) }

func ranges(s *Set) []Run { return slices.Collect(s.Ranges()) }

func TestSetTable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(s *Set)
		want []Run
	}{
		{"empty", func(*Set) {}, nil},
		{"zero count", func(s *Set) { s.AddRange(5, 0) }, nil},
		{"touching merges", func(s *Set) { s.AddRange(0, 5); s.AddRange(5, 5) }, []Run{{0, 10}}},
		{"touching from above", func(s *Set) { s.AddRange(5, 5); s.AddRange(0, 5) }, []Run{{0, 10}}},
		{"bridge", func(s *Set) { s.Add(1); s.Add(3); s.Add(2) }, []Run{{1, 3}}},
		{"inside", func(s *Set) { s.AddRange(0, 100); s.AddRange(10, 5) }, []Run{{0, 100}}},
		{"swallow", func(s *Set) { s.Add(3); s.Add(7); s.Add(20); s.AddRange(1, 10) }, []Run{{1, 10}, {20, 1}}},
		{"hole", func(s *Set) { s.AddRange(0, 10); s.RemoveRange(3, 2) }, []Run{{0, 3}, {5, 5}}},
		{"trim both", func(s *Set) { s.AddRange(0, 10); s.AddRange(20, 10); s.RemoveRange(5, 20) }, []Run{{0, 5}, {25, 5}}},
		{"remove absent", func(s *Set) { s.AddRange(10, 5); s.RemoveRange(0, 10); s.RemoveRange(15, 9) }, []Run{{10, 5}}},
		{"top of the range", func(s *Set) { s.AddRange(1<<62, 1<<62) }, []Run{{1 << 62, 1 << 62}}},
		{"clipped", func(s *Set) { s.AddRange(1<<63-2, math.MaxUint64); s.Add(math.MaxUint64); s.AddRange(1<<63, 1) }, []Run{{1<<63 - 2, 2}}},
		{"everything", func(s *Set) { s.AddRange(0, math.MaxUint64); s.Remove(7) }, []Run{{0, 7}, {8, 1<<63 - 8}}},
		{"remove everything", func(s *Set) { s.AddRange(3, 4); s.RemoveRange(0, math.MaxUint64) }, nil},
		{"remove beyond", func(s *Set) { s.AddRange(3, 4); s.RemoveRange(math.MaxUint64, math.MaxUint64) }, []Run{{3, 4}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s Set
			tt.do(&s)
			checkSet(t, &s)
			if diff := cmp.Diff(tt.want, ranges(&s)); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetPopFront(t *testing.T) {
	t.Parallel()
	s := NewSet(Run{10, 5}, Run{100, 1e18}, Run{20, 1})
	if diff := cmp.Diff([]Run{{10, 5}, {20, 1}, {100, 4}}, s.AppendFront(nil, 10)); diff != "" {
		t.Errorf("AppendFront (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Run{{10, 3}}, s.PopFront(3)); diff != "" {
		t.Errorf("PopFront(3) (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Run{{13, 2}, {20, 1}, {100, 7}}, s.PopFront(10)); diff != "" {
		t.Errorf("PopFront(10) (-want +got):\n%s", diff)
	}
	if lo, ok := s.Min(); lo != 107 || !ok {
		t.Errorf("Min = %d, %v", lo, ok)
	}
	checkSet(t, s)
	if diff := cmp.Diff([]Run{{107, 1e18 - 7}}, s.PopFront(math.MaxUint64)); diff != "" {
		t.Errorf("PopFront(all) (-want +got):\n%s", diff)
	}
	checkSet(t, s)
	if got := s.PopFront(1); got != nil {
		t.Errorf("PopFront of the empty set = %v", got)
	}
	if _, ok := s.Min(); ok {
		t.Error("Min of the empty set")
	}
	if _, ok := s.Max(); ok {
		t.Error("Max of the empty set")
	}
}

// TestSetModel drives a set and a map through the same operations. The set is
// made of blocks: enough scattered indexes are put in first that splits, joins
// and splices over several blocks happen.
func TestSetModel(t *testing.T) {
	t.Parallel()
	const universe = 6000
	rapid.Check(t, func(t *rapid.T) {
		s, model := new(Set), map[uint64]bool{}
		if rapid.Bool().Draw(t, "scattered") {
			for i := uint64(0); i < universe; i += 2 {
				s.Add(i)
				model[i] = true
			}
		}
		index := rapid.Uint64Range(0, universe-1)
		count := rapid.OneOf(rapid.Uint64Range(0, 5), rapid.Uint64Range(0, universe))
		check := func() {
			if s.Len() != uint64(len(model)) {
				t.Fatalf("Len = %d, model %d", s.Len(), len(model))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { checkSet(t, s); check() },
			"AddRange": func(t *rapid.T) {
				f, c := index.Draw(t, "first"), count.Draw(t, "count")
				s.AddRange(f, c)
				for i := f; i < f+c; i++ {
					model[i] = true
				}
			},
			"RemoveRange": func(t *rapid.T) {
				f, c := index.Draw(t, "first"), count.Draw(t, "count")
				s.RemoveRange(f, c)
				for i := f; i < f+c; i++ {
					delete(model, i)
				}
			},
			"AddRemove": func(t *rapid.T) {
				i := index.Draw(t, "i")
				if s.Contains(i) != model[i] {
					t.Fatalf("Contains(%d) = %v", i, !model[i])
				}
				if s.Remove(i) != model[i] {
					t.Fatalf("Remove(%d) = %v", i, !model[i])
				}
				delete(model, i)
				j := index.Draw(t, "j")
				s.Add(j)
				model[j] = true
			},
			"PopFront": func(t *rapid.T) {
				n := count.Draw(t, "n")
				front := s.AppendFront(nil, n)
				got := s.PopFront(n)
				if diff := cmp.Diff(front, got); diff != "" {
					t.Fatalf("AppendFront and PopFront differ: %s", diff)
				}
				total, last := uint64(0), uint64(0)
				for _, r := range got {
					for i := r.First; i < r.End(); i++ {
						if !model[i] {
							t.Fatalf("popped %d, which was not there", i)
						}
						delete(model, i)
						last = i
						total++
					}
				}
				if total < n && len(model) > 0 || total > n {
					t.Fatalf("popped %d of %d", total, n)
				}
				if lo, ok := s.Min(); ok && total > 0 && lo <= last {
					t.Fatalf("popped %d before %d", last, lo)
				}
			},
			"All": func(t *rapid.T) {
				for i := range s.All() {
					if !model[i] {
						t.Fatalf("All gives %d", i)
					}
				}
			},
			"Codec": func(t *rapid.T) {
				data, _ := s.AppendBinary(nil)
				var b Set
				if err := b.UnmarshalBinary(data); err != nil || !b.Equal(s) {
					t.Fatalf("binary round trip: %v", err)
				}
				p, err := ParsePacked(s.AppendPacked(nil))
				if err != nil || !p.Equal(s) || !s.Clone().Equal(p) {
					t.Fatalf("packed round trip: %v", err)
				}
			},
		})
	})
}

func TestSetAlgebra(t *testing.T) {
	t.Parallel()
	gen := rapid.Custom(func(t *rapid.T) *Set {
		s := new(Set)
		n := rapid.IntRange(0, 1200).Draw(t, "runs")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range n {
			s.AddRange(r.Uint64N(4000), 1+r.Uint64N(3))
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		wantU, wantS, wantI := new(Set), new(Set), new(Set)
		for i := range uint64(4100) {
			x, y := a.Contains(i), b.Contains(i)
			if x || y {
				wantU.Add(i)
			}
			if x && !y {
				wantS.Add(i)
			}
			if x && y {
				wantI.Add(i)
			}
		}
		before := b.Clone()
		for name, c := range map[string]struct {
			op   func(s, o *Set)
			want *Set
		}{"union": {(*Set).Union, wantU}, "subtract": {(*Set).Subtract, wantS}, "intersect": {(*Set).Intersect, wantI}} {
			got := a.Clone()
			c.op(got, b)
			checkSet(t, got)
			if !got.Equal(c.want) {
				t.Fatalf("%s: %s", name, cmp.Diff(c.want.slice(), got.slice()))
			}
			got.AddRange(0, 5000)
			if !b.Equal(before) {
				t.Fatalf("%s changed or shares its argument", name)
			}
		}
	})
	s := NewSet(Run{1, 3})
	s.Union(s)
	s.Intersect(s)
	if s.Len() != 3 {
		t.Errorf("with itself: %v", ranges(s))
	}
	s.Subtract(s)
	if !s.Empty() {
		t.Errorf("minus itself: %v", ranges(s))
	}
}

func TestSetDecodeErrors(t *testing.T) {
	t.Parallel()
	for name, flat := range map[string][]uint64{
		"odd":      {1},
		"zero":     {1, 0},
		"overflow": {math.MaxUint64, 2},
		"beyond":   {1 << 62, 1<<62 + 1},
		"second":   {0, 1, 5, 0},
	} {
		s := NewSet(Run{1000, 1})
		if err := s.AddPacked(flat); err == nil {
			t.Errorf("AddPacked %s: no error", name)
		}
		if s.Len() != 1 {
			t.Errorf("AddPacked %s changed the set: %v", name, ranges(s))
		}
	}
	if s, err := ParsePacked([]uint64{0, 1 << 63}); err != nil || s.Len() != 1<<63 {
		t.Errorf("ParsePacked of everything: %v, %v", s, err)
	}
	for name, data := range map[string][]byte{
		"empty":        {},
		"version":      {2, 0},
		"no count":     {1},
		"count":        {1, 200, 1},
		"zero run":     {1, 1, 0, 0},
		"touching":     {1, 2, 0, 1, 0, 1},
		"padded":       {1, 1, 0x80, 0, 1},
		"rest":         {1, 0, 0},
		"overflow":     append([]byte{1, 1, 1}, bytes.Repeat([]byte{255}, 10)...),
		"beyond 1<<63": {1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		s := NewSet(Run{1000, 1})
		if err := s.UnmarshalBinary(data); err == nil || s.Len() != 1 {
			t.Errorf("UnmarshalBinary %s: %v, set %v", name, err, ranges(s))
		}
	}
}

// TestSetMillion holds the promises for scattered indexes: memory near 16 bytes
// a run after random insertion, and blocks that do not degenerate on removal.
func TestSetMillion(t *testing.T) {
	t.Parallel()
	const n = 100_000
	r := rand.New(rand.NewPCG(1, 2))
	order := r.Perm(n)
	s := new(Set)
	for _, i := range order {
		s.Add(uint64(i) * 3)
	}
	checkSet(t, s)
	if s.Runs() != n || len(s.blocks) > n/(maxBlock/2)+1 {
		t.Errorf("%d runs in %d blocks", s.Runs(), len(s.blocks))
	}
	for _, i := range order[:n-1000] {
		if !s.Remove(uint64(i) * 3) {
			t.Fatalf("%d was not there", i*3)
		}
	}
	checkSet(t, s)
	if len(s.blocks) > 40 {
		t.Errorf("1000 runs left in %d blocks", len(s.blocks))
	}
}

func TestSetAllocs(t *testing.T) {
	s := NewSet(Run{0, 1e18})
	dst := make([]Run, 0, 4)
	for name, f := range map[string]func(){
		"Contains":     func() { s.Contains(77) },
		"PopFrontInto": func() { dst = s.PopFrontInto(dst[:0], 3) },
		"AppendFront":  func() { dst = s.AppendFront(dst[:0], 3) },
		"AddRange":     func() { s.AddRange(5, 1e9) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s on one run: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.PopFront(3) }); n != 1 {
		t.Errorf("PopFront on one run: %v allocations, want the result's alone", n)
	}
}

func FuzzSetUnmarshal(f *testing.F) {
	for _, s := range []*Set{{}, NewSet(Run{0, 1 << 63}), NewSet(Run{1, 1}, Run{5, 100})} {
		data, _ := s.MarshalBinary()
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Set
		if s.UnmarshalBinary(data) != nil {
			return
		}
		checkSet(t, &s)
		again, _ := s.MarshalBinary()
		if !bytes.Equal(data, again) {
			t.Fatalf("%x decodes and encodes to %x", data, again)
		}
	})
}

func FuzzSetPacked(f *testing.F) {
	f.Add([]byte{0, 1, 5, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		flat := make([]uint64, len(data))
		for i, b := range data {
			flat[i] = uint64(b) << (uint(i*7) % 62)
		}
		s, err := ParsePacked(flat)
		if err != nil {
			return
		}
		checkSet(t, s)
		for i := 0; i < len(flat); i += 2 {
			if !s.Contains(flat[i]) || !s.Contains(flat[i]+flat[i+1]-1) {
				t.Fatalf("run %d of %v is missing", i/2, flat)
			}
		}
	})
}

func BenchmarkSet(b *testing.B) {
	const n = 1_000_000
	r := rand.New(rand.NewPCG(3, 4))
	order := r.Perm(n)
	scattered := new(Set)
	for i := range uint64(n) {
		scattered.Add(i * 2)
	}
	b.Run("op=add/order=ascending/runs=1", func(b *testing.B) {
		b.ReportAllocs()
		var s Set
		i := uint64(0)
		for b.Loop() {
			s.Add(i)
			i++
		}
	})
	b.Run("op=add/order=random/runs=1000000", func(b *testing.B) {
		b.ReportAllocs()
		s := new(Set)
		k := 0
		for b.Loop() {
			if k == n {
				s.Reset()
				k = 0
			}
			s.Add(uint64(order[k]) * 2)
			k++
		}
	})
	b.Run("op=addremove/order=random/runs=1000000", func(b *testing.B) {
		b.ReportAllocs()
		s := scattered.Clone()
		k := 0
		for b.Loop() {
			i := uint64(order[k%n]) * 2
			s.Remove(i)
			s.Add(i)
			k++
		}
	})
	b.Run("op=contains/order=random/runs=1000000", func(b *testing.B) {
		b.ReportAllocs()
		k := 0
		for b.Loop() {
			scattered.Contains(uint64(order[k%n]))
			k++
		}
	})
	b.Run("op=popfront/n=1/runs=1000000", func(b *testing.B) {
		b.ReportAllocs()
		s := scattered.Clone()
		dst := make([]Run, 0, 1)
		for b.Loop() {
			if s.Empty() {
				s = scattered.Clone()
			}
			dst = s.PopFrontInto(dst[:0], 1)
		}
	})
	b.Run("op=popfront/n=64/runs=1", func(b *testing.B) {
		b.ReportAllocs()
		s := NewSet(Run{0, 1e18})
		dst := make([]Run, 0, 1)
		for b.Loop() {
			dst = s.PopFrontInto(dst[:0], 64)
		}
	})
}
