// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func TestTally(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		size                   uint64
		runs                   []uint64
		missing, twice, beyond uint64
	}{
		{"nothing", 100, nil, 100, 0, 0},
		{"all at once", 200, []uint64{0, 200}, 0, 0, 0},
		{"a word's edges", 128, []uint64{63, 2, 0, 63, 65, 63}, 0, 0, 0},
		{"one twice", 70, []uint64{0, 70, 69, 1}, 0, 1, 0},
		{"overlap", 300, []uint64{0, 150, 100, 200}, 0, 50, 0},
		{"beyond", 10, []uint64{0, 10, 10, 1}, 0, 0, 1},
		{"far beyond", 10, []uint64{9, ^uint64(0)}, 10, 0, ^uint64(0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			y := newTally(tt.size)
			for n := 0; n < len(tt.runs); n += 2 {
				y.mark(tt.runs[n], tt.runs[n+1])
			}
			if y.missing() != tt.missing || y.twice.Load() != tt.twice || y.beyond.Load() != tt.beyond {
				t.Errorf("missing %d, twice %d, beyond %d, want %d, %d, %d", y.missing(), y.twice.Load(), y.beyond.Load(), tt.missing, tt.twice, tt.beyond)
			}
		})
	}
}

// TestTallyConcurrent: every index goes to two of four goroutines, in runs of
// random length.
func TestTallyConcurrent(t *testing.T) {
	t.Parallel()
	const size = 10_000
	y := newTally(size)
	var wg sync.WaitGroup
	for g := range uint64(2) {
		for half := range uint64(2) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(g, half))
				for i, end := half*size/2, (half+1)*size/2; i < end; {
					n := min(1+r.Uint64N(100), end-i)
					y.mark(i, n)
					i += n
				}
			})
		}
	}
	wg.Wait()
	if y.missing() != 0 || y.twice.Load() != size {
		t.Errorf("missing %d, twice %d, want 0, %d", y.missing(), y.twice.Load(), size)
	}
}
