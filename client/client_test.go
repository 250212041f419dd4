// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/internal/credential"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fake is a coordinator of which each method can be scripted.
type fake struct {
	volleyv1.UnimplementedJobServiceServer
	volleyv1.UnimplementedClusterServiceServer
	volleyv1.UnimplementedBlobServiceServer

	mu      sync.Mutex
	blobs   map[string][]byte
	keys    []string
	submit  func(n int) error // of the n-th call, from 1
	watch   func(n int, s grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error
	results func(n int, s grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error
	jobs    []*volleyv1.Job
	reruns  int
	watches int
	lists   int
	res     int
}

func (f *fake) GetServerInfo(context.Context, *volleyv1.GetServerInfoRequest) (*volleyv1.GetServerInfoResponse, error) {
	return &volleyv1.GetServerInfoResponse{Version: "test"}, nil
}

func (f *fake) SubmitJob(_ context.Context, r *volleyv1.SubmitJobRequest) (*volleyv1.SubmitJobResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, r.IdempotencyKey)
	if f.submit != nil {
		if err := f.submit(len(f.keys)); err != nil {
			return nil, err
		}
	}
	return &volleyv1.SubmitJobResponse{JobId: "1"}, nil
}

func (f *fake) RerunJob(context.Context, *volleyv1.RerunJobRequest) (*volleyv1.RerunJobResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reruns++
	return nil, status.Error(codes.Unavailable, "no leader")
}

func (f *fake) WatchJob(_ *volleyv1.WatchJobRequest, s grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error {
	f.mu.Lock()
	f.watches++
	n := f.watches
	f.mu.Unlock()
	return f.watch(n, s)
}

func (f *fake) ListResults(_ *volleyv1.ListResultsRequest, s grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error {
	f.mu.Lock()
	f.res++
	n := f.res
	f.mu.Unlock()
	return f.results(n, s)
}

func (f *fake) DescribeJobs(_ context.Context, r *volleyv1.DescribeJobsRequest) (*volleyv1.DescribeJobsResponse, error) {
	var out []*volleyv1.JobDetail
	for _, id := range r.JobIds {
		for _, j := range f.jobs {
			if j.Id == id {
				out = append(out, &volleyv1.JobDetail{Job: j})
			}
		}
	}
	return &volleyv1.DescribeJobsResponse{Jobs: out}, nil
}

// ListJobs serves pages of two, newest first.
func (f *fake) ListJobs(_ context.Context, r *volleyv1.ListJobsRequest) (*volleyv1.ListJobsResponse, error) {
	f.mu.Lock()
	f.lists++
	f.mu.Unlock()
	from := 0
	_, _ = fmt.Sscan(r.PageToken, &from)
	out := &volleyv1.ListJobsResponse{}
	seen := 0
	for _, j := range slices.Backward(f.jobs) {
		if r.Name != "" && r.Name != j.Name {
			continue
		}
		if seen >= from+2 {
			out.NextPageToken = fmt.Sprint(seen)
			break
		}
		if seen >= from {
			out.Jobs = append(out.Jobs, j)
		}
		seen++
	}
	return out, nil
}

func (f *fake) FindMissingBlobs(_ context.Context, r *volleyv1.FindMissingBlobsRequest) (*volleyv1.FindMissingBlobsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &volleyv1.FindMissingBlobsResponse{}
	for _, d := range r.Digests {
		if _, ok := f.blobs[string(d)]; !ok {
			out.Digests = append(out.Digests, d)
		}
	}
	return out, nil
}

func (f *fake) PutBlob(s grpc.ClientStreamingServer[volleyv1.PutBlobRequest, volleyv1.PutBlobResponse]) error {
	var digest, data []byte
	for {
		m, err := s.Recv()
		if err != nil {
			break
		}
		if m.Digest != nil {
			digest = m.Digest
		}
		data = append(data, m.Data...)
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], digest) {
		return status.Error(codes.InvalidArgument, "digest does not match")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[string(digest)] = data
	return s.SendAndClose(&volleyv1.PutBlobResponse{})
}

const token = "right"

// serve starts the fake on a unix socket, which is what a refused connection
// and a restart can be tested with.
func serve(t *testing.T, f *fake) (addr string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	return "unix:" + path, listen(t, f, path)
}

func listen(t *testing.T, f *fake, path string) (stop func()) {
	t.Helper()
	if f.blobs == nil {
		f.blobs = map[string][]byte{}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(credential.UnaryServer(token)), grpc.StreamInterceptor(credential.StreamServer(token)))
	volleyv1.RegisterJobServiceServer(s, f)
	volleyv1.RegisterClusterServiceServer(s, f)
	volleyv1.RegisterBlobServiceServer(s, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	stop = sync.OnceFunc(func() { s.Stop(); <-done })
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, addr string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), Options{Addr: addr, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, &fake{})
	tests := []struct {
		name string
		o    Options
		kind ErrorKind
		text string
	}{
		{"wrong token", Options{Addr: addr, Token: "wrong"}, Unauthenticated, "does not let you in"},
		{"no token", Options{Addr: addr}, Unauthenticated, "no credential"},
		{"nothing there", Options{Addr: addr + "x", Token: token}, Unreachable, "no coordinator answers at " + addr + "x: no such file"},
		{"no port", Options{Addr: "127.0.0.1"}, Invalid, "want host:port"},
		{"bad port", Options{Addr: "127.0.0.1:70000"}, Invalid, "port"},
		{"network", Options{Addr: "10.0.0.1:7480", Token: "x"}, Invalid, "loopback only"},
		{"host", Options{Addr: "example.com:7480", Token: "x"}, Invalid, "loopback only"},
		{"relative socket", Options{Addr: "unix:a"}, Invalid, "absolute"},
		{"empty", Options{}, Invalid, "want host:port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Dial(t.Context(), tt.o)
			if Kind(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Fatalf("Dial: kind %d, %v; want kind %d and %q", Kind(err), err, tt.kind, tt.text)
			}
			if strings.Contains(err.Error(), "rpc error") || strings.Contains(err.Error(), "desc =") {
				t.Errorf("jargon in %q", err)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]ErrorKind{
		codes.Unavailable: Unreachable, codes.NotFound: NotFound, codes.InvalidArgument: Invalid, codes.FailedPrecondition: Refused,
		codes.AlreadyExists: Refused, codes.Unauthenticated: Unauthenticated, codes.Internal: Internal, codes.Unknown: Internal, codes.Unimplemented: Refused,
	} {
		err := fmt.Errorf("outer: %w", (&Client{}).wrap(t.Context(), "op", status.Error(code, "text")))
		if Kind(err) != want || !strings.Contains(err.Error(), "text") {
			t.Errorf("%v: kind %d, %q; want kind %d", code, Kind(err), err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := (&Client{}).wrap(ctx, "op", status.Error(codes.Unavailable, "x"))
	if Kind(err) != Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	if Kind(errors.New("x")) != Internal {
		t.Error("foreign error is not Internal")
	}
}

func TestSubmitStoresMissingFilesOnce(t *testing.T) {
	t.Parallel()
	f := &fake{submit: func(n int) error {
		if n < 3 {
			return status.Error(codes.Unavailable, "no leader")
		}
		return nil
	}}
	addr, _ := serve(t, f)
	dir := t.TempDir()
	var inputs []*volleyv1.Input
	var files []string
	contents := map[string][]byte{"a": []byte("one"), "b": []byte("one"), "empty": nil, "large": bytes.Repeat([]byte("0123456789abcdef"), 3*blobChunk/16+1), "exact": make([]byte, blobChunk)}
	for name, data := range contents {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		inputs = append(inputs, &volleyv1.Input{Path: name, Digest: sum[:]})
		files = append(files, path)
	}
	inputs = append(inputs, &volleyv1.Input{Path: "huge", Digest: make([]byte, 32), External: "/nowhere/huge"})
	files = append(files, "/nowhere/huge")
	c := dial(t, addr)
	r, err := c.Submit(t.Context(), Submission{Spec: &volleyv1.JobSpec{Inputs: inputs}, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if r.JobId != "1" || len(f.keys) != 3 || f.keys[0] == "" || f.keys[0] != f.keys[1] || f.keys[1] != f.keys[2] {
		t.Errorf("job %q, keys %q; want three calls with one key", r.JobId, f.keys)
	}
	if len(f.blobs) != 4 {
		t.Errorf("%d blobs, want 4", len(f.blobs))
	}
	for name, data := range contents {
		sum := sha256.Sum256(data)
		if got, ok := f.blobs[string(sum[:])]; !ok || !bytes.Equal(got, data) {
			t.Errorf("%s: stored %d bytes, %v", name, len(got), ok)
		}
	}

	// A file that changed between hashing and storing.
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := sha256.Sum256([]byte("three"))
	err = c.PutFile(t.Context(), filepath.Join(dir, "a"), other[:])
	if Kind(err) != Refused || !strings.Contains(err.Error(), "changed") {
		t.Errorf("changed file: %v", err)
	}
	err = c.PutFile(t.Context(), filepath.Join(dir, "gone"), other[:])
	if Kind(err) != Invalid {
		t.Errorf("missing file: %v", err)
	}
	if _, err := c.Submit(t.Context(), Submission{Spec: &volleyv1.JobSpec{Inputs: inputs}}); Kind(err) != Invalid {
		t.Errorf("no files: %v", err)
	}
	if _, err := c.Submit(t.Context(), Submission{}); Kind(err) != Invalid {
		t.Errorf("no spec: %v", err)
	}
}

func job(id, name string, state volleyv1.JobState) *volleyv1.Job {
	return &volleyv1.Job{Id: id, Name: name, State: state}
}

// A watch goes on over a coordinator that is killed and comes back.
func TestWatchSurvivesRestart(t *testing.T) {
	t.Parallel()
	running, done := volleyv1.JobState_JOB_STATE_RUNNING, volleyv1.JobState_JOB_STATE_SUCCEEDED
	f := &fake{watch: func(n int, s grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error {
		switch n {
		case 1:
			_ = s.Send(&volleyv1.WatchJobResponse{Job: job("1", "a", running)})
			<-s.Context().Done()
			return nil
		case 2: // ends without a terminal state, as a graceful stop does
			return s.Send(&volleyv1.WatchJobResponse{Job: job("1", "b", running)})
		default:
			return s.Send(&volleyv1.WatchJobResponse{Job: job("1", "c", done)})
		}
	}}
	addr, stop := serve(t, f)
	c := dial(t, addr)
	var got []string
	for j, err := range c.Watch(t.Context(), "1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, j.Name)
		if j.Name == "a" {
			stop()
			listen(t, f, strings.TrimPrefix(addr, "unix:"))
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	f := &fake{watch: func(_ int, s grpc.ServerStreamingServer[volleyv1.WatchJobResponse]) error {
		return status.Error(codes.NotFound, "there is no job 9")
	}}
	addr, stop := serve(t, f)
	c := dial(t, addr)
	for _, err := range c.Watch(t.Context(), "9", time.Second) {
		if Kind(err) != NotFound {
			t.Fatalf("err = %v, want NotFound", err)
		}
	}
	// Nobody comes back: the patience runs out.
	c.retryFor = 50 * time.Millisecond
	stop()
	n := 0
	for _, err := range c.Watch(t.Context(), "9", 0) {
		n++
		if Kind(err) != Unreachable {
			t.Fatalf("err = %v, want Unreachable", err)
		}
	}
	if n != 1 {
		t.Fatalf("%d elements, want 1", n)
	}
	// An ended context ends the wait for a coordinator.
	c.retryFor = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, err := range c.Watch(ctx, "9", 0) {
		if Kind(err) != Canceled && Kind(err) != Unreachable {
			t.Fatalf("err = %v", err)
		}
	}
}

func TestRerunIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := &fake{}
	addr, _ := serve(t, f)
	_, err := dial(t, addr).Rerun(t.Context(), "1", true)
	if Kind(err) != Unreachable || f.reruns != 1 || !strings.Contains(err.Error(), "no leader") {
		t.Fatalf("%d calls, %v; want one and Unreachable", f.reruns, err)
	}
}

func TestResultsAreNotRepeated(t *testing.T) {
	t.Parallel()
	row := func(i uint64) *volleyv1.ListResultsResponse {
		return &volleyv1.ListResultsResponse{Rows: []*volleyv1.Child{{Index: i}, {Index: i + 1}}}
	}
	f := &fake{results: func(n int, s grpc.ServerStreamingServer[volleyv1.ListResultsResponse]) error {
		switch n {
		case 1: // nothing was sent: may be asked again
			return status.Error(codes.Unavailable, "no leader")
		case 2:
			_ = s.Send(row(0))
			_ = s.Send(row(2))
			return status.Error(codes.Unavailable, "gone")
		case 3:
			return nil
		default:
			return errors.New("asked again")
		}
	}}
	addr, _ := serve(t, f)
	c := dial(t, addr)
	var got []uint64
	var last error
	for r, err := range c.Results(t.Context(), &volleyv1.ListResultsRequest{JobId: "1"}) {
		if err != nil {
			last = err
			continue
		}
		got = append(got, r.Index)
	}
	if diff := cmp.Diff([]uint64{0, 1, 2, 3}, got); diff != "" || Kind(last) != Unreachable {
		t.Errorf("%v, error %v", diff, last)
	}
	for r, err := range c.Results(t.Context(), &volleyv1.ListResultsRequest{JobId: "1"}) {
		t.Errorf("no rows: got %v, %v", r, err)
	}
}

func TestListAndResolve(t *testing.T) {
	t.Parallel()
	s := volleyv1.JobState_JOB_STATE_RUNNING
	f := &fake{jobs: []*volleyv1.Job{job("1", "a", s), job("2", "b", s), job("3", "a", s), job("4", "7", s), job("5", "2", s)}}
	addr, _ := serve(t, f)
	c := dial(t, addr)
	var ids []string
	for j, err := range c.List(t.Context(), &volleyv1.ListJobsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.Id)
	}
	if diff := cmp.Diff([]string{"5", "4", "3", "2", "1"}, ids); diff != "" || f.lists != 3 {
		t.Errorf("%d pages: %s", f.lists, diff)
	}
	tests := []struct {
		in, want string
		kind     ErrorKind
	}{
		{in: "2", want: "2"},
		{in: "2:17", want: "2:17"},
		{in: "a", want: "3"},
		{in: "a:0", want: "3:0"},
		{in: "7", want: "4"}, // no such id, but a name
		{in: "9", kind: NotFound},
		{in: "zzz", kind: NotFound},
		{in: "", kind: Invalid},
		{in: "a*", kind: Invalid},
		{in: "2:", kind: Invalid},
		{in: "2:x", kind: Invalid},
		{in: "2:-1", kind: Invalid},
		{in: "2:+1", kind: Invalid},
		{in: "2:1:1", kind: Invalid},
		{in: ":1", kind: Invalid},
	}
	for _, tt := range tests {
		ref, err := c.Resolve(t.Context(), tt.in)
		if tt.want != "" && (err != nil || ref.String() != tt.want) {
			t.Errorf("Resolve(%q) = %v, %v; want %s", tt.in, ref, err, tt.want)
		}
		if tt.want == "" && (err == nil || Kind(err) != tt.kind) {
			t.Errorf("Resolve(%q) = %v, %v; want kind %d", tt.in, ref, err, tt.kind)
		}
	}
	if _, err := c.Job(t.Context(), Ref{ID: "9"}); Kind(err) != NotFound {
		t.Errorf("Job of nothing: %v", err)
	}
}
