// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// FuzzNewSpace feeds arbitrary sweeps: an *Error or a space whose points can
// be read, never a panic, in bounded time and memory.
func FuzzNewSpace(f *testing.F) {
	for _, sw := range []*volleyv1.Sweep{
		{},
		sweep(gridSampler, choices("a", 1, "x", true), floats("b", 0, 1, 3), when(ints("c", 0, 9, 2), "a == 1")),
		excluding(sweep(gridSampler, repeats("r", math.MaxInt64), choices("a", 1, 2)), "a == 1 or r < 3"),
		excluding(sweep(gridSampler, logInts2("a", 1, math.MaxInt64, 5), logFloats("b", 5e-324, math.MaxFloat64, 7)), "a % 2 == 0 and b > 1"),
		excluding(sweep(zipSampler, ints("a", math.MinInt64, -1, 1<<60), repeats("b", 8)), "b in [1, 2]"),
		excluding(drawn(sobolSampler, 1<<53, floats("a", -math.MaxFloat64, math.MaxFloat64, 0), logInts2("b", 1, math.MaxInt64, 0)), ""),
		excluding(drawn(randomSampler, 20, floats("a", 0, 1, 0), when(repeats("r", 3), "a > 0.5")), "a > 0.9"),
		excluding(drawn(lhsSampler, 20, floats("a", 0, 1, 0), choices("c", "x", "y")), `c != "x"`),
		excluding(table(listSampler, []string{"a", "b"}, 1, nil, "x", 2.5), "a == nil"),
	} {
		b, err := proto.Marshal(sw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	h := NewHasher(&volleyv1.JobSpec{Run: "x"})
	f.Fuzz(func(t *testing.T, b []byte) {
		sw := &volleyv1.Sweep{}
		if proto.Unmarshal(b, sw) != nil {
			return
		}
		s, err := newSpace(sw, 1<<18)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Path == "" || e.Error() == "" {
				t.Fatalf("error %v (%T)", err, err)
			}
			return
		}
		if s.Len() == 0 || s.Len() > MaxPoints {
			t.Fatalf("%d points", s.Len())
		}
		for _, i := range []uint64{0, 1, s.Len() / 2, s.Len() - 1} {
			if i >= s.Len() {
				continue
			}
			p, err := s.At(i)
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range p.All() {
				if err := checkValue(name, v); err != nil {
					t.Fatal(err)
				}
			}
			again, err := s.At(i)
			if err != nil || again.String() != p.String() || h.Point(again) != h.Point(p) {
				t.Fatalf("point %d is %s and %s, %v", i, p, again, err)
			}
		}
		if _, err := s.At(s.Len()); !errors.Is(err, ErrIndex) {
			t.Fatalf("At(Len) = %v", err)
		}
	})
}

// FuzzExpression feeds expressions to the compiler and its machine.
func FuzzExpression(f *testing.F) {
	for _, src := range []string{
		`n == 8 && x > 0.05`, `s in ["a", "b"] or not b`, `gone ?? 1 > 0`, `n ** x - -n % 3 < 1e300`, `1 < n <= 8`, `s[0] == "x"`, `"é" == s`, `#`, `n | map(#)`, `let a = 1; a`,
	} {
		f.Add(src)
	}
	sc, env := testScope()
	f.Fuzz(func(t *testing.T, src string) {
		list, err := compileExpression("p", src, sc, true)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset > len(src) || e.Error() == "" {
				t.Fatalf("error %v (%T)", err, err)
			}
			return
		}
		for _, e := range list {
			if v := e.eval(env); v.kind != KindBool && v.kind != KindNone {
				t.Fatalf("%s is %v", src, v)
			}
		}
	})
}
