// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator/dispatch/workertest"
	"github.com/volley-batch/volley/coordinator/journal"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The pool of a library under raft, which lives as long as the process.
		goleak.IgnoreTopFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

const (
	patience = 60 * time.Second
	token    = "secret"
)

func start(t testing.TB, c Config) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.DataDir == "" {
		c.DataDir = t.TempDir()
	}
	s, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func array(size uint64) *volleyv1.JobSpec {
	return &volleyv1.JobSpec{Name: "work", Command: []string{"true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}}}
}

func submit(t testing.TB, s *Server, size uint64) string {
	t.Helper()
	r, err := volleyv1.NewJobServiceClient(s.Conn()).SubmitJob(limit(t), &volleyv1.SubmitJobRequest{Spec: array(size)})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetJobId()
}

func TestReopenKeepsEverything(t *testing.T) {
	t.Parallel()
	c := Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", Token: token, Version: "v"}
	s := start(t, c)
	ctx := limit(t)
	cl, err := client.Dial(ctx, client.Options{Addr: s.Addr(), Token: token, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	first, err := cl.ServerInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := workertest.New(workertest.Options{NodeID: "n", Run: func(task workertest.Task) workertest.Result {
		return workertest.Result{Hold: task.Index == 7}
	}})
	if err := w.Connect(ctx, s.Conn()); err != nil {
		t.Fatal(err)
	}
	id := submit(t, s, 8)
	for j, err := range cl.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if j.GetCounts().GetSucceeded() == 7 && j.GetCounts().GetRunning() == 1 {
			break
		}
	}
	stop(t, s)
	stop(t, s) // no-op
	if status.Code(w.Ended(ctx)) != codes.Unavailable {
		t.Errorf("the worker's session ended with %v", w.Ended(ctx))
	}
	w.Finish(1, 7, workertest.Result{})
	s = start(t, c)
	if err := w.Connect(ctx, s.Conn()); err != nil {
		t.Fatal(err)
	}
	own := client.New(s.Conn())
	for j, err := range own.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if client.Terminal(j.GetState()) && (j.GetCounts().GetSucceeded() != 8 || j.GetFinishedAttempts() != 8 || j.GetLostAttempts() != 0) {
			t.Errorf("job is %v", j)
		}
	}
	again, err := own.ServerInfo(ctx)
	if err != nil || again.GetClusterId() != first.GetClusterId() || again.GetClusterId() == "" {
		t.Errorf("cluster is %v, was %v (%v)", again, first, err)
	}
}

// TestTokenGuardsEveryMethod calls every method of every service.
func TestTokenGuardsEveryMethod(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	s := start(t, Config{DataDir: dir, Listen: "127.0.0.1:0", Socket: socket, Token: token})
	ctx := limit(t)
	seen := 0
	for _, addr := range []string{s.Addr(), "unix:" + socket} {
		for _, with := range []string{"wrong", ""} {
			o := client.Options{Addr: addr, Token: with}
			conn, err := client.Connect(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, svc := range []grpc.ServiceDesc{
				volleyv1.JobService_ServiceDesc, volleyv1.ClusterService_ServiceDesc, volleyv1.BlobService_ServiceDesc, volleyv1.WorkerService_ServiceDesc,
			} {
				for _, m := range svc.Methods {
					seen++
					err := conn.Invoke(ctx, "/"+svc.ServiceName+"/"+m.MethodName, &emptypb.Empty{}, &emptypb.Empty{})
					if status.Code(err) != codes.Unauthenticated {
						t.Errorf("%s with token %q: %v", m.MethodName, with, err)
					}
				}
				for _, m := range svc.Streams {
					seen++
					st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+svc.ServiceName+"/"+m.StreamName)
					if err != nil {
						t.Fatal(err)
					}
					_ = st.SendMsg(&emptypb.Empty{}) // RecvMsg says why
					if err := st.RecvMsg(&emptypb.Empty{}); status.Code(err) != codes.Unauthenticated {
						t.Errorf("%s with token %q: %v", m.StreamName, with, err)
					}
				}
			}
			_ = conn.Close()
		}
	}
	if want := len(registered(s)) * 4; seen != want || seen == 0 {
		t.Errorf("%d calls were made, the server has methods for %d", seen, want)
	}
}

// registered is every method that the outer server has.
func registered(s *Server) (list []string) {
	for name, svc := range s.servers[len(s.servers)-1].GetServiceInfo() {
		for _, m := range svc.Methods {
			list = append(list, name+"/"+m.Name)
		}
	}
	return list
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(limit(t), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		c    Config
		text string
		// untouched: the journal was not made.
		untouched bool
	}{
		"no token":     {Config{Listen: "127.0.0.1:0"}, "needs a token", true},
		"socket alone": {Config{Socket: "/tmp/x"}, "needs a token", true},
		"network":      {Config{Listen: "0.0.0.0:7480", Token: token}, `"0.0.0.0:7480"`, true},
		"all":          {Config{Listen: ":7480", Token: token}, "loopback", true},
		"host name":    {Config{Listen: "example.org:1", Token: token}, "loopback", true},
		"no port":      {Config{Listen: "127.0.0.1", Token: token}, "host:port", true},
		"port taken":   {Config{Listen: taken.Addr().String(), Token: token}, "address already in use", true},
		"not a socket": {Config{Socket: file, Token: token}, "no socket", false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.c.DataDir = t.TempDir()
			s, err := Open(limit(t), tc.c)
			if err == nil {
				stop(t, s)
			}
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error is %v, want %q", err, tc.text)
			}
			if made, _ := os.ReadDir(tc.c.DataDir); tc.untouched && len(made) > 0 {
				t.Errorf("left %v behind", made)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file in the socket's place: %q, %v", b, err)
	}
	if _, err := Open(limit(t), Config{}); err == nil || !strings.Contains(err.Error(), "data directory") {
		t.Errorf("without a directory: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, Config{DataDir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, Config{DataDir: dir})
	half := filepath.Join(dir, "blobs", ".partial-1")
	if err := os.WriteFile(half, []byte("an upload under way"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(limit(t), Config{DataDir: dir})
	if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("error is %v, want the process id %d", err, os.Getpid())
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("the second server touched the first one's files: %v", err)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{DataDir: dir, Socket: filepath.Join(dir, "s"), Token: token}
	s := start(t, c)
	info, err := os.Stat(c.Socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v, %v", info, err)
	}
	stop(t, s)
	// One that a killed process has left behind.
	l, err := new(net.ListenConfig).Listen(limit(t), "unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	_ = l.Close()
	start(t, c)
	cl, err := client.Dial(limit(t), client.Options{Addr: "unix:" + c.Socket, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	_ = cl.Close()
}

// TestCloseEndsWatches: whoever waits hears of it, and Close does not wait for
// them to go.
func TestCloseEndsWatches(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Listen: "127.0.0.1:0", Token: token})
	id := submit(t, s, 5)
	conn, err := client.Connect(client.Options{Addr: s.Addr(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var streams []grpc.ServerStreamingClient[volleyv1.WatchJobResponse]
	for range 50 {
		w, err := volleyv1.NewJobServiceClient(conn).WatchJob(limit(t), &volleyv1.WatchJobRequest{JobId: id, MinIntervalMs: 3_600_000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Recv(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, w)
	}
	stop(t, s)
	for _, w := range streams {
		if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("a watch ended with %v", err)
		}
	}
}

// TestBrokenJournal: the server says so, and nobody waits for it for ever.
func TestBrokenJournal(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	id := submit(t, s, 5)
	w, err := volleyv1.NewJobServiceClient(s.Conn()).WatchJob(limit(t), &volleyv1.WatchJobRequest{JobId: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := s.journal.Close(); err != nil { // under the server's feet
		t.Fatal(err)
	}
	_, err = volleyv1.NewJobServiceClient(s.Conn()).SubmitJob(limit(t), &volleyv1.SubmitJobRequest{Spec: array(1)})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("submit without a journal: %v", err)
	}
	select {
	case err := <-s.Err():
		if !errors.Is(err, journal.ErrClosed) {
			t.Errorf("Err has %v", err)
		}
	case <-limit(t).Done():
		t.Error("Err says nothing")
	}
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v", err)
	}
}

// TestLargeMessages: what the API takes passes the transport.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Listen: "127.0.0.1:0", Token: token})
	conn, err := client.Connect(client.Options{Addr: s.Addr(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	jobs := volleyv1.NewJobServiceClient(conn)
	spec := array(1)
	spec.Command = append(spec.Command, strings.Repeat("x", 40<<20))
	r, err := jobs.SubmitJob(limit(t), &volleyv1.SubmitJobRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	d, err := jobs.DescribeJobs(limit(t), &volleyv1.DescribeJobsRequest{JobIds: []string{r.GetJobId()}, WithSpec: true})
	if err != nil || len(d.GetJobs()[0].GetSpec().GetCommand()[1]) != 40<<20 {
		t.Errorf("the spec did not come back: %v", err)
	}
	// A manifest of 32 MiB is looked at, not cut off by the transport.
	spec = array(1)
	spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: &volleyv1.Map{Manifest: bytes.Repeat([]byte{0xff}, 32<<20)}}}
	_, err = jobs.SubmitJob(limit(t), &volleyv1.SubmitJobRequest{Spec: spec})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "manifest") {
		t.Errorf("32 MiB of rubbish: %v", err)
	}
	w := workertest.New(workertest.Options{NodeID: "n"})
	if err := w.Connect(limit(t), conn); err != nil {
		t.Fatal(err)
	}
	for j, err := range client.New(conn).Watch(limit(t), r.GetJobId(), 0) {
		if err != nil || client.Terminal(j.GetState()) && j.GetCounts().GetSucceeded() != 1 {
			t.Errorf("job is %v, %v", j, err)
		}
	}
	if err := w.Bye(); !errors.Is(err, io.EOF) {
		t.Errorf("bye: %v", err)
	}
}

// TestVanishedPeer: a connection whose other end is silent is cut off, one
// that is only idle stays.
func TestVanishedPeer(t *testing.T) {
	t.Parallel()
	// The shortest that gRPC takes.
	s, err := open(limit(t), Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", Token: token}, keepalive.ServerParameters{Time: time.Second, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	idle, err := client.Dial(limit(t), client.Options{Addr: s.Addr(), Token: token, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	silent, err := new(net.Dialer).DialContext(limit(t), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// The preface and empty settings of HTTP/2; then not a word.
	if _, err := io.WriteString(silent, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	if err := silent.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without a sign of life was not cut off")
	}
	if _, err := idle.ServerInfo(limit(t)); err != nil {
		t.Errorf("a connection that was idle as long: %v", err)
	}
}

// TestBlobsOfForgottenJobs are removed at the start, others are not.
func TestBlobsOfForgottenJobs(t *testing.T) {
	t.Parallel()
	c := Config{DataDir: t.TempDir()}
	s := start(t, c)
	dir := filepath.Join(c.DataDir, "blobs")
	store := func(content string) (digest []byte, path string) {
		sum := sha256.Sum256([]byte(content))
		st, err := volleyv1.NewBlobServiceClient(s.Conn()).PutBlob(limit(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Send(&volleyv1.PutBlobRequest{Digest: sum[:], Data: []byte(content)}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.CloseAndRecv(); err != nil {
			t.Fatal(err)
		}
		return sum[:], filepath.Join(dir, hex.EncodeToString(sum[:]))
	}
	named, namedPath := store("named")
	_, oldPath := store("old")
	_, youngPath := store("young")
	spec := array(1)
	spec.Inputs = []*volleyv1.Input{{Path: "in", Digest: named}}
	if _, err := volleyv1.NewJobServiceClient(s.Conn()).SubmitJob(limit(t), &volleyv1.SubmitJobRequest{Spec: spec}); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * blobGrace)
	for _, p := range []string{namedPath, oldPath} {
		if err := os.Chtimes(p, long, long); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, s)
	s = start(t, c)
	for gone := false; !gone; {
		if err := limit(t).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(oldPath)
		if gone = errors.Is(err, os.ErrNotExist); !gone {
			// The round trip yields to the collection.
			submit(t, s, 1)
		}
	}
	for _, p := range []string{namedPath, youngPath} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}
