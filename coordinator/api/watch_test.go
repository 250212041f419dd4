// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func (c *cluster) watch(ctx context.Context, id string, ms int32) grpc.ServerStreamingClient[volleyv1.WatchJobResponse] {
	c.Helper()
	s, err := c.WatchJob(ctx, &volleyv1.WatchJobRequest{JobId: id, MinIntervalMs: ms})
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func ended(j *volleyv1.Job) bool {
	return j.GetState() == succeeded || j.GetState() == volleyv1.JobState_JOB_STATE_FAILED
}

// TestWatch: the first message comes at once, counts never go back, the last
// is the terminal one, and there are far fewer than changes.
func TestWatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	const size = 3000
	c.submit(array("a", size))
	s := c.watch(c.ctx, "a", 0)
	first, err := s.Recv()
	if err != nil || first.GetJob().GetCounts().GetRunnable() != size {
		t.Fatalf("first message is %v, %v", first, err)
	}
	c.worker(workertest.Options{NodeID: "n"})
	last, messages := uint64(0), 0
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		messages++
		n := m.GetJob().GetCounts().GetSucceeded()
		if n < last {
			t.Errorf("%d succeeded after %d", n, last)
		}
		last = n
		if ended(m.GetJob()) != (n == size) {
			t.Errorf("state %s with %d of %d", m.GetJob().GetState(), n, size)
		}
	}
	if last != size || messages > size/10 {
		t.Errorf("%d succeeded in the last of %d messages", last, messages)
	}
	// Of one that has ended: one message.
	s = c.watch(c.ctx, "1", 0)
	if m, err := s.Recv(); err != nil || !ended(m.GetJob()) {
		t.Errorf("first of an ended job: %v, %v", m, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the terminal message: %v", err)
	}
}

// TestWatchersShareReadings: a thousand watchers cost as many views as one,
// beside the one that each begins with, and all of them see the end.
func TestWatchersShareReadings(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	const watchers = 1000
	c.submit(array("a", 500))
	w := c.worker(workertest.Options{NodeID: "n", CPUs: 500, Run: hold})
	c.running("a", 500)
	var streams []grpc.ServerStreamingClient[volleyv1.WatchJobResponse]
	for range watchers {
		s := c.watch(c.ctx, "1", 3_600_000)
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	before := c.engine.views.Load()
	for i := range uint64(500) {
		w.Finish(1, i, workertest.Result{})
	}
	var all sync.WaitGroup
	for _, s := range streams {
		all.Go(func() {
			for {
				m, err := s.Recv()
				if err != nil {
					t.Errorf("a watcher missed the end: %v", err)
					return
				}
				if ended(m.GetJob()) {
					return
				}
			}
		})
	}
	all.Wait()
	if n := c.engine.views.Load() - before; n > 20 {
		t.Errorf("500 changes took %d views for %d watchers", n, watchers)
	}
	t.Logf("%d views for %d watchers", c.engine.views.Load()-before, watchers)
}

// TestImpatientWatcher: one who joins those that wait for an hour does not
// have to wait with them.
func TestImpatientWatcher(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("a", 3))
	w := c.worker(workertest.Options{NodeID: "n", Run: hold})
	c.running("a", 3)
	slow := c.watch(c.ctx, "a", 3_600_000)
	if _, err := slow.Recv(); err != nil {
		t.Fatal(err)
	}
	w.Finish(1, 0, workertest.Result{})
	c.until("one has ended", func(s *state.State) bool { return s.Job(1).Counts().GetSucceeded() == 1 })
	quick := c.watch(c.ctx, "a", 1)
	w.Finish(1, 1, workertest.Result{})
	for n := uint64(0); n < 2; {
		m, err := quick.Recv()
		if err != nil {
			t.Fatal(err)
		}
		n = m.GetJob().GetCounts().GetSucceeded()
	}
	w.Finish(1, 2, workertest.Result{})
	if m, err := slow.Recv(); err != nil || !ended(m.GetJob()) {
		t.Errorf("the patient one got %v, %v", m, err)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{KeepJobs: 0, KeepAge: -1})
	for _, tc := range []struct {
		req  *volleyv1.WatchJobRequest
		code codes.Code
		text string
	}{
		{&volleyv1.WatchJobRequest{JobId: "nobody"}, codes.NotFound, `"nobody"`},
		{&volleyv1.WatchJobRequest{JobId: "1", MinIntervalMs: -1}, codes.InvalidArgument, "min_interval_ms -1"},
	} {
		s, err := c.WatchJob(c.ctx, tc.req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		wantStatus(t, err, tc.code, tc.text)
	}
	c.submit(array("a", 1))
	_, err := c.watch(c.ctx, "a:0", 0).Recv()
	wantStatus(t, err, codes.InvalidArgument, "names one task")

	// The client goes: its subscription goes too.
	ctx, cancel := context.WithCancel(c.ctx)
	s := c.watch(ctx, "a", 0)
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Recv(); err == nil {
		t.Error("a message after the end of the call")
	}
	c.until("nobody watches", func(*state.State) bool {
		c.api.hub.mu.Lock()
		defer c.api.hub.mu.Unlock()
		return len(c.api.hub.topics) == 0
	})

	// The coordinator stops.
	s = c.watch(c.ctx, "a", 0)
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	c.api.Close()
	_, err = s.Recv()
	wantStatus(t, err, codes.Unavailable, "stopping")
	_, _ = c.watch(c.ctx, "a", 0).Recv() // the first reading may still be sent
}

// TestWatchOfPurgedJob: a topic whose job is gone ends all who watch it.
func TestWatchOfPurgedJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("a", 1))
	s := c.watch(c.ctx, "a", 3_600_000)
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	// The effect alone, of a job that the engine has purged before the topic
	// could read the end: what a watcher of a busy engine may see.
	c.view(func(st *state.State) {
		c.api.hub.mu.Lock()
		defer c.api.hub.mu.Unlock()
		top := c.api.hub.topics[1]
		delete(c.api.hub.topics, 1)
		top.job = 99
		c.api.hub.topics[99] = top
	})
	c.api.Release(nil, []state.Effect{state.ForgetEffect{Job: 99}})
	_, err := s.Recv()
	wantStatus(t, err, codes.NotFound, `no job "99"`)
}
