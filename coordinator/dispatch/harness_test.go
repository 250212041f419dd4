// SPDX-License-Identifier: Apache-2.0

package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/volley-batch/volley/coordinator/dispatch"
	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test: beyond it something hangs.
const patience = 30 * time.Second

// cluster is a dispatcher on a real engine, reached over gRPC.
type cluster struct {
	t        testing.TB
	ctx      context.Context
	disk     *journal.Disk
	opts     engine.Options
	memory   *journal.Memory
	engine   *engine.Engine
	dispatch *dispatch.Dispatcher
	server   *grpc.Server
	conn     *grpc.ClientConn
	stop     func()
}

func newCluster(t testing.TB, o engine.Options) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, disk: &journal.Disk{}, opts: o}
	c.open()
	t.Cleanup(func() { c.stop() })
	return c
}

// open starts a coordinator on the disk.
func (c *cluster) open() {
	c.t.Helper()
	var err error
	if c.memory, err = journal.NewMemory(journal.MemoryConfig{Disk: c.disk}); err != nil {
		c.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c.dispatch = dispatch.New(log)
	c.engine = engine.New(engine.Config{Options: c.opts, Journal: c.memory, ClusterID: "test", Release: c.dispatch.Release})
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
		c.t.Fatal("the engine does not lead")
	}
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(64<<20))
	c.server = server
	volleyv1.RegisterWorkerServiceServer(server, c.dispatch)
	go func() {
		_ = server.Serve(l)
		ended <- struct{}{}
	}()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn = conn
	memory, d := c.memory, c.dispatch
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
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

func (c *cluster) do(e *journalv1.Entry) state.Result {
	c.t.Helper()
	r, err := c.engine.Do(c.ctx, e)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// submit makes an array job.
func (c *cluster) submit(size uint64, change ...func(*volleyv1.JobSpec)) uint64 {
	c.t.Helper()
	spec := &volleyv1.JobSpec{
		Name: "work", Queue: "default", Command: []string{"true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}},
	}
	for _, f := range change {
		f(spec)
	}
	return c.do(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Spec: spec, Size: size, Array: true}}}).Job
}

func (c *cluster) cancelJob(job uint64, terminate bool) {
	c.t.Helper()
	c.do(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: job, Terminate: terminate}}})
}

func (c *cluster) view(f func(*state.State)) {
	c.t.Helper()
	if err := c.engine.View(c.ctx, f); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) job(id uint64) *volleyv1.Job {
	c.t.Helper()
	var j *volleyv1.Job
	c.view(func(s *state.State) { j = s.Job(id).Proto() })
	return j
}

// until waits for something that the engine does by itself. Each look is a
// round trip through the engine, so that it neither spins nor sleeps.
func (c *cluster) until(what string, ok func(*state.State) bool) {
	c.t.Helper()
	for done := false; !done; {
		if c.ctx.Err() != nil {
			c.t.Fatalf("never: %s", what)
		}
		c.view(func(s *state.State) { done = ok(s) })
	}
}

func (c *cluster) ended(job uint64) *volleyv1.Job {
	c.t.Helper()
	c.until(fmt.Sprintf("job %d ends", job), func(s *state.State) bool { return s.Job(job).Terminal() })
	return c.job(job)
}

func (c *cluster) worker(o workertest.Options) *workertest.Worker {
	c.t.Helper()
	w := workertest.New(o)
	c.connect(w)
	return w
}

func (c *cluster) connect(w *workertest.Worker) {
	c.t.Helper()
	if err := w.Connect(c.ctx, c.conn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) message(w *workertest.Worker, what string, ok func(*volleyv1.ConnectResponse) bool) *volleyv1.ConnectResponse {
	c.t.Helper()
	m, err := w.Until(c.ctx, ok)
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	return m
}

func hold(workertest.Task) workertest.Result { return workertest.Result{Hold: true} }
