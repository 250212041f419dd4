// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNoLeaks is not parallel: it counts what the whole process holds.
func TestNoLeaks(t *testing.T) {
	r := newRunner(t, Options{})
	done := make(chan struct{})
	run := func(n int) {
		go func() {
			defer func() { done <- struct{}{} }()
			slot := r.NewSlot()
			defer slot.Close()
			spec := &Spec{Path: "/bin/true", Args: []string{"true"}, Timeout: time.Minute}
			for range n {
				if res := slot.Run(spec, nil); res.Outcome != succeeded {
					t.Errorf("result %+v", res)
					return
				}
			}
		}()
	}
	work := func(n int) {
		for range 4 {
			run(n)
		}
		for range 4 {
			<-done
		}
	}
	work(5) // make the runtime's threads and descriptors
	fds, threads, goroutines := count(t, "/proc/self/fd"), count(t, "/proc/self/task"), runtime.NumGoroutine()
	work(500)
	if n := count(t, "/proc/self/fd"); n > fds {
		t.Errorf("%d descriptors after 2,000 tasks, %d before", n, fds)
	}
	// The runtime may add a few threads of its own at any time.
	if n := count(t, "/proc/self/task"); n > threads+8 {
		t.Errorf("%d threads after 2,000 tasks, %d before", n, threads)
	}
	// The last ones may still be on their way out.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Errorf("%d goroutines after 2,000 tasks, %d before", runtime.NumGoroutine(), goroutines)
			break
		}
	}
	var ws syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child is left: wait4 gave %d, %v", pid, err)
	}
}

// exited blocks until the process has ended (ten seconds at most).
func exited(t *testing.T, pidfd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
}

func TestTaskDiesWithTheWorker(t *testing.T) {
	t.Parallel()
	spec := helperSpec(t, "worker")
	worker := exec.Command(spec.Path)
	worker.Env = spec.Env
	worker.Stderr = os.Stderr
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidLine(t, bufio.NewReader(out))
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("the task is not running: %v", err)
	}
	defer unix.Close(fd)
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait()
	if !exited(t, fd) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Error("the task outlived the killed worker")
	}
}

func TestSignalsAreClean(t *testing.T) {
	t.Parallel()
	spec := helperSpec(t, "run", "/bin/sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status")
	// As nohup and a script's background leave it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap '' HUP INT; exec "$0" "$@"`, spec.Path}, spec.Args[1:]...)...)
	cmd.Env = spec.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.Fields(string(out))
	if len(got) != 4 {
		t.Fatalf("a task's signals: %q", got)
	}
	for _, mask := range []string{got[1], got[3]} {
		bits, err := strconv.ParseUint(mask, 16, 64)
		// Signals 32 and 33 are the C library's own: some versions of make pass
		// them on ignored, and no program can tell.
		if err != nil || bits&^(3<<31) != 0 {
			t.Errorf("a task's signals: %q; want nothing blocked or ignored", got)
		}
	}
}
