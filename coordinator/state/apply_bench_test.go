// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"runtime"
	"testing"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// reporter makes reports of so many results each under one large lease.
type reporter struct {
	tb    testing.TB
	s     *State
	size  uint64
	next  uint64
	seq   uint64
	entry *journalv1.Entry
	lr    *volleyv1.LeaseReport
	rep   *volleyv1.Report
}

// newReporter grants an array as a whole: what is measured is the reports.
func newReporter(tb testing.TB, size uint64, results int) *reporter {
	tb.Helper()
	r := &reporter{tb: tb, s: New(), size: size, lr: &volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, uint64(results)}}}
	for n := range results {
		r.lr.StartMs = append(r.lr.StartMs, int64(n%2))
		r.lr.DurationUs = append(r.lr.DurationUs, uint64(1000+n))
	}
	r.rep = &volleyv1.Report{Leases: []*volleyv1.LeaseReport{r.lr}}
	r.entry = &journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{NodeId: "n", Epoch: 1, Session: 1, Report: r.rep}}}
	for _, e := range []*journalv1.Entry{
		{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: &volleyv1.Hello{
			NodeId: "n", Name: "n", Epoch: 1, Capacity: &volleyv1.Resources{CpuMilli: 64_000},
		}}}},
		{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: size, Array: true, Spec: &volleyv1.JobSpec{Name: "j"}}}},
		{Op: &journalv1.Entry_Grant{Grant: &journalv1.Grant{NodeId: "n", Job: 1, Attempt: 1, Parallel: 64, Runs: []uint64{0, size}}}},
	} {
		if _, _, err := r.s.Apply(e); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

// apply applies the next report; false when the array has ended.
func (r *reporter) apply() bool {
	n := r.lr.Finished[1]
	if r.next+n > r.size {
		return false
	}
	r.seq++
	r.rep.Seq = r.seq
	r.lr.Finished[0] = r.next
	r.next += n
	if _, _, err := r.s.Apply(r.entry); err != nil {
		r.tb.Fatal(err)
	}
	return true
}

// BenchmarkApply is one report, by the number of its results.
func BenchmarkApply(b *testing.B) {
	// Bounds what the results take in memory.
	const size = 1 << 22
	for _, results := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("results=%d", results), func(b *testing.B) {
			r := newReporter(b, size, results)
			b.ReportAllocs()
			for b.Loop() {
				if !r.apply() {
					b.StopTimer()
					r = newReporter(b, size, results)
					runtime.GC()
					b.StartTimer()
					r.apply()
				}
			}
			b.ReportMetric(float64(b.N*results)/b.Elapsed().Seconds(), "results/s")
		})
	}
}

// TestApplyAllocs: a report costs a few allocations, whatever it reports: the
// records of its results are in blocks of 1024, and so there is one block of
// two parts for each of the largest reports, besides the acknowledgement. Not
// parallel: it counts allocations.
func TestApplyAllocs(t *testing.T) {
	for _, tt := range []struct {
		results int
		most    float64
	}{{1, 3}, {64, 3}, {1024, 6}} {
		r := newReporter(t, 1<<20, tt.results)
		r.apply()
		got := testing.AllocsPerRun(500, func() {
			if !r.apply() {
				t.Fatal("the array is too small for the test")
			}
		})
		t.Logf("%d results: %v allocations", tt.results, got)
		if got > tt.most {
			t.Errorf("a report of %d results allocates %v times, want at most %v", tt.results, got, tt.most)
		}
	}
}
