// SPDX-License-Identifier: Apache-2.0

package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// logWorker hands requests to the test.
func logWorker(c *cluster, id string) (*workertest.Worker, <-chan *volleyv1.LogRequest) {
	requests := make(chan *volleyv1.LogRequest, 1000)
	w := c.worker(workertest.Options{NodeID: id, Run: hold, Log: func(r *volleyv1.LogRequest, _ func(*volleyv1.LogChunk)) { requests <- r }})
	return w, requests
}

func chunk(id uint64, data string, end bool) *volleyv1.ConnectRequest {
	return &volleyv1.ConnectRequest{Logs: []*volleyv1.LogChunk{{RequestId: id, Data: []byte(data), End: end}}}
}

// read asks for output in a goroutine.
func (c *cluster) read(ctx context.Context, send func([]byte) error) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- c.dispatch.ReadLog(ctx, 1, &volleyv1.LogRequest{Job: 3, Index: 4, Attempt: 2, Follow: true, Stream: volleyv1.LogStream_LOG_STREAM_STDERR, TailBytes: 5}, send)
	}()
	return done
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	w, requests := logWorker(c, "a")
	var got bytes.Buffer
	done := c.read(c.ctx, func(b []byte) error { got.Write(b); return nil })
	r := <-requests
	if r.GetJob() != 3 || r.GetIndex() != 4 || r.GetAttempt() != 2 || !r.GetFollow() || r.GetTailBytes() != 5 ||
		r.GetStream() != volleyv1.LogStream_LOG_STREAM_STDERR || r.GetCredit() <= 0 || r.GetRequestId() == 0 {
		t.Errorf("request is %v", r)
	}
	w.Send(chunk(r.GetRequestId(), "hello ", false))
	if more := <-requests; more.GetCredit() != 6 || more.GetRequestId() != r.GetRequestId() {
		t.Errorf("credit for what was read is %v", more)
	}
	w.Send(chunk(r.GetRequestId()+77, "of nobody", false))
	w.Send(chunk(r.GetRequestId(), "world", true))
	w.Send(chunk(r.GetRequestId(), "after the end", true))
	if err := <-done; err != nil || got.String() != "hello world" {
		t.Errorf("read %q, %v", got.String(), err)
	}
}

func TestReadLogEndings(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	keep := func([]byte) error { return nil }
	wantStatus(t, <-c.read(c.ctx, keep), codes.FailedPrecondition, "not connected")

	w, requests := logWorker(c, "a")
	// The worker cannot serve it.
	done := c.read(c.ctx, keep)
	w.Send(&volleyv1.ConnectRequest{Logs: []*volleyv1.LogChunk{{RequestId: (<-requests).GetRequestId(), Error: "no output of this attempt", End: true}}})
	wantStatus(t, <-done, codes.NotFound, "no output of this attempt")

	// The reader goes: the worker is told.
	ctx, cancel := context.WithCancel(c.ctx)
	done = c.read(ctx, keep)
	id := (<-requests).GetRequestId()
	cancel()
	wantStatus(t, <-done, codes.Canceled, "")
	if r := <-requests; r.GetRequestId() != id || !r.GetCancel() {
		t.Errorf("the worker was sent %v, want a cancel of %d", r, id)
	}

	// The reader's own connection breaks.
	broken := errors.New("broken")
	done = c.read(c.ctx, func([]byte) error { return broken })
	id = (<-requests).GetRequestId()
	w.Send(chunk(id, "x", false))
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if r := <-requests; r.GetRequestId() != id || !r.GetCancel() {
		t.Errorf("the worker was sent %v, want a cancel of %d", r, id)
	}

	// The node goes.
	done = c.read(c.ctx, keep)
	<-requests
	w.Cut()
	wantStatus(t, <-done, codes.FailedPrecondition, "was lost")

	// The coordinator goes: that is no fault of the node.
	c.connect(w)
	done = c.read(c.ctx, keep)
	<-requests
	c.dispatch.Close()
	wantStatus(t, <-done, codes.Unavailable, "stopping")
}

// TestSlowReader: one who does not read gets no more credit, does not hold up
// the worker's reports, and is cut off when a worker ignores its credit.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	job := c.submit(1)
	w, requests := logWorker(c, "a")
	c.until("it runs", func(s *state.State) bool { return s.Job(job).Counts().GetRunning() == 1 })
	reading, release := make(chan struct{}), make(chan struct{})
	first := true
	done := c.read(c.ctx, func([]byte) error {
		if first {
			first = false
			close(reading)
			<-release
		}
		return nil
	})
	r := <-requests
	w.Send(chunk(r.GetRequestId(), "x", false))
	<-reading
	block := string(make([]byte, 1<<20))
	for range r.GetCredit() >> 20 {
		w.Send(chunk(r.GetRequestId(), block, false))
	}
	w.Finish(job, 0, workertest.Result{})
	if j := c.ended(job); j.GetCounts().GetSucceeded() != 1 {
		t.Errorf("job is %v", j)
	}
	if len(requests) != 0 {
		t.Errorf("a reader that stands still got %v", <-requests)
	}
	for range 80 {
		w.Send(chunk(r.GetRequestId(), block, false))
	}
	if stop := <-requests; !stop.GetCancel() {
		t.Errorf("the worker was sent %v, want a cancel", stop)
	}
	close(release)
	wantStatus(t, <-done, codes.ResourceExhausted, "output behind")
}
