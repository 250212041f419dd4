// SPDX-License-Identifier: Apache-2.0

package dispatch_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("error is %v, want %s with %q", err, code, text)
	}
}

func TestFirstMessage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	for name, tc := range map[string]struct {
		first *volleyv1.ConnectRequest
		text  string
	}{
		"no hello":       {&volleyv1.ConnectRequest{Heartbeat: true}, "first message must be a hello"},
		"no node id":     {&volleyv1.ConnectRequest{Hello: &volleyv1.Hello{Epoch: 1}}, "node id"},
		"no epoch":       {&volleyv1.ConnectRequest{Hello: &volleyv1.Hello{NodeId: "n"}}, "epoch 0"},
		"malformed held": {&volleyv1.ConnectRequest{Hello: &volleyv1.Hello{NodeId: "n", Epoch: 1, Held: []*volleyv1.HeldLease{{LeaseId: 7, Unfinished: []uint64{1}}}}}, "lease 7"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := volleyv1.NewWorkerServiceClient(c.conn).Connect(c.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(tc.first); err != nil {
				t.Fatal(err)
			}
			_, err = s.Recv()
			wantStatus(t, err, codes.InvalidArgument, tc.text)
		})
	}
}

func TestWelcomeThenSpecOncePerSession(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{WorkerLease: 7 * time.Second})
	first := c.submit(3)
	w := c.worker(workertest.Options{NodeID: "a"})
	c.ended(first)
	again := c.submit(5, func(s *volleyv1.JobSpec) { s.Name = "again" })
	c.ended(again)
	trace := w.Trace()
	wel := trace[0].GetWelcome()
	if wel.GetClusterId() != "test" || wel.GetLeaseTtlMs() != 7000 {
		t.Errorf("welcome is %v", wel)
	}
	specs, known := map[uint64]int{}, map[uint64]bool{}
	for n, m := range trace {
		if n > 0 && m.GetWelcome() != nil {
			t.Errorf("message %d welcomes again", n)
		}
		for _, j := range m.GetJobs() {
			specs[j.GetJob()]++
			known[j.GetJob()] = true
		}
		for _, g := range m.GetGrants() {
			if !known[g.GetJob()] {
				t.Errorf("grant of job %d before its spec", g.GetJob())
			}
		}
	}
	if specs[first] != 1 || specs[again] != 1 {
		t.Errorf("specs were sent %v times", specs)
	}
	// A new session does not know what the old one was told.
	w.Cut()
	c.connect(w)
	third := c.submit(1)
	c.ended(third)
	m := c.message(w, "spec of the third job", func(m *volleyv1.ConnectResponse) bool {
		return len(m.GetJobs()) > 0 && m.GetJobs()[0].GetJob() == third
	})
	if got := m.GetJobs()[0]; got.GetSize() != 1 || got.GetJobId() != "3" || got.GetSpec().GetName() != "work" {
		t.Errorf("spec is %v", got)
	}
}

func TestNewerStreamReplacesOlder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	job := c.submit(4)
	old := c.worker(workertest.Options{NodeID: "a", Run: hold})
	c.until("4 run", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 4 })
	// The same process of the same node connects again without the old stream
	// having broken, and holds nothing.
	w := c.worker(workertest.Options{NodeID: "a"})
	wantStatus(t, old.Ended(c.ctx), codes.Aborted, "connected again")
	j := c.ended(job)
	if j.GetCounts().GetSucceeded() != 4 || j.GetLostAttempts() != 4 {
		t.Errorf("job is %v", j)
	}
	if w.Unacknowledged() > 1 {
		t.Errorf("%d reports wait", w.Unacknowledged())
	}
}

// TestReportOfOldSession has a report overtaken by a Hello: it is refused, and
// counts when it is repeated.
func TestReportOfOldSession(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	job := c.submit(2)
	w := c.worker(workertest.Options{NodeID: "a", Run: hold})
	c.until("2 run", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 2 })
	w.Cut()
	w.Finish(job, 0, workertest.Result{}) // spooled: there is no session
	c.connect(w)
	c.until("the repeated result counts", func(s *state.State) bool { return s.Job(job).Counts().GetSucceeded() == 1 })
	if got := c.job(job); got.GetLostAttempts() != 0 || got.GetCounts().GetRunning() != 1 {
		t.Errorf("job is %v", got)
	}
	// By hand: a report with the number of the session before is refused.
	_, err := c.engine.Do(c.ctx, &journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
		NodeId: "a", Epoch: 1, Session: 1, Report: &volleyv1.Report{Seq: 99, Leases: []*volleyv1.LeaseReport{{LeaseId: 1, Finished: []uint64{1, 1}}}},
	}}})
	if !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a report of session 1 in session 2: %v", err)
	}
	w.Finish(job, 1, workertest.Result{})
	if j := c.ended(job); j.GetCounts().GetSucceeded() != 2 || j.GetFinishedAttempts() != 2 {
		t.Errorf("job is %v", j)
	}
	if n := w.Runs(job, 0) + w.Runs(job, 1); n != 2 {
		t.Errorf("2 indexes were run %d times", n)
	}
}

// TestCoordinatorRestarts while tasks run: none of them is run again.
func TestCoordinatorRestarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	job := c.submit(6)
	w := c.worker(workertest.Options{NodeID: "a", Run: hold})
	c.until("4 run", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 4 })
	c.restart()
	w.Finish(job, 0, workertest.Result{}) // while nobody listens
	c.connect(w)
	for i := uint64(1); i < 6; i++ {
		c.until("it runs", func(s *state.State) bool {
			return s.Job(job).ChildState(s, i) == volleyv1.JobState_JOB_STATE_RUNNING
		})
		w.Finish(job, i, workertest.Result{})
	}
	if j := c.ended(job); j.GetCounts().GetSucceeded() != 6 || j.GetFinishedAttempts() != 6 || j.GetLostAttempts() != 0 {
		t.Errorf("job is %v", j)
	}
	for i := range uint64(6) {
		if n := w.Runs(job, i); n != 1 {
			t.Errorf("index %d was run %d times", i, n)
		}
	}
}

func TestOlderEpochIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w := c.worker(workertest.Options{NodeID: "a", Epoch: 5})
	err := workertest.New(workertest.Options{NodeID: "a", Epoch: 4}).Connect(c.ctx, c.conn)
	wantStatus(t, err, codes.FailedPrecondition, "epoch 4 is older than 5")
	w.Send(&volleyv1.ConnectRequest{Heartbeat: true})
	c.message(w, "the newer process goes on", func(m *volleyv1.ConnectResponse) bool { return m.GetHeartbeat() })
}

func TestInvalidReportEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lr   *volleyv1.LeaseReport
		text string
	}{
		"odd runs":      {&volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{1}}, "come in pairs"},
		"empty run":     {&volleyv1.LeaseReport{LeaseId: 1, Started: []uint64{1, 0}}, "out of range"},
		"overflow":      {&volleyv1.LeaseReport{LeaseId: 1, Returned: []uint64{1 << 63, 1 << 63}}, "out of range"},
		"short column":  {&volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, 2}, ExitCode: []uint32{1}}, "exit_code has 1 elements for 2"},
		"no reason":     {&volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, 1}, Reason: []uint32{2}, Reasons: []string{"x"}}, "there are 1 reasons"},
		"endless":       {&volleyv1.LeaseReport{LeaseId: 1, Finished: []uint64{0, 1 << 40}}, "finished indexes in one report"},
		"other's lease": {&volleyv1.LeaseReport{LeaseId: 1 << 60, Finished: []uint64{0, 1}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, engine.Options{})
			job := c.submit(2)
			w := c.worker(workertest.Options{NodeID: "a", Run: hold})
			c.until("2 run", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 2 })
			w.Send(&volleyv1.ConnectRequest{Report: &volleyv1.Report{Seq: 100, Leases: []*volleyv1.LeaseReport{tc.lr}}})
			if tc.text == "" {
				c.message(w, "acknowledged, because it is only out of date", func(m *volleyv1.ConnectResponse) bool { return m.GetAckedSeq() == 100 })
			} else {
				wantStatus(t, w.Ended(c.ctx), codes.InvalidArgument, tc.text)
			}
			if j := c.job(job); j.GetCounts().GetRunning() != 2 || j.GetFinishedAttempts() != 0 {
				t.Errorf("the report changed the job: %v", j)
			}
		})
	}
}

func TestByeGivesEverythingBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	job := c.submit(8)
	a := c.worker(workertest.Options{NodeID: "a", Lazy: true})
	c.message(a, "a grant", func(m *volleyv1.ConnectResponse) bool { return len(m.GetGrants()) > 0 })
	if err := a.Bye(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, want its plain end", err)
	}
	c.view(func(s *state.State) {
		if got := s.Job(job).Counts(); got.GetRunnable() != 8 {
			t.Errorf("counts after the good-bye are %v", got)
		}
	})
	b := c.worker(workertest.Options{NodeID: "b"})
	if j := c.ended(job); j.GetCounts().GetSucceeded() != 8 || j.GetLostAttempts() != 0 {
		t.Errorf("job is %v", j)
	}
	// The one who left may come back. It still believes to hold what it was
	// granted, and is told that it does not.
	_ = b.Bye()
	held := a.Hello().GetHeld()[0].GetLeaseId()
	c.connect(a)
	c.message(a, "drop the old lease", func(m *volleyv1.ConnectResponse) bool {
		return len(m.GetRevokes()) == 1 && m.GetRevokes()[0].GetDrop() && m.GetRevokes()[0].GetLeaseId() == held
	})
	more := c.submit(1)
	c.message(a, "a grant of the new job", func(m *volleyv1.ConnectResponse) bool {
		return len(m.GetGrants()) == 1 && m.GetGrants()[0].GetJob() == more
	})
	a.Start()
	if j := c.ended(more); j.GetCounts().GetSucceeded() != 1 {
		t.Errorf("job is %v", j)
	}
}

func TestDrainTakesNoNewWork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w := c.worker(workertest.Options{NodeID: "a", Run: hold})
	job := c.submit(10)
	c.until("4 run", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 4 })
	w.Send(&volleyv1.ConnectRequest{Drain: true})
	c.until("it drains", func(s *state.State) bool { return s.WorkerByNode("a").Status == state.NodeDraining })
	for i := range uint64(4) {
		w.Finish(job, i, workertest.Result{})
	}
	c.until("4 ended", func(s *state.State) bool { return s.Job(job).Counts().GetSucceeded() == 4 })
	c.view(func(s *state.State) {
		if got := s.Job(job).Counts(); got.GetRunnable()+got.GetStarting() != 6 || got.GetRunning() != 0 {
			t.Errorf("counts are %v", got)
		}
	})
	// A new process of the node begins anew.
	w.Restart()
	c.connect(w)
	c.until("it works again", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 4 })
}

func TestForgetPurgedJobs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{KeepJobs: 1, KeepAge: -1})
	w := c.worker(workertest.Options{NodeID: "a"})
	first := c.submit(1)
	c.ended(first)
	c.ended(c.submit(1))
	c.message(w, "forget the first", func(m *volleyv1.ConnectResponse) bool {
		return len(m.GetForgetJobs()) == 1 && m.GetForgetJobs()[0] == first
	})
}

// TestOutputKeepsAWorker: a worker that only sends output is alive. Its lease
// is short, and no heartbeat is ever sent.
func TestOutputKeepsAWorker(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	c := newCluster(t, engine.Options{WorkerLease: lease})
	job := c.submit(1)
	w := c.worker(workertest.Options{NodeID: "a", Run: hold})
	c.until("it runs", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 1 })
	silent := c.worker(workertest.Options{NodeID: "silent"})
	// Output for as long as it takes until the other one, which says nothing
	// and connected later, is given up.
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	tick := time.NewTicker(lease / 20)
	defer tick.Stop()
	lost := make(chan error, 1)
	go func() { lost <- silent.Ended(ctx) }()
	for gone := false; !gone; {
		select {
		case err := <-lost:
			wantStatus(t, err, codes.Aborted, "longer than its lease")
			gone = true
		case <-tick.C:
			w.Send(&volleyv1.ConnectRequest{Logs: []*volleyv1.LogChunk{{RequestId: 12345, Data: []byte("x")}}})
		}
	}
	c.view(func(s *state.State) {
		if n := s.WorkerByNode("a"); n.Status != state.NodeReady {
			t.Errorf("the worker that sent output has status %v", n.Status)
		}
	})
	if j := c.job(job); j.GetLostAttempts() != 0 {
		t.Errorf("job is %v", j)
	}
}

func TestCloseEndsOpenStreams(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w := c.worker(workertest.Options{NodeID: "a"})
	c.dispatch.Close()
	wantStatus(t, w.Ended(c.ctx), codes.Unavailable, "stopping")
	wantStatus(t, w.Connect(c.ctx, c.conn), codes.Unavailable, "stopping")
}

// TestLargeSpecs: specs that together are larger than a message travel apart.
func TestLargeSpecs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	big := strings.Repeat("x", 30<<20)
	var jobs []uint64
	for range 3 {
		jobs = append(jobs, c.submit(1, func(s *volleyv1.JobSpec) { s.Run, s.Command = big, nil }))
	}
	w := c.worker(workertest.Options{NodeID: "a"})
	for _, j := range jobs {
		c.ended(j)
	}
	if w.Trace()[0].GetWelcome() == nil {
		t.Error("the first message is no welcome")
	}
}

func TestCancelReachesTheWorker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w := c.worker(workertest.Options{NodeID: "a", Run: hold})
	soft, hard := c.submit(2), uint64(0)
	c.until("2 run", func(s *state.State) bool { return s.Job(soft).Counts().GetRunning() == 2 })
	hard = c.submit(9, func(s *volleyv1.JobSpec) { s.Name = "hard" })
	c.until("2 more run", func(s *state.State) bool { return s.Job(hard).Counts().GetRunning() == 2 })
	c.cancelJob(soft, false)
	c.cancelJob(hard, true)
	if j := c.ended(hard); j.GetCounts().GetFailed() != 9 || j.GetFinishedAttempts() != 2 {
		t.Errorf("terminated: %v", j)
	}
	// Cancelled only: what runs goes on.
	w.Finish(soft, 0, workertest.Result{})
	w.Finish(soft, 1, workertest.Result{})
	if j := c.ended(soft); j.GetCounts().GetSucceeded() != 2 {
		t.Errorf("cancelled: %v", j)
	}
}
