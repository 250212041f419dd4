// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/volley-batch/volley/coordinator/blob"
	"github.com/volley-batch/volley/coordinator/dispatch"
	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test: beyond it something hangs.
const patience = 60 * time.Second

// counted counts the views, which are what watchers cost.
type counted struct {
	*engine.Engine
	views atomic.Int64
}

func (c *counted) View(ctx context.Context, f func(*state.State)) error {
	c.views.Add(1)
	return c.Engine.View(ctx, f)
}

// cluster is the API on a real engine and dispatcher, reached over gRPC.
type cluster struct {
	testing.TB
	ctx      context.Context
	dir      string
	disk     *journal.Disk
	opts     engine.Options
	memory   *journal.Memory
	engine   *counted
	dispatch *dispatch.Dispatcher
	api      *Server
	blobs    *blob.Store
	conn     *grpc.ClientConn
	stop     func()

	volleyv1.JobServiceClient
	cluster volleyv1.ClusterServiceClient
	files   volleyv1.BlobServiceClient
}

func newCluster(t testing.TB, o engine.Options) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := &cluster{TB: t, ctx: ctx, dir: t.TempDir(), disk: &journal.Disk{}, opts: o}
	c.open()
	t.Cleanup(func() { c.stop() })
	return c
}

// open starts a coordinator on the disk.
func (c *cluster) open() {
	c.Helper()
	var err error
	if c.memory, err = journal.NewMemory(journal.MemoryConfig{Disk: c.disk}); err != nil {
		c.Fatal(err)
	}
	if c.blobs, err = blob.Open(c.dir); err != nil {
		c.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c.dispatch = dispatch.New(log)
	var served *Server
	c.engine = &counted{Engine: engine.New(engine.Config{
		Options: c.opts, Journal: c.memory, ClusterID: "test",
		Release: func(s *state.State, e []state.Effect) {
			c.dispatch.Release(s, e)
			served.Release(s, e)
		},
	})}
	served = New(Config{Engine: c.engine, Workers: c.dispatch, Blobs: c.blobs, Version: "v1", Logger: log})
	c.api = served
	c.dispatch.Bind(c.engine)
	run, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() {
		_ = c.engine.Run(run)
		ended <- struct{}{}
	}()
	select {
	case <-c.engine.Leads():
	case <-c.ctx.Done():
		c.Fatal("the engine does not lead")
	}
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	served.Register(server)
	volleyv1.RegisterWorkerServiceServer(server, c.dispatch)
	go func() {
		_ = server.Serve(l)
		ended <- struct{}{}
	}()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		c.Fatal(err)
	}
	c.conn = conn
	c.JobServiceClient = volleyv1.NewJobServiceClient(conn)
	c.cluster, c.files = volleyv1.NewClusterServiceClient(conn), volleyv1.NewBlobServiceClient(conn)
	memory, d := c.memory, c.dispatch
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		served.Close()
		d.Close()
		_ = conn.Close()
		server.Stop()
		cancel()
		<-ended
		<-ended
		_ = memory.Close()
	}
}

// restart is a stop in good order and a start from the journal.
func (c *cluster) restart() {
	c.stop()
	c.open()
}

func array(name string, size uint64) *volleyv1.JobSpec {
	return &volleyv1.JobSpec{Name: name, Command: []string{"true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}}}
}

func single(name string) *volleyv1.JobSpec {
	return &volleyv1.JobSpec{Name: name, Command: []string{"true"}}
}

// sweep is a list of x values.
func sweep(name string, xs ...int64) *volleyv1.JobSpec {
	var values []*volleyv1.Value
	for _, x := range xs {
		values = append(values, &volleyv1.Value{Kind: &volleyv1.Value_IntValue{IntValue: x}})
	}
	return &volleyv1.JobSpec{Name: name, Command: []string{"f", "{x}"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Sweep{Sweep: &volleyv1.Sweep{
		Sampler: volleyv1.Sampler_SAMPLER_GRID,
		Params:  []*volleyv1.Param{{Name: "x", Axis: &volleyv1.Param_Choices{Choices: &volleyv1.Choices{Values: values}}}},
	}}}}
}

func (c *cluster) submit(spec *volleyv1.JobSpec) string {
	c.Helper()
	r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec})
	if err != nil {
		c.Fatal(err)
	}
	return r.GetJobId()
}

func (c *cluster) worker(o workertest.Options) *workertest.Worker {
	c.Helper()
	w := workertest.New(o)
	if err := w.Connect(c.ctx, c.conn); err != nil {
		c.Fatal(err)
	}
	return w
}

// number of a job that exists.
func (c *cluster) number(id string) (n uint64) {
	c.Helper()
	c.view(func(s *state.State) { n, _, _, _ = lookup(s, id) })
	return n
}

func (c *cluster) view(f func(*state.State)) {
	c.Helper()
	if err := c.engine.Engine.View(c.ctx, f); err != nil {
		c.Fatal(err)
	}
}

// until waits for something that the engine does by itself. Each look is a
// round trip through the engine, so that it neither spins nor sleeps.
func (c *cluster) until(what string, ok func(*state.State) bool) {
	c.Helper()
	for done := false; !done; {
		if c.ctx.Err() != nil {
			c.Fatalf("never: %s", what)
		}
		c.view(func(s *state.State) { done = ok(s) })
	}
}

func (c *cluster) ended(id string) *volleyv1.Job {
	c.Helper()
	n := c.number(id)
	c.until("job "+id+" ends", func(s *state.State) bool { return s.Job(n).Terminal() })
	return c.describe(id).GetJob()
}

func (c *cluster) running(id string, tasks uint64) {
	c.Helper()
	n := c.number(id)
	c.until("tasks of job "+id+" run", func(s *state.State) bool { return s.Job(n).Counts().GetRunning() == tasks })
}

func (c *cluster) describe(id string) *volleyv1.JobDetail {
	c.Helper()
	r, err := c.DescribeJobs(c.ctx, &volleyv1.DescribeJobsRequest{JobIds: []string{id}, WithSpec: true})
	if err != nil {
		c.Fatal(err)
	}
	if len(r.GetJobs()) != 1 {
		c.Fatalf("there is no job %s", id)
	}
	return r.GetJobs()[0]
}

func (c *cluster) results(req *volleyv1.ListResultsRequest) (rows []*volleyv1.Child, messages int) {
	c.Helper()
	s, err := c.ListResults(c.ctx, req)
	if err != nil {
		c.Fatal(err)
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return rows, messages
		}
		if err != nil {
			c.Fatal(err)
		}
		messages++
		rows = append(rows, m.GetRows()...)
	}
}

func wantStatus(t testing.TB, err error, code codes.Code, texts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("error is %v, want %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(status.Convert(err).Message(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}

func hold(workertest.Task) workertest.Result { return workertest.Result{Hold: true} }
