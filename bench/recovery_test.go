// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
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

// counted is noop that counts what it runs.
type counted struct {
	noop
	n atomic.Uint64
}

func (c *counted) Execute(t *worker.Task, r *worker.Result) {
	c.n.Add(1)
	c.noop.Execute(t, r)
}

// server is a coordinator with one worker, whose directories outlive it.
type server struct {
	*coordinator.Server
	client *client.Client
	ran    *counted
	stop   func() error
}

const serverToken = "0123456789abcdef0123456789abcdef"

func openServer(tb testing.TB, dir string) *coordinator.Server {
	tb.Helper()
	s, err := coordinator.Open(tb.Context(), coordinator.Config{DataDir: filepath.Join(dir, "c"), Listen: "127.0.0.1:0", Token: serverToken})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func withWorker(tb testing.TB, s *coordinator.Server, dir string) *server {
	tb.Helper()
	ran := &counted{}
	a, err := worker.New(worker.Config{
		DataDir: filepath.Join(dir, "w"), Name: "w", Executor: ran, Capacity: &volleyv1.Resources{CpuMilli: 4000, MemoryBytes: 1 << 30},
		Dial: func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
			conn, err := grpc.NewClient(s.Addr(), append(worker.DialOptions(),
				grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(credential.PerRPC(serverToken)))...)
			return conn, conn, err
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return &server{Server: s, client: client.New(s.Conn()), ran: ran, stop: func() error {
		cancel()
		return errors.Join(<-done, s.Close())
	}}
}

// array runs an array to its end.
func (s *server) array(tb testing.TB, size uint64) {
	tb.Helper()
	spec := &volleyv1.JobSpec{Name: "noop", Command: []string{"/bin/true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}}}
	r, err := s.client.Submit(tb.Context(), client.Submission{Spec: spec})
	if err != nil {
		tb.Fatal(err)
	}
	for job, err := range s.client.Watch(tb.Context(), r.GetJobId(), 10*time.Millisecond) {
		if err != nil {
			tb.Fatal(err)
		}
		if job.GetCounts().GetFailed() > 0 {
			tb.Fatalf("failed: %v", job)
		}
	}
}

// finished wants all tasks of job 1 recorded, each once.
func (s *server) finished(tb testing.TB, size uint64) {
	tb.Helper()
	jobs, err := s.client.Describe(tb.Context(), false, "1")
	if err != nil || len(jobs) != 1 {
		tb.Fatalf("job 1 is %v (%v)", jobs, err)
	}
	j := jobs[0].GetJob()
	if j.GetCounts().GetSucceeded() != size || j.GetFinishedAttempts() != size || j.GetState() != volleyv1.JobState_JOB_STATE_SUCCEEDED {
		tb.Fatalf("after the restart job 1 is %v, want %d succeeded", j, size)
	}
}

// TestFinishedTasksDoNotRunAgain: a coordinator that comes back from its
// journal gives its worker what is new, and nothing that was done.
func TestFinishedTasksDoNotRunAgain(t *testing.T) {
	t.Parallel()
	const done, more = 50_000, 1000
	dir := t.TempDir()
	s := withWorker(t, openServer(t, dir), dir)
	s.array(t, done)
	if got := s.ran.n.Load(); got != done {
		t.Errorf("ran %d tasks, want %d", got, done)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = withWorker(t, openServer(t, dir), dir)
	s.finished(t, done)
	s.array(t, more)
	if got := s.ran.n.Load(); got != more {
		t.Errorf("ran %d tasks after the restart, want the %d new ones", got, more)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkRecovery reopens the journal of an array that has ended, until the
// coordinator leads and answers.
func BenchmarkRecovery(b *testing.B) {
	for _, size := range []uint64{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("finished=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			s := withWorker(b, openServer(b, dir), dir)
			s.array(b, size)
			if err := s.stop(); err != nil {
				b.Fatal(err)
			}
			var opens []time.Duration
			for b.Loop() {
				begin := time.Now()
				s := &server{Server: openServer(b, dir)}
				s.client = client.New(s.Conn())
				s.finished(b, size)
				opens = append(opens, time.Since(begin))
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(ms(median(opens)), "p50-ms")
		})
	}
}
