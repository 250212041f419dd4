// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"testing"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// full is a cluster on which every worker runs one task and others wait.
func full(tb tester, workers int, waiting uint64) *cluster {
	c := newCluster(tb, Options{})
	for i := range workers {
		c.node(fmt.Sprintf("n%d", i), 1)
	}
	c.job(uint64(workers)+waiting, nil)
	c.p.Plan(c.st, true, func(e *journalv1.Entry) { c.must(e) })
	return c
}

// TestPlanAllocs: giving one worker its next task costs a few allocations,
// the report and the grant included, and no more when more waits or more
// workers are there. Not parallel: it counts allocations.
func TestPlanAllocs(t *testing.T) {
	const most = 55
	counts := map[string]float64{}
	for _, workers := range []int{10, 1000} {
		for _, waiting := range []uint64{10_000, 100_000_000} {
			c := full(t, workers, waiting)
			emit := func(e *journalv1.Entry) { c.must(e) }
			n := 0
			got := testing.AllocsPerRun(200, func() {
				c.step(n%workers, emit)
				n++
			})
			name := fmt.Sprintf("waiting=%d/workers=%d", waiting, workers)
			t.Logf("%s: %v allocations", name, got)
			if counts[name] = got; got > most {
				t.Errorf("%s: %v allocations, want at most %d", name, got, most)
			}
		}
		a, b := counts[fmt.Sprintf("waiting=10000/workers=%d", workers)], counts[fmt.Sprintf("waiting=100000000/workers=%d", workers)]
		if b > a+2 {
			t.Errorf("%d workers: %v allocations with 10^4 waiting, %v with 10^8", workers, a, b)
		}
	}
}

// tail is the end of an array: half of the workers have much left, the others
// are idle.
func tail(tb tester, workers int) *cluster {
	c := full(tb, workers/2, uint64(workers/2)*1000)
	for num := range workers / 2 {
		// One slot, and all that one could take: as if the tasks had seemed short.
		l := c.st.Lease(c.st.Worker(uint32(num + 1)).Leases()[0])
		runs, attempt := c.st.Job(1).FrontAttempt(1000)
		g := &journalv1.Grant{LeaseId: l.ID, NodeId: c.st.Worker(uint32(num + 1)).NodeID(), Job: 1, Attempt: attempt, Parallel: 1}
		for _, run := range runs {
			g.Runs = append(g.Runs, run.First, run.Count)
		}
		c.must(&journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: g}})
	}
	// A task of 1 s, so that taking back pays.
	w := c.st.Worker(1)
	l := c.st.Lease(w.Leases()[0])
	first, _ := l.Tail(l.Remaining()).Min()
	lr := &volleyv1.LeaseReport{LeaseId: l.ID, Finished: []uint64{first, 1}, DurationUs: []uint64{1_000_000}}
	c.report(w.NodeID(), lr)
	for i := range workers / 2 {
		c.node(fmt.Sprintf("idle%d", i), 1)
	}
	return c
}

// TestTakeBackFair: every idle worker's turn asks the lease that has most left.
func TestTakeBackFair(t *testing.T) {
	t.Parallel()
	const workers = 20
	c := tail(t, workers)
	got := map[uint64]int{}
	c.p.Plan(c.st, true, func(e *journalv1.Entry) {
		c.must(e)
		tb := e.GetTakeBack()
		if tb == nil {
			t.Fatalf("decided %v", e)
		}
		got[tb.GetLeaseId()]++
	})
	// Ten idle workers, ten leases with nearly as much: each gives half once.
	if len(got) != workers/2 {
		t.Errorf("asked leases %v, want each of %d once", got, workers/2)
	}
	if err := c.st.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// BenchmarkTakeBack plans at the tail of an array, where half of the workers
// are idle.
func BenchmarkTakeBack(b *testing.B) {
	for _, workers := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			c := tail(b, workers)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				// Decided, not applied: every iteration finds the same state.
				c.p.Plan(c.st, true, func(*journalv1.Entry) { n++ })
			}
			b.ReportMetric(float64(n)/float64(b.N), "decisions/op")
		})
	}
}
