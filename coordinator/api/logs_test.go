// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/engine"
	"github.com/volley-batch/volley/coordinator/state"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	stdout = volleyv1.LogStream_LOG_STREAM_STDOUT
	stderr = volleyv1.LogStream_LOG_STREAM_STDERR
)

// logs reads all output, by stream.
func (c *cluster) logs(req *volleyv1.ReadLogsRequest) (map[volleyv1.LogStream]string, error) {
	s, err := c.ReadLogs(c.ctx, req)
	if err != nil {
		return nil, err
	}
	got := map[volleyv1.LogStream]string{}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got[m.GetStream()] += string(m.GetData())
	}
}

// echo answers with what was asked for.
func echo(r *volleyv1.LogRequest, send func(*volleyv1.LogChunk)) {
	if r.GetJob() == 0 {
		return // credit or cancel
	}
	text := strings.Join([]string{r.GetStream().String(), "attempt", string(rune('0' + r.GetAttempt())), "index", string(rune('0' + r.GetIndex()))}, " ")
	if n := r.GetTailBytes(); n > 0 {
		text = text[len(text)-int(n):]
	}
	half := len(text) / 2
	send(&volleyv1.LogChunk{Data: []byte(text[:half])})
	send(&volleyv1.LogChunk{Data: []byte(text[half:]), End: true})
}

// Who follows a task sees every attempt, not only the one that ran first.
func TestFollowGoesOnWithTheNextAttempt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	spec := single("a")
	spec.Retry = &volleyv1.Retry{Attempts: 2}
	c.submit(spec)
	w := c.worker(workertest.Options{NodeID: "n", Log: echo, Run: hold})
	c.running("a", 1)
	type answer struct {
		got map[volleyv1.LogStream]string
		err error
	}
	done := make(chan answer, 1)
	go func() {
		got, err := c.logs(&volleyv1.ReadLogsRequest{JobId: "a", Follow: true, Streams: []volleyv1.LogStream{stdout}})
		done <- answer{got, err}
	}()
	w.Finish(1, 0, workertest.Failed(1))
	c.until("the second attempt runs", func(st *state.State) bool {
		_, attempt, ok := st.AttemptNode(st.Job(1), 0, 0)
		return ok && attempt == 2 && st.Job(1).Counts().GetRunning() == 1
	})
	w.Finish(1, 0, workertest.Result{})
	a := <-done
	if a.err != nil || !strings.HasSuffix(a.got[stdout], "LOG_STREAM_STDOUT attempt 2 index 0") {
		t.Errorf("%v, %v", a.got, a.err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	spec := sweep("s", 1, 2, 3)
	spec.Retry = &volleyv1.Retry{Attempts: 2}
	c.submit(spec)
	w := c.worker(workertest.Options{NodeID: "n", Log: echo, Run: func(task workertest.Task) workertest.Result {
		if task.Index == 1 && task.Attempt == 1 {
			return workertest.Failed(1)
		}
		return workertest.Result{Hold: task.Index == 2}
	}})
	c.running("s", 1)
	c.until("the rest has ended", func(st *state.State) bool { return st.Job(1).Counts().GetSucceeded() == 2 })
	for name, tc := range map[string]struct {
		req  *volleyv1.ReadLogsRequest
		want map[volleyv1.LogStream]string
	}{
		"both": {&volleyv1.ReadLogsRequest{JobId: "s:1"}, map[volleyv1.LogStream]string{
			stdout: "LOG_STREAM_STDOUT attempt 2 index 1", stderr: "LOG_STREAM_STDERR attempt 2 index 1",
		}},
		"first attempt": {&volleyv1.ReadLogsRequest{JobId: "1:1", Attempt: 1, Streams: []volleyv1.LogStream{stderr}}, map[volleyv1.LogStream]string{
			stderr: "LOG_STREAM_STDERR attempt 1 index 1",
		}},
		"tail":    {&volleyv1.ReadLogsRequest{JobId: "s:0", TailBytes: 7, Streams: []volleyv1.LogStream{stdout}}, map[volleyv1.LogStream]string{stdout: "index 0"}},
		"running": {&volleyv1.ReadLogsRequest{JobId: "s:2", Attempt: 1, Follow: true, Streams: []volleyv1.LogStream{stdout}}, map[volleyv1.LogStream]string{stdout: "LOG_STREAM_STDOUT attempt 1 index 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.logs(tc.req)
			if err != nil || len(got) != len(tc.want) {
				t.Fatalf("%v, %v", got, err)
			}
			for s, text := range tc.want {
				if got[s] != text {
					t.Errorf("%s is %q, want %q", s, got[s], text)
				}
			}
		})
	}
	w.Finish(1, 2, workertest.Result{})
	c.ended("s")
	r, err := c.SubmitJob(c.ctx, &volleyv1.SubmitJobRequest{Spec: spec, Reuse: true})
	if err != nil || r.GetJob().GetCounts().GetSkipped() != 3 {
		t.Fatalf("reuse: %v, %v", r, err)
	}
	never := single("never")
	never.Resources = &volleyv1.Resources{Gpu: 1}
	c.submit(never)
	for name, tc := range map[string]struct {
		req  *volleyv1.ReadLogsRequest
		code codes.Code
		text string
	}{
		"array":           {&volleyv1.ReadLogsRequest{JobId: "s"}, codes.InvalidArgument, "3 tasks: name one"},
		"no job":          {&volleyv1.ReadLogsRequest{JobId: "x"}, codes.NotFound, `"x"`},
		"no index":        {&volleyv1.ReadLogsRequest{JobId: "1:3"}, codes.NotFound, "no index 3"},
		"no attempt":      {&volleyv1.ReadLogsRequest{JobId: "1:1", Attempt: 3, Follow: true}, codes.NotFound, "no attempt 3"},
		"reused":          {&volleyv1.ReadLogsRequest{JobId: "s:0"}, codes.NotFound, "taken over from job 1"},
		"not started":     {&volleyv1.ReadLogsRequest{JobId: "never"}, codes.NotFound, "has not started"},
		"negative tail":   {&volleyv1.ReadLogsRequest{JobId: "1:0", TailBytes: -1}, codes.InvalidArgument, "tail_bytes -1"},
		"unknown stream":  {&volleyv1.ReadLogsRequest{JobId: "1:0", Streams: []volleyv1.LogStream{9}}, codes.InvalidArgument, "streams[0] 9"},
		"the same stream": {&volleyv1.ReadLogsRequest{JobId: "1:0", Streams: []volleyv1.LogStream{stdout, stdout}}, codes.InvalidArgument, "streams[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.logs(tc.req)
			wantStatus(t, err, tc.code, tc.text)
		})
	}
	if err := w.Bye(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = c.logs(&volleyv1.ReadLogsRequest{JobId: "1:0"})
	wantStatus(t, err, codes.FailedPrecondition, "not connected")
	// One that will never start is waited for until it has ended.
	waiting := make(chan error, 1)
	go func() {
		_, err := c.logs(&volleyv1.ReadLogsRequest{JobId: "never", Follow: true})
		waiting <- err
	}()
	c.until("somebody waits", func(*state.State) bool {
		c.api.hub.mu.Lock()
		defer c.api.hub.mu.Unlock()
		return len(c.api.hub.topics) == 1
	})
	if _, err := c.CancelJob(c.ctx, &volleyv1.CancelJobRequest{JobId: "never", Reason: "no GPU"}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, <-waiting, codes.NotFound, "without having started", "no GPU")
}

// TestFollowFromBeforeTheStart: whoever asks before the task has started gets
// its output when it comes.
func TestFollowFromBeforeTheStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	c.submit(array("a", 2))
	type answer struct {
		got map[volleyv1.LogStream]string
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		got, err := c.logs(&volleyv1.ReadLogsRequest{JobId: "a:1", Follow: true, Streams: []volleyv1.LogStream{stdout}})
		answers <- answer{got, err}
	}()
	c.until("somebody waits", func(*state.State) bool {
		c.api.hub.mu.Lock()
		defer c.api.hub.mu.Unlock()
		return len(c.api.hub.topics) == 1
	})
	c.submit(array("a", 1)) // the name means another job now
	w := c.worker(workertest.Options{NodeID: "n", Log: echo, Run: hold})
	c.running("1", 2)
	w.Finish(1, 1, workertest.Result{}) // the end of the task is the end of its output
	if a := <-answers; a.err != nil || a.got[stdout] != "LOG_STREAM_STDOUT attempt 1 index 1" {
		t.Errorf("%v, %v", a.got, a.err)
	}
}

// put stores a blob in two messages.
func (c *cluster) put(digest, content []byte) error {
	s, err := c.files.PutBlob(c.ctx)
	if err != nil {
		return err
	}
	half := len(content) / 2
	for _, m := range []*volleyv1.PutBlobRequest{{Digest: digest, Data: content[:half]}, {Data: content[half:]}} {
		if s.Send(m) != nil {
			break // CloseAndRecv says why
		}
	}
	_, err = s.CloseAndRecv()
	return err
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{})
	content := bytes.Repeat([]byte("0123456789"), 20_000)
	sum := sha256.Sum256(content)
	missing := func() int {
		r, err := c.files.FindMissingBlobs(c.ctx, &volleyv1.FindMissingBlobsRequest{Digests: [][]byte{sum[:]}})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.GetDigests())
	}
	if missing() != 1 {
		t.Error("a blob is there before it was stored")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := c.put(sum[:], content); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if missing() != 0 {
		t.Error("the blob is not there")
	}
	s, err := c.files.GetBlob(c.ctx, &volleyv1.GetBlobRequest{Digest: sum[:]})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.GetData()...)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("read %d bytes", len(got))
	}
	wantStatus(t, c.put(sum[:], []byte("other")), codes.InvalidArgument, "does not match")
	wantStatus(t, c.put([]byte("short"), content), codes.InvalidArgument, "32 bytes")
	empty, err := c.files.PutBlob(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = empty.CloseAndRecv()
	wantStatus(t, err, codes.InvalidArgument, "before its first message")
	none, err := c.files.GetBlob(c.ctx, &volleyv1.GetBlobRequest{Digest: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = none.Recv()
	wantStatus(t, err, codes.NotFound, "no such blob")
	_, err = c.files.FindMissingBlobs(c.ctx, &volleyv1.FindMissingBlobsRequest{Digests: [][]byte{sum[:], {1}}})
	wantStatus(t, err, codes.InvalidArgument, "digests[1]")
}

// TestCollectBlobs: what no job names goes, unless it was stored or asked for
// of late; what a job named goes with the job.
func TestCollectBlobs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engine.Options{KeepJobs: 1, KeepAge: -1})
	store := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		if err := c.put(sum[:], []byte(text)); err != nil {
			t.Fatal(err)
		}
		return sum[:]
	}
	named, asked, old := store("named"), store("asked"), store("old")
	spec := single("a")
	spec.Inputs = []*volleyv1.Input{{Path: "in", Digest: named}}
	c.submit(spec)
	long := time.Now().Add(-time.Hour)
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chtimes(c.dir+"/"+e.Name(), long, long); err != nil {
			t.Fatal(err)
		}
	}
	// A client that was told that the blob is there will not send it again.
	if _, err := c.files.FindMissingBlobs(c.ctx, &volleyv1.FindMissingBlobsRequest{Digests: [][]byte{asked}}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, since time.Time, removed int, want map[string]bool) {
		t.Helper()
		n, err := c.api.CollectBlobs(c.ctx, since)
		if err != nil || n != removed {
			t.Errorf("%s: removed %d, %v, want %d", what, n, err, removed)
		}
		for digest, there := range want {
			if has, err := c.blobs.Has([]byte(digest)); err != nil || has != there {
				t.Errorf("%s: blob %x is there: %t, %v", what, digest, has, err)
			}
		}
	}
	check("first", time.Now().Add(-time.Minute), 1, map[string]bool{string(named): true, string(asked): true, string(old): false})
	c.worker(workertest.Options{NodeID: "n"})
	c.ended("a")
	c.ended(c.submit(single("b")))
	c.until("the job is purged", func(st *state.State) bool { return st.Job(1) == nil })
	check("after the purge", time.Now().Add(-time.Minute), 1, map[string]bool{string(named): false, string(asked): true})
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	if _, err := c.api.CollectBlobs(ctx, time.Now()); err == nil {
		t.Error("no error with an ended context")
	}
}
