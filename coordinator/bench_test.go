// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"runtime"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestHugeArray: 10^8 children cost neither memory nor time of their own.
func TestHugeArray(t *testing.T) {
	s := start(t, Config{})
	jobs := volleyv1.NewJobServiceClient(s.Conn())
	submit(t, s, 1) // what the first submit warms up
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	allocated := func(f func()) uint64 {
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		f()
		runtime.ReadMemStats(&b)
		return b.TotalAlloc - a.TotalAlloc
	}
	const size, most = 100_000_000, 10 << 20
	before := heap()
	var id string
	if n := allocated(func() { id = submit(t, s, size) }); n > most {
		t.Errorf("submit allocates %d bytes", n)
	}
	if n := allocated(func() {
		if _, err := jobs.CancelJob(limit(t), &volleyv1.CancelJobRequest{JobId: id}); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("cancel allocates %d bytes", n)
	}
	if after := heap(); after > before+most {
		t.Errorf("the heap grew by %d bytes", after-before)
	}
	r, err := jobs.DescribeJobs(limit(t), &volleyv1.DescribeJobsRequest{JobIds: []string{id}})
	if err != nil || r.GetJobs()[0].GetJob().GetCounts().GetFailed() != size {
		t.Errorf("job is %v, %v", r, err)
	}
}

// BenchmarkArray submits and cancels arrays, each durable on the disk.
func BenchmarkArray(b *testing.B) {
	for _, size := range []uint64{1, 100_000_000} {
		b.Run(fmt.Sprintf("op=submit/children=%d", size), func(b *testing.B) {
			s := start(b, Config{})
			jobs := volleyv1.NewJobServiceClient(s.Conn())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jobs.SubmitJob(b.Context(), &volleyv1.SubmitJobRequest{Spec: array(size)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("op=submit+cancel/children=%d", size), func(b *testing.B) {
			s := start(b, Config{})
			jobs := volleyv1.NewJobServiceClient(s.Conn())
			b.ReportAllocs()
			for b.Loop() {
				r, err := jobs.SubmitJob(b.Context(), &volleyv1.SubmitJobRequest{Spec: array(size)})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := jobs.CancelJob(b.Context(), &volleyv1.CancelJobRequest{JobId: r.GetJobId()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
