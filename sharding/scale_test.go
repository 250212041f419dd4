// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestDeterministicMath(t *testing.T) {
	t.Parallel()
	within := func(got, want float64, ulps float64) bool {
		return math.Abs(got-want) <= ulps*(math.Nextafter(math.Abs(want), math.Inf(1))-math.Abs(want))
	}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-300, math.MaxFloat64).Draw(t, "x")
		if got, want := logDet(x), math.Log(x); !within(got, want, 2) {
			t.Fatalf("log(%v) = %v, want %v", x, got, want)
		}
		y := rapid.Float64Range(-700, 700).Draw(t, "y")
		if got, want := expDet(y), math.Exp(y); !within(got, want, 3) {
			t.Fatalf("exp(%v) = %v, want %v", y, got, want)
		}
		b, e := rapid.Float64Range(1e-3, 1e3).Draw(t, "b"), rapid.Float64Range(-9, 9).Draw(t, "e")
		if got, ok := powDet(b, e); !ok || math.Abs(got/math.Pow(b, e)-1) > 1e-13 {
			t.Fatalf("%v^%v = %v, want %v", b, e, got, math.Pow(b, e))
		}
	})
	// math.Log of amd64 is wrong for subnormal numbers.
	if got := logDet(5e-324); math.Abs(got+744.4400719213812) > 1e-12 {
		t.Errorf("log of the least number = %v", got)
	}
	for _, tt := range []struct{ x, want float64 }{{0, 1}, {1000, math.Inf(1)}, {-1000, 0}} {
		if got := expDet(tt.x); got != tt.want {
			t.Errorf("exp(%v) = %v", tt.x, got)
		}
	}
}

// Bits that must be the same on every architecture.
func TestScaleGolden(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		got  float64
		want uint64
	}{
		{logDet(10), 0x40026bb1bbb55516},
		{logDet(1e-4), 0xc0226bb1bbb55516},
		{expDet(1), 0x4005bf0a8b14576a},
		{expDet(-9.2), 0x3f1a7ca3b4bbd164},
	} {
		if bits := math.Float64bits(tt.got); bits != tt.want {
			t.Errorf("%v has bits %#x, want %#x", tt.got, bits, tt.want)
		}
	}
}

func TestRounding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want float64 }{
		{roundSignificant(0.0010000000000000002), 0.001},
		{roundSignificant(9.9999999999999e-5), 1e-4},
		{roundSignificant(123456789.00000001), 123456789},
		{roundSignificant(1.0000000000000002e-200), 1e-200},
		{roundSignificant(9.999999999999999e20), 1e21},
		{roundDecimals(0.30000000000000004, 14), 0.3},
		{roundDecimals(1.0000000000000002e-30, 45), 1e-30},
		{roundDecimals(12345, -3), 12345},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
}

// Float axes stay inside their bounds, ascend strictly and end on the
// bounds.
func TestFloatAxisAscends(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Float64Range(-1e12, 1e12).Draw(t, "lo")
		hi := lo + rapid.Float64Range(1e-9, 1e13).Draw(t, "width")
		steps := rapid.Uint64Range(2, 200).Draw(t, "steps")
		sw := sweep(gridSampler, floats("x", lo, hi, steps))
		if rapid.Bool().Draw(t, "log") {
			lo, hi = math.Abs(lo)+1e-6, math.Abs(lo)+math.Abs(hi)+1e-5
			sw = sweep(gridSampler, logFloats("x", lo, hi, steps))
		}
		s, err := NewSpace(sw)
		if err != nil {
			t.Skip(err)
		}
		last := math.Inf(-1)
		for i, p := range s.Points(0) {
			v, _ := p.Get("x")
			if v.Float() <= last || v.Float() < lo || v.Float() > hi {
				t.Fatalf("value %d of [%v, %v] in %d is %v after %v", i, lo, hi, steps, v, last)
			}
			last = v.Float()
		}
		if first, _ := s.At(0); first.values[0].Float() != lo || last != hi {
			t.Fatalf("ends are %v and %v, want %v and %v", first, last, lo, hi)
		}
	})
}
