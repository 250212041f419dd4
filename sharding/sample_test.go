// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Known answers of Random123 (kat_vectors, philox2x64 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, k := range []struct{ lo, hi, key, wantLo, wantHi uint64 }{
		{0, 0, 0, 0xca00a0459843d731, 0x66c24222c9a845b5},
		{math.MaxUint64, math.MaxUint64, math.MaxUint64, 0x65b021d60cd8310f, 0x4d02f3222f86df20},
		{0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x0a5e742c2997341c, 0xb0f883d38000de5d},
	} {
		if lo, hi := philox2(k.key, k.lo, k.hi); lo != k.wantLo || hi != k.wantHi {
			t.Errorf("philox(%x, %x, %x) = %x %x, want %x %x", k.key, k.lo, k.hi, lo, hi, k.wantLo, k.wantHi)
		}
	}
}

// The first ten points of dimensions 1 to 3 as Joe and Kuo publish them with
// their generator.
func TestSobolPublished(t *testing.T) {
	t.Parallel()
	want := [][3]float64{
		{0, 0, 0},
		{0.5, 0.5, 0.5},
		{0.75, 0.25, 0.25},
		{0.25, 0.75, 0.75},
		{0.375, 0.375, 0.625},
		{0.875, 0.875, 0.125},
		{0.625, 0.125, 0.875},
		{0.125, 0.625, 0.375},
		{0.1875, 0.3125, 0.9375},
		{0.6875, 0.8125, 0.4375},
	}
	for i, point := range want {
		for d, w := range point {
			if got := float64(sobolTable()[d].at(uint64(i))) / (1 << 63) / 2; got != w {
				t.Errorf("point %d dimension %d = %v, want %v", i, d+1, got, w)
			}
		}
	}
}

// Every dimension needs a primitive polynomial of its own, in the order of
// the table, and odd initial numbers m_k below 2^k: a slip in the table
// breaks one of these or the stratification below.
func TestSobolTable(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(joeKuo), "\n")
	if len(lines)+1 != MaxParams {
		t.Fatalf("%d dimensions, want %d", len(lines)+1, MaxParams)
	}
	var primitive [][2]int // in ascending order, generated
	for s := 1; len(primitive) < len(lines); s++ {
		for a := 0; a < 1<<(s-1) && len(primitive) < len(lines); a++ {
			if isPrimitive(uint64(1<<s|a<<1|1), s) {
				primitive = append(primitive, [2]int{s, a})
			}
		}
	}
	seen := map[string]bool{}
	for i, line := range lines {
		s, a, m := sobolRow(line)
		if want := primitive[i]; s != want[0] || a != want[1] {
			t.Errorf("dimension %d has polynomial %d %d, want %v", i+2, s, a, want)
		}
		if len(m) != s {
			t.Errorf("dimension %d has %d numbers, want %d", i+2, len(m), s)
		}
		for k, v := range m {
			if v%2 == 0 || v >= 1<<(k+1) {
				t.Errorf("dimension %d: m_%d = %d", i+2, k+1, v)
			}
		}
		if seen[line] {
			t.Errorf("row %q twice", line)
		}
		seen[line] = true
	}
}

// isPrimitive reports whether x has order 2^s-1 modulo the polynomial.
func isPrimitive(poly uint64, s int) bool {
	order := uint64(1)<<s - 1
	pow := func(e uint64) uint64 {
		result, base := uint64(1), uint64(2)
		if s == 1 {
			base = 1 // x = 1 modulo x+1
		}
		for ; e > 0; e >>= 1 {
			if e&1 == 1 {
				result = mulMod(result, base, poly, s)
			}
			base = mulMod(base, base, poly, s)
		}
		return result
	}
	if pow(order) != 1 {
		return false
	}
	for q, rest := uint64(2), order; rest > 1; q++ {
		if rest%q != 0 {
			continue
		}
		for rest%q == 0 {
			rest /= q
		}
		if q != order && pow(order/q) == 1 {
			return false
		}
		if q == order && s > 1 && pow(1) == 1 {
			return false
		}
	}
	return true
}

func mulMod(a, b, poly uint64, s int) uint64 {
	var r uint64
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			r ^= a
		}
		a <<= 1
		if a>>s&1 == 1 {
			a ^= poly
		}
	}
	return r
}

// In every dimension the first 2^k points fall one into each of the 2^k
// equal intervals, shifted or not; in the first two together one into each
// elementary box.
func TestSobolStratification(t *testing.T) {
	t.Parallel()
	const k = 10
	for d := range sobolTable() {
		v := &sobolTable()[d]
		for _, shift := range []uint64{0, streamKey(7, "sobol", utoa(uint64(d)))} {
			var seen [1 << k]bool
			for i := range uint64(1 << k) {
				box := (v.at(i) ^ shift) >> (64 - k)
				if seen[box] {
					t.Fatalf("dimension %d: two of the first %d points in interval %d", d+1, 1<<k, box)
				}
				seen[box] = true
			}
		}
	}
	for a := range k + 1 { // boxes 2^-a × 2^-(k-a)
		seen := map[[2]uint64]bool{}
		for i := range uint64(1 << k) {
			seen[[2]uint64{sobolTable()[0].at(i) >> 1 >> (63 - a), sobolTable()[1].at(i) >> 1 >> (63 - (k - a))}] = true
		}
		if len(seen) != 1<<k {
			t.Errorf("boxes %d × %d: %d of %d hit", a, k-a, len(seen), 1<<k)
		}
	}
}

// discrepancy is the squared L2-star discrepancy (Warnock) of the floats of
// a space.
func discrepancy(t *testing.T, s *Space) float64 {
	t.Helper()
	n, d := int(s.Len()), len(s.Names())
	xs := make([][]float64, n)
	for i, p := range s.Points(0) {
		for _, v := range p.All() {
			xs[i] = append(xs[i], v.Float())
		}
	}
	sum1, sum2 := 0.0, 0.0
	for _, x := range xs {
		prod := 1.0
		for _, v := range x {
			prod *= 1 - v*v
		}
		sum1 += prod
		for _, y := range xs {
			prod := 1.0
			for j := range x {
				prod *= 1 - max(x[j], y[j])
			}
			sum2 += prod
		}
	}
	return math.Pow(3, -float64(d)) - math.Pow(2, 1-float64(d))/float64(n)*sum1 + sum2/float64(n)/float64(n)
}

func TestDiscrepancyBelowRandom(t *testing.T) {
	t.Parallel()
	sampled := func(s volleyv1.Sampler) float64 {
		return discrepancy(t, mustSpace(t, drawn(s, 512, floats("a", 0, 1, 0), floats("b", 0, 1, 0), floats("c", 0, 1, 0))))
	}
	random, sobol, lhs := sampled(randomSampler), sampled(sobolSampler), sampled(lhsSampler)
	t.Logf("squared L2-star discrepancy of 512 points in 3 dimensions: random %.2e, lhs %.2e, sobol %.2e", random, lhs, sobol)
	if sobol*10 > random || lhs > random {
		t.Errorf("discrepancy: random %g, lhs %g, sobol %g", random, lhs, sobol)
	}
}

func TestLHSStrata(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 3, 7, 64, 1000} {
		s := mustSpace(t, drawn(lhsSampler, n, floats("a", 0, float64(n), 0), floats("b", 0, float64(n), 0), ints("c", 0, int64(n)-1, 1)))
		for _, name := range s.Names() {
			var strata []int
			for _, p := range s.Points(0) {
				v, _ := p.Get(name)
				strata = append(strata, int(math.Floor(v.Float())))
			}
			slices.Sort(strata)
			for i, k := range strata {
				if i != k {
					t.Fatalf("%d points: %s has strata %v", n, name, strata)
				}
			}
		}
	}
}

func TestPermutation(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 3, 5, 8, 100, 4097} {
		p := newPermutation(n, n*977)
		seen := make([]bool, n)
		for i := range n {
			v := p.at(i)
			if v >= n || seen[v] {
				t.Fatalf("n=%d: %d maps to %d", n, i, v)
			}
			seen[v] = true
		}
	}
	p := newPermutation(MaxSequence, 1)
	for i := range uint64(1000) {
		if v := p.at(MaxSequence - 1 - i); v >= MaxSequence {
			t.Fatalf("%d is out of range", v)
		}
	}
	if p.at(0) == 0 && p.at(1) == 1 {
		t.Error("the permutation does nothing")
	}
}

// Draws must look uniform: chi-squared over 64 cells, and over pairs of
// successive draws.
func TestRandomUniform(t *testing.T) {
	t.Parallel()
	s := mustSpace(t, drawn(randomSampler, 64*1000, ints("a", 0, 63, 1), ints("b", 0, 63, 1)))
	counts := map[string]*[64]float64{"a": {}, "b": {}, "pair": {}, "next": {}}
	last := int64(0)
	for _, p := range s.Points(0) {
		a, _ := p.Get("a")
		b, _ := p.Get("b")
		counts["a"][a.Int()]++
		counts["b"][b.Int()]++
		counts["pair"][a.Int()/8*8+b.Int()/8]++
		counts["next"][last/8*8+a.Int()/8]++
		last = a.Int()
	}
	for name, c := range counts {
		chi := 0.0
		for _, n := range c {
			chi += (n - 1000) * (n - 1000) / 1000
		}
		if chi < 25 || chi > 120 { // 63 degrees of freedom: beyond 1 in 10⁵
			t.Errorf("%s: chi-squared %.1f", name, chi)
		}
	}
}

func TestSampledLogScale(t *testing.T) {
	t.Parallel()
	for _, sampler := range []volleyv1.Sampler{randomSampler, sobolSampler, lhsSampler} {
		s := mustSpace(t, drawn(sampler, 4096, logFloats("x", 1e-4, 1, 0), logInts2("n", 1, 1000, 0), floats("q", 0, 1, 5), logInts2("p", 1, 64, 7)))
		below, small := 0, 0
		ends := map[int64]int{}
		for _, p := range s.Points(0) {
			x, _ := p.Get("x")
			n, _ := p.Get("n")
			q, _ := p.Get("q")
			w, _ := p.Get("p")
			if x.Float() < 1e-4 || x.Float() > 1 || n.Int() < 1 || n.Int() > 1000 {
				t.Fatalf("%v out of range", p)
			}
			if q.Float()*4 != math.Trunc(q.Float()*4) || bits.OnesCount64(uint64(w.Int())) != 1 {
				t.Fatalf("%v is not on its steps", p)
			}
			if x.Float() < 1e-2 {
				below++
			}
			if n.Int() <= 31 {
				small++
			}
			ends[n.Int()]++
		}
		if below < 1900 || below > 2200 {
			t.Errorf("%v: %d of 4096 in the lower half of the log scale", sampler, below)
		}
		if small < 2100 || small > 2500 { // log(31.5/0.5)/log(2001) = 0.545
			t.Errorf("%v: %d of 4096 integers at most 31", sampler, small)
		}
		if ends[1] == 0 {
			t.Errorf("%v: the lower end is never drawn", sampler)
		}
	}
}

func TestSampledExtension(t *testing.T) {
	t.Parallel()
	for _, sampler := range []volleyv1.Sampler{randomSampler, sobolSampler} {
		for _, exclude := range []string{"", `a > 0.6 or n in [1, 2] and c == "x"`} {
			t.Run(fmt.Sprintf("%s exclude=%q", samplerName(sampler), exclude), func(t *testing.T) {
				t.Parallel()
				params := []*volleyv1.Param{floats("a", 0, 1, 0), when(ints("n", 0, 9, 1), "a < 0.5"), choices("c", "x", "y"), repeats("r", 2)}
				short := allPoints(t, mustSpace(t, excluding(drawn(sampler, 100, params...), exclude)))
				long := allPoints(t, mustSpace(t, excluding(drawn(sampler, 150, params...), exclude)))
				if len(short) != 200 || len(long) != 300 {
					t.Fatalf("%d and %d points", len(short), len(long))
				}
				if !slices.Equal(short, long[:len(short)]) {
					t.Error("more points changed earlier ones")
				}
				seed := drawn(sampler, 100, params...)
				seed.Seed = 8
				if slices.Equal(short, allPoints(t, mustSpace(t, excluding(seed, exclude)))) {
					t.Error("the seed changes nothing")
				}
			})
		}
	}
}

func TestRandomAddingAParameterKeepsDraws(t *testing.T) {
	t.Parallel()
	before := mustSpace(t, drawn(randomSampler, 50, floats("a", 0, 1, 0), choices("b", 1, 2, 3)))
	after := mustSpace(t, drawn(randomSampler, 50, choices("new", "u", "v"), choices("b", 1, 2, 3), floats("a", 0, 1, 0)))
	for i, p := range before.Points(0) {
		q, err := after.At(i)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range p.All() {
			if w, _ := q.Get(name); w != v {
				t.Errorf("point %d: %s was %v, is %v", i, name, v, w)
			}
		}
	}
}

// The filter of sampled spaces against the definition.
func TestSampledExcludeBruteForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sampler := rapid.SampledFrom([]volleyv1.Sampler{randomSampler, sobolSampler, lhsSampler}).Draw(t, "sampler")
		points := rapid.Uint64Range(1, 40).Draw(t, "points")
		params := []*volleyv1.Param{ints("a", 0, 9, 1), floats("b", 0, 1, 0), repeats("r", rapid.Uint64Range(1, 3).Draw(t, "r"))}
		limit := rapid.IntRange(1, 9).Draw(t, "limit")
		exclude := fmt.Sprintf("a > %d or a == 0 and r == 1", limit)
		space := func(n uint64, ex string) []Point {
			s, err := NewSpace(excluding(drawn(sampler, n, params...), ex))
			var list []Point
			if sampler == lhsSampler && err != nil && strings.Contains(err.Error(), "the sweep is empty") {
				return list
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range s.Len() {
				p, err := s.At(i)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, p)
			}
			return list
		}
		pool := points
		if sampler != lhsSampler {
			pool = 1000 // surely enough draws
		}
		var want []string
		reps := params[2].GetRepeat()
		all := space(pool, "")
		for draw := range pool {
			for _, p := range all[draw*reps : (draw+1)*reps] {
				a, _ := p.Get("a")
				r, _ := p.Get("r")
				if a.Int() > int64(limit) || a.Int() == 0 && r.Int() == 1 {
					continue
				}
				want = append(want, p.String())
			}
		}
		var got []string
		for _, p := range space(points, exclude) {
			got = append(got, p.String())
		}
		if sampler == lhsSampler {
			if !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			return
		}
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("got %v, want a prefix of %v", got, want)
		}
		draws := map[string]bool{}
		for _, p := range got {
			draws[p[:strings.Index(p, `,"r"`)]] = true
		}
		if uint64(len(draws)) != points {
			t.Fatalf("%d draws pass, want %d", len(draws), points)
		}
	})
}
