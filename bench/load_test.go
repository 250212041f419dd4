// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/volley-batch/volley/internal/load"
)

// loaded runs a load against a coordinator in this process, so that
// -cpuprofile sees all of it, and fails when a task was lost or run twice.
func loaded(b *testing.B, c load.Config) *load.Report {
	b.Helper()
	c.Dir, c.Version = b.TempDir(), "bench"
	r, err := load.Run(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	if !r.OK() {
		b.Fatalf("%+v", r.Checks)
	}
	return r
}

// BenchmarkScale has simulated workers, each with a stream of its own, run one
// array while others join.
func BenchmarkScale(b *testing.B) {
	for _, bb := range []struct {
		workers int
		tasks   uint64
	}{{100, 1_000_000}, {1000, 1_000_000}, {10_000, 2_000_000}} {
		b.Run(fmt.Sprintf("workers=%d/tasks=%d", bb.workers, bb.tasks), func(b *testing.B) {
			var rate, join, peak float64
			for b.Loop() {
				r := loaded(b, load.Config{Kind: load.Scale, Workers: bb.workers, Tasks: bb.tasks})
				rate = r.Result.TasksPerSecond
				for _, l := range r.Latencies {
					join = l.P99 // the last one is that of joining workers
				}
				peak = float64(r.Processes[0].PeakRSSBytes) / (1 << 20)
			}
			b.ReportMetric(rate, "tasks/s")
			b.ReportMetric(join, "join-p99-ms")
			b.ReportMetric(peak, "RSS-MiB")
		})
	}
}

// BenchmarkFlat shows that the rate does not fall with the size of the array.
// Each child that has ended takes 28 bytes, so the largest is for those who
// ask: VOLLEY_BENCH_CHILDREN=100000000.
func BenchmarkFlat(b *testing.B) {
	sizes := []uint64{100_000, 1_000_000, 10_000_000}
	if text := os.Getenv("VOLLEY_BENCH_CHILDREN"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			b.Fatalf("VOLLEY_BENCH_CHILDREN=%q: %v", text, err)
		}
		sizes = append(sizes, n)
	}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("children=%d/workers=4", size), func(b *testing.B) {
			var rate float64
			for b.Loop() {
				rate = loaded(b, load.Config{Kind: load.Dispatch, Tasks: size}).Result.TasksPerSecond
			}
			b.ReportMetric(rate, "tasks/s")
		})
	}
}
