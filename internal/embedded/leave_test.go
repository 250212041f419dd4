// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

// deaf is a connection of a worker that is lost with the first result.
type deaf struct {
	grpc.ClientStream
	lost func()
}

func (d deaf) SendMsg(m any) error {
	if r, ok := m.(*volleyv1.ConnectRequest); ok {
		for _, l := range r.GetReport().GetLeases() {
			if len(l.GetFinished()) > 0 {
				d.lost()
				return io.ErrUnexpectedEOF
			}
		}
	}
	return d.ClientStream.SendMsg(m)
}

// What a worker finished and could not report counts before anybody plans.
func TestSpoolBeforePlan(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	in := open(t, Config{Dir: dir})
	id := submit(t, in, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/true"}})
	lost := make(chan struct{})
	lose := sync.OnceFunc(func() { close(lost) })
	intercept := grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, cc, method, opts...)
		return deaf{s, lose}, err
	})
	a, err := worker.New(worker.Config{DataDir: filepath.Join(dir, "worker"), Dial: func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
		select {
		case <-lost:
			return nil, nil, io.ErrUnexpectedEOF
		default:
		}
		conn, err := client.Connect(client.Options{Addr: in.Addr(), Token: in.ep.Token}, append(worker.DialOptions(), intercept)...)
		return conn, conn, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	<-lost
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	closeNow(t, in)
	open(t, Config{Dir: dir, Worker: true, Before: func(ctx context.Context, c *client.Client) error {
		d, err := c.Job(ctx, client.Ref{ID: id})
		if err == nil && (d.Job.GetCounts().GetSucceeded() != 1 || d.Job.FinishedAttempts != 1) {
			t.Errorf("before the plan the job is %v", d.Job)
		}
		return err
	}})
}

// An instance that rests runs nothing more; the job waits for the next one.
func TestRest(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	in := open(t, Config{Dir: dir, Worker: true})
	if err := in.Rest(t.Context(), func() { t.Error("waits for nothing") }); err != nil {
		t.Fatal(err)
	}
	id := submit(t, in, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/true"}})
	closeNow(t, in)
	in = open(t, Config{Dir: dir, Worker: true})
	if j := wait(t, in.Client(), id); j.State != volleyv1.JobState_JOB_STATE_SUCCEEDED || j.FinishedAttempts != 1 {
		t.Errorf("the job is %v", j)
	}
	guest := open(t, Config{Dir: dir, Worker: true})
	if guest.RunsTasks() || !in.RunsTasks() || guest.Kill() != 0 {
		t.Error("the guest of a working owner runs tasks")
	}
	if err := guest.Rest(t.Context(), func() { t.Error("a guest waits") }); err != nil {
		t.Error(err)
	}
}

// A killed instance ends its tasks, and what was left is for the next one.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	started := filepath.Join(filepath.Dir(dir), "started")
	in := open(t, Config{Dir: dir, Worker: true})
	id := submit(t, in, &volleyv1.JobSpec{Name: "a", Command: []string{"/bin/sh", "-c", "trap '' TERM; echo; test -e " + started + " && exit 0; echo > " + started + "; while :; do sleep 1; done"}})
	for _, err := range in.Logs(t.Context(), client.Ref{ID: id}, &volleyv1.ReadLogsRequest{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		break // it has begun
	}
	resting, cancel := context.WithCancel(t.Context())
	if err := in.Rest(resting, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("rest beside a task: %v", err)
	}
	if n := in.Kill(); n != 1 {
		t.Errorf("%d tasks killed, want 1", n)
	}
	closeNow(t, in)
	in = open(t, Config{Dir: dir, Worker: true})
	if _, err := in.Client().Job(t.Context(), client.Ref{ID: id}); err != nil {
		t.Fatal(err)
	}
	if err := in.Client().Terminate(t.Context(), id, "enough"); err != nil && client.Kind(err) != client.Refused {
		t.Fatal(err)
	}
	if j := wait(t, in.Client(), id); !client.Terminal(j.State) {
		t.Errorf("the job is %v", j)
	}
	in.Kill()
}

// Left tells the errors of an owner that has gone from those of a call.
func TestLeft(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	owner := open(t, Config{Dir: dir})
	guest := open(t, Config{Dir: dir})
	_, notFound := guest.Client().Job(t.Context(), client.Ref{ID: "9"})
	if owner.Left(notFound) || guest.Left(notFound) || guest.Left(nil) {
		t.Error("an answer is no loss")
	}
	closeNow(t, owner)
	// The next owner has another token.
	next := open(t, Config{Dir: dir})
	_, err := guest.Client().Job(t.Context(), client.Ref{ID: "9"})
	if err == nil || client.Kind(err) == client.NotFound || !guest.Left(err) || next.Left(err) {
		t.Errorf("after the owner has changed: %v", err)
	}
}

// One command at a time plans.
func TestAlone(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	owner, guest := open(t, Config{Dir: dir}), open(t, Config{Dir: dir})
	release, err := owner.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := guest.Alone(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("both are alone: %v", err)
	}
	release()
	release, err = guest.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
}
