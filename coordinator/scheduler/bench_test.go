// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"testing"
	"time"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// BenchmarkPlan is one result coming in and one task going out, on a cluster
// that is full. The cost must not grow with what waits.
func BenchmarkPlan(b *testing.B) {
	for _, workers := range []int{10, 1000, 10_000} {
		for _, waiting := range []uint64{10, 10_000, 1_000_000, 100_000_000} {
			b.Run(fmt.Sprintf("waiting=%d/workers=%d", waiting, workers), func(b *testing.B) {
				c := newCluster(b, Options{})
				for i := range workers {
					c.node(fmt.Sprintf("n%d", i), 1)
				}
				// Larger than the benchmark is long.
				c.job(uint64(workers)+max(waiting, 50_000_000), nil)
				emit := func(e *journalv1.Entry) { c.must(e) }
				c.p.Plan(c.st, true, emit)
				if waiting < 50_000_000 {
					// Cancel all but what should wait.
					c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1}}})
					c.job(waiting, nil)
					c.p.Plan(c.st, false, emit)
				}
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					c.step(n%workers, emit)
					n++
				}
			})
		}
	}
}

// step ends the task that runs on a worker and plans.
func (c *cluster) step(worker int, emit Emit) {
	w := c.st.Worker(uint32(worker + 1))
	if len(w.Leases()) > 0 {
		l := c.st.Lease(w.Leases()[0])
		first, _ := l.Tail(1).Min()
		c.finish(w.NodeID(), l.ID, first, 1, time.Second)
	}
	c.p.Plan(c.st, false, emit)
	if c.st.Job(c.st.LastJob()).Terminal() {
		c.job(c.st.Job(c.st.LastJob()).Size, &volleyv1.JobSpec{})
	}
}
