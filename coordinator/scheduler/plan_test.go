// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// cluster is a state with a scheduler, and what the scheduler has decided.
type cluster struct {
	tb   tester
	st   *state.State
	p    *Scheduler
	seqs map[string]uint64
	log  []string
}

func newCluster(tb tester, o Options) *cluster {
	return &cluster{tb: tb, st: state.New(), p: New(o), seqs: map[string]uint64{}}
}

func (c *cluster) apply(e *journalv1.Entry) (state.Result, error) {
	r, _, err := c.st.Apply(e)
	return r, err
}

func (c *cluster) must(e *journalv1.Entry) state.Result {
	c.tb.Helper()
	r, err := c.apply(e)
	if err != nil {
		c.tb.Fatal(err)
	}
	return r
}

func (c *cluster) node(name string, cpu int64) {
	c.tb.Helper()
	c.must(&journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: &volleyv1.Hello{
		NodeId: name, Name: name, Epoch: 1, Capacity: &volleyv1.Resources{CpuMilli: cpu * 1000, MemoryBytes: 1 << 34},
	}}}})
}

// job submits an array; spec may be nil.
func (c *cluster) job(size uint64, spec *volleyv1.JobSpec) uint64 {
	c.tb.Helper()
	if spec == nil {
		spec = &volleyv1.JobSpec{}
	}
	spec.Name = "j"
	return c.must(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: size, Array: true, Spec: spec}}}).Job
}

func cpus2(n int64) *volleyv1.JobSpec {
	return &volleyv1.JobSpec{Resources: &volleyv1.Resources{CpuMilli: n * 1000}}
}

// report tells of the end of n children from first on, each of the given
// duration; start names those that run.
func (c *cluster) report(node string, lr *volleyv1.LeaseReport) {
	c.tb.Helper()
	c.seqs[node]++
	c.must(&journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
		NodeId: node, Epoch: 1, Session: c.st.WorkerByNode(node).Session,
		Report: &volleyv1.Report{Seq: c.seqs[node], Leases: []*volleyv1.LeaseReport{lr}},
	}}})
}

func (c *cluster) finish(node string, lease, first, n uint64, d time.Duration) {
	c.tb.Helper()
	lr := &volleyv1.LeaseReport{LeaseId: lease, Finished: []uint64{first, n}}
	for range n {
		lr.DurationUs = append(lr.DurationUs, uint64(d.Microseconds()))
	}
	c.report(node, lr)
}

// plan plans and returns what was decided, a line each.
func (c *cluster) plan(all bool) []string {
	c.tb.Helper()
	c.log = nil
	c.p.Plan(c.st, all, func(e *journalv1.Entry) {
		if len(c.log) > 100_000 {
			c.tb.Fatal("the plan does not end")
		}
		r, err := c.apply(e)
		if err != nil {
			c.tb.Fatalf("the scheduler decided what is refused: %v", err)
		}
		switch op := e.GetOp().(type) {
		case *journalv1.Entry_Grant:
			g := op.Grant
			c.log = append(c.log, fmt.Sprintf("%s: job %d attempt %d lease %d parallel %d %v", g.GetNodeId(), g.GetJob(), g.GetAttempt(), r.Lease, g.GetParallel(), g.GetRuns()))
		case *journalv1.Entry_TakeBack:
			c.log = append(c.log, fmt.Sprintf("take back: lease %d %v", op.TakeBack.GetLeaseId(), op.TakeBack.GetRuns()))
		}
		if err := c.st.CheckInvariants(); err != nil {
			c.tb.Fatal(err)
		}
	})
	return c.log
}

func (c *cluster) want(all bool, lines ...string) {
	c.tb.Helper()
	if d := cmp.Diff(lines, c.plan(all)); d != "" {
		c.tb.Errorf("(-want +got)\n%s", d)
	}
}

func TestPlanOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.job(2, nil)
	c.job(2, nil)
	high := &volleyv1.JobSpec{Priority: 5}
	c.job(1, high)
	c.node("a", 4)
	// The higher priority, then the older, then the younger.
	c.want(false,
		"a: job 3 attempt 1 lease 1 parallel 1 [0 1]",
		"a: job 1 attempt 1 lease 2 parallel 2 [0 2]",
		"a: job 2 attempt 1 lease 3 parallel 1 [0 1]",
	)
	c.want(false)
	c.finish("a", 2, 0, 1, time.Second)
	c.want(false, "a: job 2 attempt 1 lease 3 parallel 2 [1 1]")
}

func TestPlanConcurrency(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 2)
	c.node("b", 8)
	c.job(10, &volleyv1.JobSpec{Concurrency: 3})
	c.want(false,
		"a: job 1 attempt 1 lease 1 parallel 2 [0 2]",
		"b: job 1 attempt 1 lease 2 parallel 1 [2 1]",
	)
	c.finish("b", 2, 2, 1, time.Second)
	c.want(false, "b: job 1 attempt 1 lease 3 parallel 1 [3 1]")
}

// TestPlanLeaseSize: short tasks make large leases, long ones small ones, and
// at the end all are small.
func TestPlanLeaseSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mean time.Duration
		size uint64
		want uint64
	}{
		{time.Second, 10_000, 2},            // longer than the target: what runs
		{20 * time.Millisecond, 10_000, 20}, // 200 ms / 20 ms for each slot
		{time.Microsecond, 1_000_000, 65536},
		{time.Microsecond, 1000, 498}, // half of what is left of one worker
	} {
		t.Run(fmt.Sprint(tt.mean, tt.size), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, Options{})
			c.node("a", 2)
			c.job(tt.size, nil)
			c.plan(false)
			c.finish("a", 1, 0, 2, tt.mean)
			c.plan(false)
			l := c.st.Lease(c.st.Job(1).Leases()[0])
			if got := l.Remaining(); got < tt.want || got > tt.want+2 {
				t.Errorf("a lease of %d tasks, want %d", got, tt.want)
			}
			if l.Slots() != 2 {
				t.Errorf("%d slots, want 2", l.Slots())
			}
		})
	}
}

// TestPlanTopUp: a lease is added to when half of its backlog is used, not
// before.
func TestPlanTopUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 1)
	c.job(1000, nil)
	c.plan(false)
	c.finish("a", 1, 0, 1, 10*time.Millisecond)
	c.want(false, "a: job 1 attempt 1 lease 2 parallel 1 [1 20]")
	c.finish("a", 2, 1, 5, 10*time.Millisecond)
	c.want(false)
	c.finish("a", 2, 6, 6, 10*time.Millisecond)
	c.want(false, "a: job 1 attempt 1 lease 2 parallel 1 [21 11]")
}

// TestPlanRetry: a later attempt is a lease of its own, and two attempts do not
// share one.
func TestPlanRetry(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 4)
	c.job(4, &volleyv1.JobSpec{Retry: &volleyv1.Retry{Attempts: 3}})
	c.plan(false)
	c.report("a", &volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{1, 2}, Outcome: []uint32{1, 1}, ExitCode: []uint32{1, 1}})
	c.want(false, "a: job 1 attempt 2 lease 2 parallel 2 [1 2]")
	c.report("a", &volleyv1.LeaseReport{LeaseId: 2, Finished: []uint64{2, 1}, Outcome: []uint32{1}, ExitCode: []uint32{1}})
	c.want(false, "a: job 1 attempt 3 lease 3 parallel 1 [2 1]")
}

// TestPlanBarrier: a task that needs a whole node is not passed over for ever.
func TestPlanBarrier(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 4)
	c.job(100, nil)
	c.want(false, "a: job 1 attempt 1 lease 1 parallel 4 [0 4]")
	c.job(1, cpus2(4))
	c.job(100, nil)
	// The small ones are older and go on; at 100 ms a task they are topped up
	// The older small job goes on; the younger one must not pass the large one.
	for i := range uint64(4) {
		c.finish("a", 1, i, 1, time.Second)
		for _, line := range c.plan(false) {
			if strings.Contains(line, "job 3") {
				t.Errorf("a younger small job passes the large one: %s", line)
			}
		}
	}
	c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1}}})
	for _, id := range append([]uint64(nil), c.st.Job(1).Leases()...) {
		c.report("a", &volleyv1.LeaseReport{LeaseId: id, Finished: []uint64{0, 100}})
	}
	c.want(false, "a: job 2 attempt 1 lease 2 parallel 1 [0 1]")
}

// TestPlanHeldIsReleased: the worker that was kept for a class goes to those
// behind as soon as the class has no need of it, not at the next full look.
func TestPlanHeldIsReleased(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 4)
	c.job(1, cpus2(3))
	c.job(1, cpus2(4))
	c.job(4, nil)
	c.want(false, "a: job 1 attempt 1 lease 1 parallel 1 [0 1]")
	c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 2}}})
	c.want(false, "a: job 3 attempt 1 lease 2 parallel 1 [0 1]")
}

// TestPlanTakeBack: at the end an idle worker gets from the backlog of others.
func TestPlanTakeBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	c.node("a", 1)
	c.job(40, nil)
	c.plan(false)
	c.finish("a", 1, 0, 1, 10*time.Millisecond)
	c.plan(false)
	for c.st.Job(1).Ready() > 0 { // one worker drains the job into its lease
		l := c.st.Lease(c.st.Job(1).Leases()[0])
		first := 40 - c.st.Job(1).Ready() - l.Remaining()
		c.finish("a", l.ID, first, l.Remaining(), 10*time.Millisecond)
		c.plan(false)
	}
	l := c.st.Lease(c.st.Job(1).Leases()[0])
	if l.Remaining() > 1 {
		t.Fatalf("guided self-scheduling leaves %d at the end", l.Remaining())
	}
	// A backlog that has turned out to be slow.
	c = newCluster(t, Options{})
	c.node("a", 1)
	c.job(21, nil)
	c.plan(false)
	c.finish("a", 1, 0, 1, time.Microsecond)
	c.plan(false)
	l = c.st.Lease(c.st.Job(1).Leases()[0])
	have := l.Remaining()
	if have < 8 {
		t.Fatalf("a backlog of %d", have)
	}
	c.finish("a", l.ID, 1, 1, time.Minute)
	c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1, Index: new(uint64(20))}}})
	for i := range uint64(20) {
		c.must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1, Index: new(have + 1 + i%(20-have))}}})
	}
	c.node("b", 1)
	got := c.plan(true)
	if len(got) != 1 || !strings.HasPrefix(got[0], "take back: lease") {
		t.Fatalf("decided %v, want one take-back", got)
	}
	c.want(false) // asked once
}

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}
