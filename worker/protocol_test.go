// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGrantsMergeAndStartAscending(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(8)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(7, 1, 10, 3)},
	})
	x := g.next()
	// More of the same lease, part of it known, a smaller index, and again what
	// runs.
	// The index that is taken back at once shows that all was handled.
	s.send(&volleyv1.ConnectResponse{
		Grants:  []*volleyv1.Grant{grantOf(7, 1, 5, 1, 10, 4, 90, 1)},
		Revokes: []*volleyv1.Revoke{{LeaseId: 7, Runs: []uint64{90, 1}}},
	})
	l := newLedger(t)
	s.collect(l, true, "return", func() bool { return size(l.returned, 7) == 1 })
	order := []uint64{x.index}
	x.succeed()
	for range 4 {
		x = g.next()
		order = append(order, x.index)
		x.succeed()
	}
	s.collect(l, true, "results", func() bool { return l.finished(7) == 5 })
	want := []uint64{10, 5, 11, 12, 13}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order of starts (-want +got):\n%s", diff)
	}
}

func TestParallelCapacityAndPriority(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: &volleyv1.Resources{CpuMilli: 3000, MemoryBytes: 1000, Gpu: 1}})
	s := c.welcomed()
	big := &volleyv1.JobSpec{Command: []string{"x"}, Resources: &volleyv1.Resources{CpuMilli: 2000, MemoryBytes: 600}}
	m := &volleyv1.ConnectResponse{
		Jobs: []*volleyv1.WorkerJob{jobOf(1, 100, nil), jobOf(2, 100, big)},
		Grants: []*volleyv1.Grant{
			grantOf(1, 2, 0, 10), // at most 2 at once
			{LeaseId: 2, Job: 2, Attempt: 1, Parallel: 5, Runs: []uint64{0, 2}, Priority: 9},
		},
	}
	s.send(m)
	// The large one goes first for its priority; the second large one has no
	// room and keeps what is left of the CPUs from the small ones.
	first := g.next()
	if first.lease != 2 || first.index != 0 {
		t.Fatalf("lease %d index %d started first, want lease 2 index 0", first.lease, first.index)
	}
	l := newLedger(t)
	s.collect(l, true, "start", func() bool { return size(l.started, 2) == 1 })
	if n := len(g.tasks); n != 0 {
		t.Fatalf("%d more tasks run beside a task of 2 CPUs with another one waiting", n)
	}
	first.succeed()
	second := g.next()
	if second.lease != 2 || second.index != 1 {
		t.Fatalf("lease %d index %d started second, want lease 2 index 1", second.lease, second.index)
	}
	third := g.next()
	if third.lease != 1 || third.index != 0 {
		t.Fatalf("lease %d index %d started third, want lease 1 index 0", third.lease, third.index)
	}
	second.succeed()
	fourth := g.next()
	if fourth.lease != 1 || fourth.index != 1 {
		t.Fatalf("lease %d index %d started fourth, want lease 1 index 1", fourth.lease, fourth.index)
	}
	s.collect(l, true, "result", func() bool { return l.finished(2) == 2 })
	if n := len(g.tasks); n != 0 {
		t.Fatalf("%d more tasks run although the lease has 2 in parallel", n)
	}
	// A later grant replaces the number.
	s.send(&volleyv1.ConnectResponse{Grants: []*volleyv1.Grant{grantOf(1, 3, 20, 1)}})
	fifth := g.next()
	if fifth.index != 2 {
		t.Errorf("index %d started, want 2", fifth.index)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(2)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 2, 0, 10)},
	})
	a, b := g.next(), g.next()
	// Unstarted only, running ones among those named.
	s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: 1, Runs: []uint64{0, 4, 8, 50}}}})
	l := newLedger(t)
	s.collect(l, true, "return", func() bool { return size(l.returned, 1) == 4 })
	if diff := cmp.Diff([]uint64{2, 2, 8, 2}, l.returned[1].AppendPacked(nil)); diff != "" {
		t.Errorf("returned (-want +got):\n%s", diff)
	}
	// Kill one that runs: the other goes on.
	s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: 1, Runs: []uint64{1, 1}, Kill: true}}})
	if a.index == 1 {
		a, b = b, a
	}
	<-b.stopped
	s.collect(l, true, "killed", func() bool { return l.finished(1) == 1 })
	if got := l.results[1][1]; got.outcome != volleyv1.Outcome_OUTCOME_KILLED || got.exit != 143 {
		t.Errorf("killed index: %+v", got)
	}
	next := g.next()
	if next.index != 4 {
		t.Errorf("index %d starts next, want 4", next.index)
	}
	// Drop: nothing of it is ever reported.
	s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: 1, Drop: true}}, Grants: []*volleyv1.Grant{grantOf(2, 2, 50, 1)}})
	<-a.stopped
	<-next.stopped
	last := g.next()
	if last.lease != 2 {
		t.Fatalf("lease %d starts after the drop, want 2", last.lease)
	}
	last.succeed()
	s.collect(l, true, "result", func() bool { return l.finished(2) == 1 })
	if n := l.finished(1); n != 1 {
		t.Errorf("%d results of the dropped lease, want the one from before", n)
	}
	// Whole lease with kill, and one that is not known.
	s.send(&volleyv1.ConnectResponse{
		Grants:  []*volleyv1.Grant{grantOf(3, 1, 60, 3)},
		Revokes: []*volleyv1.Revoke{{LeaseId: 99}, {LeaseId: 3, Kill: true}},
	})
	s.collect(l, true, "everything of lease 3", func() bool { return size(l.returned, 3)+uint64(l.finished(3)) == 3 })
}

func TestReturnedIndexStartsOnlyAfterAcknowledgement(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 1, 0, 2)},
	})
	x := g.next()
	s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: 1, Runs: []uint64{1, 1}}}})
	isReturn := func(m *volleyv1.ConnectRequest) bool {
		for _, l := range m.GetReport().GetLeases() {
			if len(l.GetReturned()) > 0 {
				return true
			}
		}
		return false
	}
	m := s.await("return", isReturn)
	// Granted before the acknowledgement: taken for a repetition.
	s.send(&volleyv1.ConnectResponse{Grants: []*volleyv1.Grant{grantOf(1, 1, 1, 1)}})
	// Acknowledged in the same message as the grant: taken.
	s.send(&volleyv1.ConnectResponse{AckedSeq: m.GetReport().GetSeq(), Grants: []*volleyv1.Grant{grantOf(1, 1, 1, 1)}})
	x.succeed()
	y := g.next()
	if y.index != 1 {
		t.Errorf("index %d starts, want 1", y.index)
	}
	y.succeed()
	s.await("results", func(m *volleyv1.ConnectRequest) bool {
		for _, l := range m.GetReport().GetLeases() {
			if slices.Equal(l.GetFinished(), []uint64{0, 2}) || slices.Equal(l.GetFinished(), []uint64{1, 1}) {
				return true
			}
		}
		return false
	})
}

// A hand-back is over with the next Hello, acknowledged or not: the repeated
// report tells of results only, and the acknowledgement of it must not end what
// was granted again meanwhile.
func TestReturnedIndexIsGrantedAgainAfterHello(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 1, 0, 3)},
	})
	x := g.next()
	s.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: 1}}})
	returned := s.await("return", func(m *volleyv1.ConnectRequest) bool {
		for _, l := range m.GetReport().GetLeases() {
			if len(l.GetReturned()) > 0 {
				return true
			}
		}
		return false
	}).GetReport().GetSeq()
	s.end <- status.Error(codes.Unavailable, "gone")
	s = c.next()
	if got := s.hello.GetLastSeq(); got < returned {
		t.Fatalf("last_seq %d, want at least %d", got, returned)
	}
	want := []*volleyv1.HeldLease{{LeaseId: 1, Unfinished: []uint64{0, 1}, Running: []uint64{0, 1}}}
	if diff := cmp.Diff(want, s.hello.GetHeld(), protocmp.Transform()); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	// The grants come before the acknowledgement, and once more after it.
	s.send(&volleyv1.ConnectResponse{
		Welcome: &volleyv1.Welcome{LeaseTtlMs: 30000},
		Grants:  []*volleyv1.Grant{grantOf(1, 1, 1, 1)},
	})
	s.send(&volleyv1.ConnectResponse{AckedSeq: returned, Grants: []*volleyv1.Grant{grantOf(1, 1, 1, 1)}})
	x.succeed()
	y := g.next()
	if y.index != 1 {
		t.Errorf("index %d starts, want 1", y.index)
	}
	y.succeed()
	s.send(&volleyv1.ConnectResponse{Grants: []*volleyv1.Grant{grantOf(2, 1, 50, 1)}})
	if z := g.next(); z.lease != 2 {
		t.Errorf("lease %d index %d starts, want lease 2: the other was granted twice and must run once", z.lease, z.index)
	} else {
		z.succeed()
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(2), Name: "n1", Version: "v0"})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 2, 0, 6)},
	})
	a, b := g.next(), g.next()
	first := s.await("start", func(m *volleyv1.ConnectRequest) bool { return m.GetReport() != nil })
	s.end <- status.Error(codes.Unavailable, "restart")
	a.succeed() // while there is no coordinator
	third := g.next()
	s2 := c.next()
	if s2.hello.GetLastSeq() == 0 {
		t.Error("Hello does not say which reports were made before it")
	}
	held := s2.hello.GetHeld()
	want := &volleyv1.HeldLease{LeaseId: 1, Unfinished: []uint64{1, 5}, Running: []uint64{1, 2}, Finished: []uint64{0, 1}}
	if a.index == 1 {
		want = &volleyv1.HeldLease{LeaseId: 1, Unfinished: []uint64{0, 1, 2, 4}, Running: []uint64{0, 1, 2, 1}, Finished: []uint64{1, 1}}
	}
	if len(held) != 1 {
		t.Fatalf("hello holds %v, want one lease", held)
	}
	if diff := cmp.Diff(want, held[0], protocmp.Transform()); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	if s2.hello.GetNodeId() != s.hello.GetNodeId() || s2.hello.GetEpoch() != s.hello.GetEpoch() || s2.hello.GetName() != "n1" || s2.hello.GetPlatform() == "" {
		t.Errorf("hello changed: %v, was %v", s2.hello, s.hello)
	}
	// Nothing is said before the welcome; then everything, in order.
	s2.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{LeaseTtlMs: 30000}})
	l := newLedger(t)
	again := s2.await("first report", func(m *volleyv1.ConnectRequest) bool { return m.GetReport() != nil })
	if diff := cmp.Diff(first.GetReport(), again.GetReport(), protocmp.Transform()); diff != "" {
		t.Errorf("repeated report (-first +again):\n%s", diff)
	}
	l.add(again.GetReport())
	s2.collect(l, true, "result", func() bool { return l.finished(1) == 1 })
	b.succeed()
	third.succeed()
	for range 3 {
		g.next().succeed()
	}
	s2.collect(l, true, "results", func() bool { return l.finished(1) == 6 })
}

func TestRestartSendsTheSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(1), DataDir: dir})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(5, 1, 0, 3)},
	})
	g.next().succeed()
	g.next().result <- Result{Outcome: volleyv1.Outcome_OUTCOME_FAILED, ExitCode: 3, Reason: "three"}
	l := newLedger(t)
	s.collect(l, false, "results", func() bool { return l.finished(5) == 2 })
	// Dies without a word: what is in the spool is all that stays. The lock is
	// let go as the system would.
	s.end <- status.Error(codes.Unavailable, "gone")
	if _, err := New(Config{Dial: c.dial, Executor: g, DataDir: dir}); err == nil || !strings.Contains(err.Error(), "used by another worker") {
		t.Fatalf("a second worker on the directory: %v", err)
	}
	copyDir := t.TempDir()
	copySpool(t, dir, copyDir)
	r.cancel()

	c2, g2 := newCoordinator(t), newGate(t)
	c2.start(Config{Executor: g2, Capacity: cpus(1), DataDir: copyDir})
	s2 := c2.welcomed()
	if s2.hello.GetNodeId() != s.hello.GetNodeId() {
		t.Errorf("node id %s, was %s", s2.hello.GetNodeId(), s.hello.GetNodeId())
	}
	if s2.hello.GetEpoch() <= s.hello.GetEpoch() {
		t.Errorf("epoch %d, was %d: must grow", s2.hello.GetEpoch(), s.hello.GetEpoch())
	}
	want := []*volleyv1.HeldLease{{LeaseId: 5, Finished: []uint64{0, 2}}}
	if diff := cmp.Diff(want, s2.hello.GetHeld(), protocmp.Transform()); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	l2 := newLedger(t)
	s2.collect(l2, true, "spooled results", func() bool { return l2.finished(5) == 2 })
	if diff := cmp.Diff(l.results, l2.results, cmp.AllowUnexported(rowResult{})); diff != "" {
		t.Errorf("results before and after the restart:\n%s", diff)
	}
	// The lease goes on in the new process: what has ended does not start.
	s2.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(6, 1, 2, 1)},
	})
	x := g2.next()
	if x.index != 2 || x.lease != 6 {
		t.Errorf("lease %d index %d starts, want lease 6 index 2", x.lease, x.index)
	}
	x.succeed()
	s2.collect(l2, true, "result", func() bool { return l2.finished(6) == 1 })
}

func TestLeaveReturnsPreemptsAndSaysBye(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(2)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 2, 0, 6)},
	})
	g.next()
	g.next()
	r.cancel()
	l := newLedger(t)
	s.collect(l, true, "leave", func() bool { return size(l.returned, 1) == 4 && size(l.preempt, 1) == 2 })
	s.await("bye", func(m *volleyv1.ConnectRequest) bool { return m.GetBye() })
	s.end <- nil
	if err := r.wait(); err != nil {
		t.Errorf("run: %v", err)
	}
	if n := len(g.tasks); n != 0 {
		t.Errorf("%d tasks started while leaving", n)
	}
}

func TestDrainFinishesWhatIsHeld(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	r := c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, nil)},
		Grants: []*volleyv1.Grant{grantOf(1, 1, 0, 2)},
	})
	x := g.next()
	drained := make(chan error, 1)
	go func() { drained <- r.agent.Drain(context.Background()) }()
	s.await("drain", func(m *volleyv1.ConnectRequest) bool { return m.GetDrain() })
	// Said again on a new stream.
	s.end <- status.Error(codes.Unavailable, "restart")
	s = c.welcomed()
	l := newLedger(t)
	s.await("drain", func(m *volleyv1.ConnectRequest) bool {
		l.add(m.GetReport())
		return m.GetDrain()
	})
	x.succeed()
	g.next().succeed()
	select {
	case err := <-drained:
		t.Fatalf("drained before the results were acknowledged: %v", err)
	default:
	}
	s.collect(l, true, "results", func() bool { return l.finished(1) == 2 })
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestRefusedWorkerStops(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.InvalidArgument} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			c := newCoordinator(t)
			r := c.start(Config{Executor: newGate(t)})
			c.next().end <- status.Error(code, "epoch 3 is smaller than 4")
			err := r.wait()
			if status.Code(err) != code || !strings.Contains(err.Error(), "epoch 3") {
				t.Errorf("run: %v, want the refusal", err)
			}
		})
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	c.start(Config{Executor: newGate(t)})
	s := c.next()
	s.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{LeaseTtlMs: 30}})
	for range 3 {
		s.await("heartbeat", func(m *volleyv1.ConnectRequest) bool { return m.GetHeartbeat() })
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	spec := &volleyv1.JobSpec{Command: []string{"x"}, Metric: &volleyv1.Metric{Name: "loss"}}
	s.send(&volleyv1.ConnectResponse{
		Jobs:   []*volleyv1.WorkerJob{jobOf(1, 100, spec)},
		Grants: []*volleyv1.Grant{grantOf(1, 1, 0, 4)},
	})
	l := newLedger(t)
	g.next().succeed()
	g.next().result <- Result{HasMetric: true, Metric: 0.5, Output: []byte(`{"loss":0.5}`)}
	g.next().result <- Result{Outcome: volleyv1.Outcome_OUTCOME_TIMED_OUT, ExitCode: 137, Reason: "late"}
	g.next().succeed()
	s.collect(l, true, "results", func() bool { return l.finished(1) == 4 })
	rows := l.results[1]
	if !math.IsNaN(rows[0].metric) || rows[0].columns&1 == 0 || !math.IsNaN(rows[3].metric) {
		t.Errorf("metric of tasks that reported none: %v, %v; want NaN", rows[0], rows[3])
	}
	if rows[1].metric != 0.5 || rows[1].output != `{"loss":0.5}` || rows[0].output != "" || rows[2].output != "" {
		t.Errorf("metric and output: %+v", rows)
	}
	if rows[2].outcome != volleyv1.Outcome_OUTCOME_TIMED_OUT || rows[2].exit != 137 || rows[2].reason != "late" || rows[3].reason != "" {
		t.Errorf("failure: %+v", rows[2])
	}
	for i, r := range rows {
		if r.start < 1_600_000_000_000 {
			t.Errorf("index %d started at %d", i, r.start)
		}
	}
}

func TestGrantsThatCannotRunAreHandedBack(t *testing.T) {
	t.Parallel()
	c, g := newCoordinator(t), newGate(t)
	c.start(Config{Executor: g, Capacity: cpus(1)})
	s := c.welcomed()
	huge := &volleyv1.JobSpec{Command: []string{"x"}, Resources: &volleyv1.Resources{CpuMilli: 64000}}
	s.send(&volleyv1.ConnectResponse{
		Jobs: []*volleyv1.WorkerJob{jobOf(1, 9, huge)},
		Grants: []*volleyv1.Grant{
			grantOf(1, 1, 0, 3),
			{LeaseId: 2, Job: 77, Attempt: 1, Parallel: 1, Runs: []uint64{4, 1}},
			{LeaseId: 3, Job: 1, Attempt: 1, Parallel: 1, Runs: []uint64{4}}, // malformed
			{LeaseId: 0, Job: 1, Attempt: 1, Parallel: 1, Runs: []uint64{4, 1}},
		},
	})
	l := newLedger(t)
	s.collect(l, true, "returns", func() bool { return size(l.returned, 1) == 3 && size(l.returned, 2) == 1 })
}
