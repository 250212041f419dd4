// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestPlanProperties: whatever has happened, a plan ends, decides nothing that
// the state refuses (a refusal fails in plan, capacity and concurrency with it),
// and leaves no task waiting beside a node that has room for it, but for the
// node that is kept for the first class without room.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, Options{MaxLease: uint64(rapid.SampledFrom([]int{1, 3, 1 << 16}).Draw(t, "max lease"))})
		nodes := rapid.IntRange(1, 4).Draw(t, "nodes")
		names := []string{"a", "b", "c", "d"}[:nodes]
		for _, n := range names {
			c.node(n, int64(rapid.IntRange(1, 6).Draw(t, "cpu")))
		}
		jobs := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				jobs = c.job(uint64(rapid.IntRange(1, 30).Draw(t, "size")), &volleyv1.JobSpec{
					Priority:    int32(rapid.IntRange(0, 2).Draw(t, "priority")),
					Concurrency: uint64(rapid.IntRange(0, 3).Draw(t, "concurrency")),
					Resources:   &volleyv1.Resources{CpuMilli: int64(rapid.SampledFrom([]int{500, 1000, 2000, 4000}).Draw(t, "need"))},
					Retry:       &volleyv1.Retry{Attempts: 3},
				})
			case 2, 3, 4:
				n := rapid.SampledFrom(names).Draw(t, "node")
				w := c.st.WorkerByNode(n)
				if len(w.Leases()) == 0 {
					continue
				}
				l := c.st.Lease(rapid.SampledFrom(w.Leases()).Draw(t, "lease"))
				lr := &volleyv1.LeaseReport{LeaseId: l.ID}
				for i := range c.st.Job(l.Job).Size {
					if l.Holds(i) && rapid.Bool().Draw(t, "ends") {
						lr.Finished = append(lr.Finished, i, 1)
						lr.DurationUs = append(lr.DurationUs, uint64(rapid.SampledFrom([]int{1, 10_000, 1_000_000}).Draw(t, "us")))
						lr.Outcome = append(lr.Outcome, uint32(rapid.IntRange(0, 1).Draw(t, "outcome")))
					}
				}
				c.report(n, lr)
			case 5:
				if jobs > 0 {
					c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: rapid.Uint64Range(1, jobs).Draw(t, "job")}}})
				}
			default:
				n := rapid.SampledFrom(names).Draw(t, "node")
				c.must(&journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: n, Epoch: 1}}})
				c.node(n, int64(rapid.IntRange(1, 6).Draw(t, "cpu")))
			}
			t.Log(c.plan(rapid.IntRange(0, 4).Draw(t, "full") == 0), c.p.held, c.p.heldFor)
			conserved(t, c)
		}
		c.plan(true)
		for n, line := range c.plan(true) {
			t.Fatalf("a second plan decides more: %d: %s", n, line)
		}
	})
}

func (c *cluster) class(j *state.Job) state.ClassKey {
	return state.ClassKey{Priority: j.Spec.GetPriority(), Queue: j.Spec.GetQueue(), Shape: j.Shape}
}

func conserved(t *rapid.T, c *cluster) {
	for _, id := range c.st.JobIDs() {
		j := c.st.Job(id)
		if j.Ready() == 0 || j.Room() == 0 {
			continue
		}
		for _, w := range c.st.Workers() {
			kept := w.Num == c.p.held && c.class(j) != c.p.heldFor
			if w.Status == state.NodeReady && w.Free().Fits(j.Shape) > 0 && !kept {
				t.Fatalf("job %d has %d tasks ready and room for %d; worker %s has room for %d", id, j.Ready(), j.Room(), w.Name(), w.Free().Fits(j.Shape))
			}
		}
	}
}
