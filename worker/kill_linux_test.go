// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/testing/protocmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// TestHelperWorker is the worker process of TestKilledWorker.
func TestHelperWorker(t *testing.T) {
	addr := os.Getenv("HELPER_COORDINATOR")
	if addr == "" {
		return // an ordinary run of the tests: nothing to help
	}
	a, err := New(Config{
		DataDir:  os.Getenv("HELPER_DATA"),
		Capacity: cpus(2),
		Dial: func(context.Context) (grpc.ClientConnInterface, io.Closer, error) {
			conn, err := grpc.NewClient("unix:"+addr, append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
			return conn, conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestKilledWorker kills a worker process with -9: its tasks die with it, and
// all they have started before the next worker connects; its results do not,
// and its output is there.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	dir := t.TempDir()
	addr := filepath.Join(dir, "c.sock")
	listener, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(listener) }()
	t.Cleanup(func() {
		c.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	child := filepath.Join(dir, "child")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *exec.Cmd {
		cmd := exec.Command(exe, "-test.run=^TestHelperWorker$")
		cmd.Env = append(os.Environ(), "HELPER_COORDINATOR="+addr, "HELPER_DATA="+filepath.Join(dir, "data"))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it may have ended
			if err := cmd.Wait(); err != nil && t.Failed() {
				t.Logf("worker: %v\n%s", err, out.String())
			}
		})
		return cmd
	}
	first := begin()
	s := c.welcomed()
	s.send(&volleyv1.ConnectResponse{
		Jobs: []*volleyv1.WorkerJob{
			jobOf(1, 2, &volleyv1.JobSpec{Run: "echo done; exit 3"}),
			jobOf(2, 2, &volleyv1.JobSpec{Run: "sleep 600 & echo $! > " + child + "; exec sleep 600 > " + fifo}),
		},
		Grants: []*volleyv1.Grant{grantOf(1, 1, 0, 1), {LeaseId: 2, Job: 2, Attempt: 1, Parallel: 1, Runs: []uint64{0, 2}}},
	})
	// Opens when the task does.
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	l := newLedger(t)
	s.collect(l, false, "result and start", func() bool { return l.finished(1) == 1 && size(l.started, 2) == 1 })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The task ends with the worker's thread, the lock of the directory a little
	// later with its process.
	_ = first.Wait() // killed
	// The task holds the other end for as long as it lives.
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the task after the death of its worker: %v, want its end", err)
	}
	// What the task had started goes on, until the next worker says Hello.
	text, err := os.ReadFile(child)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !livesAsTask(pid) {
		t.Fatalf("process %q of the task before the next start: %v", text, err)
	}
	begin()
	s2 := c.welcomed()
	if livesAsTask(pid) {
		t.Error("a process of the killed worker's task is alive when the next one says Hello")
		_ = syscall.Kill(pid, syscall.SIGKILL) // the failure is reported already
	}
	want := []*volleyv1.HeldLease{{LeaseId: 1, Finished: []uint64{0, 1}}}
	if diff := cmp.Diff(want, s2.hello.GetHeld(), protocmp.Transform()); diff != "" {
		t.Errorf("held after the restart (-want +got):\n%s", diff)
	}
	l2 := newLedger(t)
	s2.collect(l2, true, "spooled result", func() bool { return l2.finished(1) == 1 })
	if got := l2.results[1][0]; got.exit != 3 || got != l.results[1][0] {
		t.Errorf("result after the restart %+v, was %+v", got, l.results[1][0])
	}
	x := &site{t: t, s: s2}
	if out, problem := x.log(&volleyv1.LogRequest{}); out != "done\n" {
		t.Errorf("output after the restart: %q %s", out, problem)
	}
}
