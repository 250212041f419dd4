// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

// noop is a task that costs nothing: what is left is the way to it and back.
type noop struct{}

func (noop) Execute(t *worker.Task, r *worker.Result) {
	now := time.Now()
	t.MarkStarted()
	*r = worker.Result{StartedAt: now, Duration: time.Since(now)}
}

// BenchmarkDispatch runs arrays of tasks that do nothing through a coordinator
// with its journal on disk and workers that are connected over loopback TCP.
func BenchmarkDispatch(b *testing.B) {
	for _, workers := range []int{1, 4, 64} {
		for _, tasks := range []uint64{100_000, 1_000_000} {
			b.Run(fmt.Sprintf("workers=%d/tasks=%d", workers, tasks), func(b *testing.B) { dispatch(b, workers, tasks) })
		}
	}
}

func dispatch(b *testing.B, workers int, tasks uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	dir := b.TempDir()
	log := slog.New(slog.DiscardHandler)
	const token = "0123456789abcdef0123456789abcdef"
	srv, err := coordinator.Open(ctx, coordinator.Config{DataDir: filepath.Join(dir, "c"), Listen: "127.0.0.1:0", Token: token, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Close()
	done := make(chan error, workers)
	for n := range workers {
		a, err := worker.New(worker.Config{
			DataDir: filepath.Join(dir, fmt.Sprint("w", n)), Name: fmt.Sprint("w", n), Logger: log, Executor: noop{},
			Capacity: &volleyv1.Resources{CpuMilli: 2000, MemoryBytes: 1 << 30},
			Dial: func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
				conn, err := grpc.NewClient(srv.Addr(), append(worker.DialOptions(),
					grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(credential.PerRPC(token)))...)
				return conn, conn, err
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		go func() { done <- a.Run(ctx) }()
	}
	defer func() {
		cancel()
		for range workers {
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
	}()
	cl := client.New(srv.Conn())
	spec := &volleyv1.JobSpec{Name: "noop", Command: []string{"/bin/true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: tasks}}}
	for b.Loop() {
		r, err := cl.Submit(ctx, client.Submission{Spec: spec})
		if err != nil {
			b.Fatal(err)
		}
		for job, err := range cl.Watch(ctx, r.GetJobId(), 100*time.Millisecond) {
			if err != nil {
				b.Fatal(err)
			}
			if job.GetCounts().GetFailed() > 0 {
				b.Fatalf("failed: %v", job)
			}
		}
	}
	b.ReportMetric(float64(tasks)*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
