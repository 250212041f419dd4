// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// patience bounds every wait of a test: beyond it something hangs.
const patience = 20 * time.Second

// coordinator is a fake that does what the test says.
type coordinator struct {
	volleyv1.UnimplementedWorkerServiceServer
	volleyv1.UnimplementedBlobServiceServer
	t        testing.TB
	listener *bufconn.Listener
	server   *grpc.Server
	sessions chan *fakeSession

	mu    sync.Mutex
	blobs map[string][]byte
	fails int // of the next GetBlob calls
	reads int
	all   []*fakeSession
}

// relax makes all sessions agree to everything, so that agents end soon.
func (c *coordinator) relax() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.all {
		s.mu.Lock()
		s.relaxed = true
		for _, m := range s.messages {
			s.agree(m)
		}
		s.mu.Unlock()
	}
}

// agree acknowledges, and ends the stream after bye. Errors mean that it has
// ended.
func (s *fakeSession) agree(m *volleyv1.ConnectRequest) {
	if seq := m.GetReport().GetSeq(); seq > 0 {
		_ = s.stream.Send(&volleyv1.ConnectResponse{AckedSeq: seq})
	}
	if m.GetBye() {
		select {
		case s.end <- nil:
		default:
		}
	}
}

func newCoordinator(t testing.TB) *coordinator {
	c := &coordinator{t: t, listener: bufconn.Listen(1 << 20), sessions: make(chan *fakeSession, 64), blobs: make(map[string][]byte)}
	srv := grpc.NewServer()
	c.server = srv
	volleyv1.RegisterWorkerServiceServer(srv, c)
	volleyv1.RegisterBlobServiceServer(srv, c)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := srv.Serve(c.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-served
	})
	return c
}

func (c *coordinator) dial(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
	opts := append(DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.listener.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///fake", opts...)
	return conn, conn, err
}

func (c *coordinator) GetBlob(r *volleyv1.GetBlobRequest, stream volleyv1.BlobService_GetBlobServer) error {
	c.mu.Lock()
	c.reads++
	fail := c.fails > 0
	c.fails--
	b, ok := c.blobs[string(r.GetDigest())]
	c.mu.Unlock()
	if fail {
		return status.Error(codes.Unavailable, "not now")
	}
	if !ok {
		return status.Error(codes.NotFound, "no such blob")
	}
	half := len(b) / 2
	if err := stream.Send(&volleyv1.GetBlobResponse{Data: b[:half]}); err != nil {
		return err
	}
	return stream.Send(&volleyv1.GetBlobResponse{Data: b[half:]})
}

// fakeSession is one stream. Messages of the worker are kept until asked for.
type fakeSession struct {
	t      testing.TB
	hello  *volleyv1.Hello
	stream volleyv1.WorkerService_ConnectServer
	end    chan error    // the test ends the stream with this
	gone   chan struct{} // the worker has ended it
	more   chan struct{}

	mu       sync.Mutex
	relaxed  bool
	messages []*volleyv1.ConnectRequest
	seen     int
}

func (c *coordinator) Connect(stream volleyv1.WorkerService_ConnectServer) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	s := &fakeSession{t: c.t, hello: m.GetHello(), stream: stream, end: make(chan error, 1), gone: make(chan struct{}), more: make(chan struct{}, 1)}
	c.mu.Lock()
	c.all = append(c.all, s)
	c.mu.Unlock()
	c.sessions <- s
	go func() {
		defer close(s.gone)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.messages = append(s.messages, m)
			if s.relaxed {
				s.agree(m)
			}
			s.mu.Unlock()
			select {
			case s.more <- struct{}{}:
			default:
			}
		}
	}()
	select {
	case err := <-s.end:
		return err
	case <-s.gone:
		return nil
	}
}

func (c *coordinator) next() *fakeSession {
	c.t.Helper()
	select {
	case s := <-c.sessions:
		if s.hello == nil {
			c.t.Fatal("the first message has no hello")
		}
		return s
	case <-time.After(patience):
		c.t.Fatal("the worker does not connect")
		return nil
	}
}

// welcomed is next, and a welcome.
func (c *coordinator) welcomed() *fakeSession {
	c.t.Helper()
	s := c.next()
	s.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{ClusterId: "test", LeaseTtlMs: 30000}})
	return s
}

func (s *fakeSession) send(m *volleyv1.ConnectResponse) {
	s.t.Helper()
	if err := s.stream.Send(m); err != nil {
		s.t.Fatalf("send to the worker: %v", err)
	}
}

// await answers the next message for which f holds, and drops those before.
func (s *fakeSession) await(what string, f func(*volleyv1.ConnectRequest) bool) *volleyv1.ConnectRequest {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		for s.seen < len(s.messages) {
			m := s.messages[s.seen]
			s.seen++
			if f(m) {
				s.mu.Unlock()
				return m
			}
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-deadline:
			s.t.Fatalf("the worker sends no %s", what)
		}
	}
}

// ledger adds up the reports of a test, and checks what must hold of each.
type ledger struct {
	t        testing.TB
	seq      uint64
	results  map[uint64]map[uint64]rowResult // lease, index
	returned map[uint64]*sharding.Set
	preempt  map[uint64]*sharding.Set
	started  map[uint64]*sharding.Set
}

type rowResult struct {
	outcome  volleyv1.Outcome
	exit     uint32
	start    int64
	duration uint64
	reason   string
	metric   float64
	output   string
	columns  int // 1 metric, 2 output
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, results: map[uint64]map[uint64]rowResult{}, returned: map[uint64]*sharding.Set{}, preempt: map[uint64]*sharding.Set{}, started: map[uint64]*sharding.Set{}}
}

func at[T any](col []T, i int) (v T) {
	if len(col) > 0 {
		v = col[i]
	}
	return v
}

func addSet(t testing.TB, m map[uint64]*sharding.Set, lease uint64, runs []uint64, once bool, what string) {
	t.Helper()
	if len(runs) == 0 {
		return
	}
	if m[lease] == nil {
		m[lease] = sharding.NewSet()
	}
	set, err := sharding.ParsePacked(runs)
	if err != nil {
		t.Fatalf("lease %d: %s %v: %v", lease, what, runs, err)
	}
	both := set.Clone()
	both.Intersect(m[lease])
	if once && !both.Empty() {
		t.Fatalf("lease %d: %v reported as %s twice", lease, both.AppendPacked(nil), what)
	}
	m[lease].Union(set)
}

// add takes a report in; one that was taken before is left out, as a
// coordinator does.
func (l *ledger) add(r *volleyv1.Report) {
	l.t.Helper()
	if r.GetSeq() <= l.seq {
		return
	}
	if r.GetSeq() != l.seq+1 {
		l.t.Fatalf("report %d follows report %d", r.GetSeq(), l.seq)
	}
	l.seq = r.GetSeq()
	for _, lr := range r.GetLeases() {
		id := lr.GetLeaseId()
		addSet(l.t, l.started, id, lr.GetStarted(), true, "started")
		addSet(l.t, l.returned, id, lr.GetReturned(), true, "returned")
		addSet(l.t, l.preempt, id, lr.GetPreempted(), true, "preempted")
		if l.results[id] == nil {
			l.results[id] = map[uint64]rowResult{}
		}
		n := 0
		start := int64(0)
		for i := 0; i < len(lr.GetFinished()); i += 2 {
			for k := range lr.GetFinished()[i+1] {
				index := lr.GetFinished()[i] + k
				if _, twice := l.results[id][index]; twice {
					l.t.Fatalf("lease %d index %d finished twice", id, index)
				}
				start += lr.GetStartMs()[n]
				row := rowResult{
					outcome: volleyv1.Outcome(at(lr.GetOutcome(), n)), exit: at(lr.GetExitCode(), n), start: start,
					duration: lr.GetDurationUs()[n], metric: at(lr.GetMetric(), n), output: string(at(lr.GetOutput(), n)),
				}
				if len(lr.GetMetric()) > 0 {
					row.columns |= 1
				}
				if k := at(lr.GetReason(), n); k > 0 {
					row.reason = lr.GetReasons()[k-1]
				}
				l.results[id][index] = row
				n++
			}
		}
		for _, c := range []int{len(lr.GetStartMs()), len(lr.GetDurationUs())} {
			if c != n {
				l.t.Fatalf("lease %d: column of %d for %d results", id, c, n)
			}
		}
		for _, c := range []int{len(lr.GetOutcome()), len(lr.GetExitCode()), len(lr.GetPeakKib()), len(lr.GetCpuMs()), len(lr.GetReason()), len(lr.GetMetric()), len(lr.GetOutput())} {
			if c != 0 && c != n {
				l.t.Fatalf("lease %d: column of %d for %d results", id, c, n)
			}
		}
	}
}

func (l *ledger) finished(lease uint64) int { return len(l.results[lease]) }

func size(m map[uint64]*sharding.Set, lease uint64) uint64 {
	if s := m[lease]; s != nil {
		return s.Len()
	}
	return 0
}

// collect takes reports into l, acknowledging each when ack is set, until done.
func (s *fakeSession) collect(l *ledger, ack bool, what string, done func() bool) {
	s.t.Helper()
	for !done() {
		m := s.await(what, func(m *volleyv1.ConnectRequest) bool { return m.GetReport() != nil })
		l.add(m.GetReport())
		if ack {
			s.send(&volleyv1.ConnectResponse{AckedSeq: m.GetReport().GetSeq()})
		}
	}
}

// running is an agent under test.
type running struct {
	t      testing.TB
	agent  *Agent
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (c *coordinator) start(cfg Config) *running {
	t := c.t
	t.Helper()
	cfg.Dial = c.dial
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, agent: a, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = a.Run(ctx)
	}()
	t.Cleanup(func() {
		c.relax()
		cancel()
		_ = r.wait() // tests that expect an error wait themselves
	})
	return r
}

func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(patience):
		r.t.Fatal("the agent does not end")
		return nil
	}
}

// gate is an Executor whose tasks end when the test says.
type gate struct {
	t     testing.TB
	tasks chan *gated
}

type gated struct {
	lease, index, count uint64
	attempt             uint32
	stopped             <-chan struct{}
	result              chan Result
}

func newGate(t testing.TB) *gate { return &gate{t, make(chan *gated, 1024)} }

func (g *gate) Execute(t *Task, r *Result) {
	x := &gated{t.Lease, t.Index, t.Count, t.Attempt, t.Stopped(), make(chan Result, 1)}
	t.MarkStarted()
	g.tasks <- x
	select {
	case *r = <-x.result:
	case <-x.stopped:
		select {
		case *r = <-x.result: // the test had the first word
		default:
			*r = Result{Outcome: volleyv1.Outcome_OUTCOME_FAILED, ExitCode: 143}
		}
	}
}

func (g *gate) next() *gated {
	g.t.Helper()
	select {
	case x := <-g.tasks:
		return x
	case <-time.After(patience):
		g.t.Fatal("no task starts")
		return nil
	}
}

func (x *gated) succeed() { x.result <- Result{} }

func jobOf(number uint64, size uint64, spec *volleyv1.JobSpec) *volleyv1.WorkerJob {
	if spec == nil {
		spec = &volleyv1.JobSpec{Command: []string{"true"}}
	}
	if spec.Space == nil && size > 1 {
		spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}}
	}
	return &volleyv1.WorkerJob{Job: number, JobId: "j" + string(rune('0'+number)), Spec: spec, Size: size}
}

func cpus(n int64) *volleyv1.Resources {
	return &volleyv1.Resources{CpuMilli: n * 1000, MemoryBytes: 1 << 30}
}

func grantOf(lease uint64, parallel uint32, runs ...uint64) *volleyv1.Grant {
	return &volleyv1.Grant{LeaseId: lease, Job: 1, Attempt: 1, Parallel: parallel, Runs: runs}
}
