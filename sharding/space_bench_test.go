// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func benchSweep(sampler volleyv1.Sampler, params int) *volleyv1.Sweep {
	sw := &volleyv1.Sweep{Sampler: sampler}
	steps := uint64(0)
	if isSampled(sampler) {
		sw.Points, sw.Seed = 1_000_000, 7
	} else {
		steps = 8
	}
	for i := range params {
		name := fmt.Sprintf("p%d", i)
		switch i % 3 {
		case 0:
			sw.Params = append(sw.Params, logFloats(name, 1e-4, 1e-1, steps))
		case 1:
			sw.Params = append(sw.Params, choices(name, 1, 2, 4, 8, 16, 32, 64, 128))
		default:
			sw.Params = append(sw.Params, ints(name, 0, 7, 1))
		}
	}
	return sw
}

func BenchmarkAt(b *testing.B) {
	for _, sampler := range []volleyv1.Sampler{gridSampler, zipSampler, randomSampler, sobolSampler, lhsSampler} {
		for _, params := range []int{3, 12} {
			for _, exclude := range []string{"", "p1 == 8 and p2 > 3"} {
				b.Run(fmt.Sprintf("sampler=%s/params=%d/exclude=%t", samplerName(sampler), params, exclude != ""), func(b *testing.B) {
					s := mustSpace(b, excluding(benchSweep(sampler, params), exclude))
					var p Point
					var i uint64
					b.ReportAllocs()
					for b.Loop() {
						if err := s.Decode(i, &p); err != nil {
							b.Fatal(err)
						}
						if i += 977; i >= s.Len() {
							i %= s.Len()
						}
					}
				})
			}
		}
	}
}

func BenchmarkNewSpace(b *testing.B) {
	for _, bench := range []struct {
		name string
		sw   *volleyv1.Sweep
	}{
		{"points=1e18/exclude=none", sweep(gridSampler, ints("a", 1, 1e9, 1), ints("b", 1, 1e9, 1))},
		{"points=8e18/combinations=8", excluding(sweep(gridSampler, ints("a", 1, 1e9, 1), ints("b", 1, 1e9, 1), choices("c", 1, 2, 3), choices("d", 1, 2, 3)), "c == 3 and d == 3")},
		{"points=4e6/combinations=4e6", excluding(sweep(gridSampler, ints("a", 1, 2048, 1), ints("b", 1, 2048, 1)), "a == b")},
		{"points=1e6/draws", excluding(drawn(randomSampler, 1e6, floats("a", 0, 1, 0), floats("b", 0, 1, 0)), "a + b > 1.5")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustSpace(b, bench.sw)
			}
		})
	}
}

func BenchmarkIdentity(b *testing.B) {
	for _, params := range []int{3, 12} {
		b.Run(fmt.Sprintf("params=%d", params), func(b *testing.B) {
			s := mustSpace(b, benchSweep(gridSampler, params))
			h := NewHasher(&volleyv1.JobSpec{Command: []string{"train", "{p0}"}})
			p, err := s.At(7)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Point(p)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "identities/s")
		})
	}
}

func BenchmarkTemplate(b *testing.B) {
	s := mustSpace(b, benchSweep(gridSampler, 3))
	p, err := s.At(7)
	if err != nil {
		b.Fatal(err)
	}
	for _, shell := range []bool{false, true} {
		b.Run(fmt.Sprintf("shell=%t", shell), func(b *testing.B) {
			parse := ParseTemplate
			if shell {
				parse = ParseShellTemplate
			}
			t, err := parse("python3 train.py --lr {p0} --depth {p1} --seed '{p2}'")
			if err != nil {
				b.Fatal(err)
			}
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = t.AppendPoint(buf[:0], p, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
