// SPDX-License-Identifier: Apache-2.0

package workertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// Task is one index to run.
type Task struct {
	Job, Index, Lease uint64
	Attempt           uint32
	Spec              *volleyv1.JobSpec
}

// Result is how a task ended. The zero value is success.
type Result struct {
	// Hold: the task goes on until Finish.
	Hold    bool
	Outcome volleyv1.Outcome
	Exit    uint32
	Reason  string
	Metric  *float64
	Output  string
	// DurationUS defaults to 1000.
	DurationUS uint64
}

// Failed is the result of a task that exits with a code.
func Failed(code uint32) Result {
	return Result{Outcome: volleyv1.Outcome_OUTCOME_FAILED, Exit: code}
}

// Options of a Worker. NodeID is required.
type Options struct {
	NodeID string
	// Name defaults to NodeID, Epoch to 1, CPUs to 4.
	Name  string
	Epoch uint64
	CPUs  int64
	// Run is called for each task. Default: all succeed.
	Run func(Task) Result
	// Log answers requests for output, by sending chunks. Default: refused.
	Log func(r *volleyv1.LogRequest, send func(*volleyv1.LogChunk))
	// Lazy: granted tasks wait for Start, as the backlog of a busy worker.
	Lazy bool
	// NowMS is the start time that is reported. Default: 1.
	NowMS int64
}

type lease struct {
	job     uint64
	attempt uint32
	// waiting and running are disjoint.
	waiting, running sharding.Set
}

// Worker is a fake worker.
type Worker struct {
	o Options

	mu      sync.Mutex
	jobs    map[uint64]*volleyv1.WorkerJob
	leases  map[uint64]*lease
	reports []*volleyv1.Report // not acknowledged
	seq     uint64
	runs    map[string]int // by "job:index"
	// session is the last one, ended or not; nil before the first.
	session *session
	trace   []*volleyv1.ConnectResponse
	noted   chan struct{} // closed and replaced with every message
}

type session struct {
	stream grpc.BidiStreamingClient[volleyv1.ConnectRequest, volleyv1.ConnectResponse]
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	// sending lets one message out at a time; not mu, so that a full window
	// does not keep the worker from receiving.
	sending sync.Mutex
}

// New makes a worker that is not connected.
func New(o Options) *Worker {
	if o.Name == "" {
		o.Name = o.NodeID
	}
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	if o.CPUs == 0 {
		o.CPUs = 4
	}
	if o.Run == nil {
		o.Run = func(Task) Result { return Result{} }
	}
	if o.NowMS == 0 {
		o.NowMS = 1
	}
	return &Worker{
		o: o, jobs: map[uint64]*volleyv1.WorkerJob{}, leases: map[uint64]*lease{}, runs: map[string]int{},
		noted: make(chan struct{}),
	}
}

// Hello is what the worker would say now.
func (w *Worker) Hello() *volleyv1.Hello {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hello()
}

func (w *Worker) hello() *volleyv1.Hello {
	h := &volleyv1.Hello{
		NodeId: w.o.NodeID, Name: w.o.Name, Epoch: w.o.Epoch, Version: "test", Platform: "linux/amd64",
		Capacity: &volleyv1.Resources{CpuMilli: w.o.CPUs * 1000, MemoryBytes: 1 << 40}, LastSeq: w.seq,
	}
	held := map[uint64]*volleyv1.HeldLease{}
	of := func(id uint64) *volleyv1.HeldLease {
		if held[id] == nil {
			held[id] = &volleyv1.HeldLease{LeaseId: id}
		}
		return held[id]
	}
	for id, l := range w.leases {
		all := l.waiting.Clone()
		all.Union(&l.running)
		of(id).Unfinished = all.AppendPacked(nil)
		of(id).Running = l.running.AppendPacked(nil)
	}
	finished := map[uint64]*sharding.Set{}
	for _, r := range w.reports {
		for _, lr := range r.GetLeases() {
			if finished[lr.GetLeaseId()] == nil {
				finished[lr.GetLeaseId()] = new(sharding.Set)
			}
			_ = finished[lr.GetLeaseId()].AddPacked(lr.GetFinished()) // written by us
		}
	}
	for id, set := range finished {
		of(id).Finished = set.AppendPacked(nil)
	}
	for _, id := range slices.Sorted(maps.Keys(held)) {
		h.Held = append(h.Held, held[id])
	}
	return h
}

// Connect opens a session and blocks until the coordinator welcomes it. What
// was not acknowledged is repeated.
func (w *Worker) Connect(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := volleyv1.NewWorkerServiceClient(conn).Connect(ctx)
	if err != nil {
		cancel()
		return err
	}
	w.mu.Lock()
	h := w.hello()
	repeat := slices.Clone(w.reports)
	w.mu.Unlock()
	if err := stream.Send(&volleyv1.ConnectRequest{Hello: h}); err != nil {
		_, err = stream.Recv()
		cancel()
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		cancel()
		return err
	}
	if first.GetWelcome() == nil {
		cancel()
		return errors.New("the first message was no welcome")
	}
	s := &session{stream: stream, cancel: cancel, done: make(chan struct{})}
	w.mu.Lock()
	w.session = s
	w.mu.Unlock()
	for _, r := range repeat {
		_ = s.send(&volleyv1.ConnectRequest{Report: r}) // Recv says why
	}
	go w.serve(s, first)
	return nil
}

// send returns io.EOF when the stream has ended; Recv says why.
func (s *session) send(m *volleyv1.ConnectRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.Send(m)
}

func (w *Worker) serve(s *session, m *volleyv1.ConnectResponse) {
	defer close(s.done)
	defer s.cancel()
	var err error
	for err == nil {
		w.handle(s, m)
		m, err = s.stream.Recv()
	}
	s.err = err
}

func (w *Worker) handle(s *session, m *volleyv1.ConnectResponse) {
	w.mu.Lock()
	w.trace = append(w.trace, proto.CloneOf(m))
	close(w.noted)
	w.noted = make(chan struct{})
	w.reports = slices.DeleteFunc(w.reports, func(r *volleyv1.Report) bool { return r.GetSeq() <= m.GetAckedSeq() })
	for _, j := range m.GetJobs() {
		w.jobs[j.GetJob()] = j
	}
	out := map[uint64]*volleyv1.LeaseReport{}
	for _, g := range m.GetGrants() {
		w.grant(g)
	}
	for _, r := range m.GetRevokes() {
		w.revoke(r, out)
	}
	for _, job := range m.GetForgetJobs() {
		delete(w.jobs, job)
	}
	if !w.o.Lazy {
		for id := range w.leases {
			w.start(id, out)
		}
	}
	r := w.report(out)
	w.mu.Unlock()
	if r != nil {
		_ = s.send(&volleyv1.ConnectRequest{Report: r})
	}
	for _, r := range m.GetLogRequests() {
		w.log(s, r)
	}
}

func (w *Worker) log(s *session, r *volleyv1.LogRequest) {
	send := func(c *volleyv1.LogChunk) {
		c.RequestId = r.GetRequestId()
		_ = s.send(&volleyv1.ConnectRequest{Logs: []*volleyv1.LogChunk{c}})
	}
	switch {
	case w.o.Log != nil:
		w.o.Log(r, send)
	case r.GetJob() != 0:
		send(&volleyv1.LogChunk{Error: "this worker keeps no output", End: true})
	}
}

func (w *Worker) grant(g *volleyv1.Grant) {
	l := w.leases[g.GetLeaseId()]
	if l == nil {
		l = &lease{job: g.GetJob(), attempt: g.GetAttempt()}
		w.leases[g.GetLeaseId()] = l
	}
	if err := l.waiting.AddPacked(g.GetRuns()); err != nil {
		panic(fmt.Sprintf("grant of lease %d: %v", g.GetLeaseId(), err)) // a broken coordinator, in a test
	}
}

func (w *Worker) revoke(r *volleyv1.Revoke, out map[uint64]*volleyv1.LeaseReport) {
	l := w.leases[r.GetLeaseId()]
	if l == nil {
		return
	}
	idle, running := l.waiting.Clone(), l.running.Clone()
	if len(r.GetRuns()) > 0 {
		set, err := sharding.ParsePacked(r.GetRuns())
		if err != nil {
			panic(fmt.Sprintf("revoke of lease %d: %v", r.GetLeaseId(), err))
		}
		idle.Intersect(set)
		running.Intersect(set)
	}
	l.waiting.Subtract(idle)
	if r.GetKill() || r.GetDrop() {
		l.running.Subtract(running)
	}
	if !r.GetDrop() {
		lr := reportOf(out, r.GetLeaseId())
		lr.Returned = idle.AppendPacked(lr.Returned)
		if r.GetKill() {
			for i := range running.All() {
				add(lr, i, w.o.NowMS, Result{Outcome: volleyv1.Outcome_OUTCOME_KILLED, Exit: 143})
			}
		}
	}
	w.tidy(r.GetLeaseId())
}

// tidy forgets a lease under which nothing is left.
func (w *Worker) tidy(id uint64) {
	if l := w.leases[id]; l != nil && l.waiting.Empty() && l.running.Empty() {
		delete(w.leases, id)
	}
}

// start runs what waits under a lease.
func (w *Worker) start(id uint64, out map[uint64]*volleyv1.LeaseReport) {
	l := w.leases[id]
	if l == nil || l.waiting.Empty() {
		return
	}
	lr := reportOf(out, id)
	for _, run := range l.waiting.PopFront(l.waiting.Len()) {
		for i := run.First; i < run.End(); i++ {
			w.runs[fmt.Sprintf("%d:%d", l.job, i)]++
			res := w.o.Run(Task{Job: l.job, Index: i, Lease: id, Attempt: l.attempt, Spec: w.jobs[l.job].GetSpec()})
			if res.Hold {
				l.running.Add(i)
				lr.Started = append(lr.Started, i, 1)
				continue
			}
			add(lr, i, w.o.NowMS, res)
		}
	}
	w.tidy(id)
}

func reportOf(out map[uint64]*volleyv1.LeaseReport, id uint64) *volleyv1.LeaseReport {
	if out[id] == nil {
		out[id] = &volleyv1.LeaseReport{LeaseId: id}
	}
	return out[id]
}
