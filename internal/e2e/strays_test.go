// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// marked lists the living processes that were started with the entry in their
// environment.
func marked(t *testing.T, entry string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+entry+"\x00")) {
			continue // gone, of another user, or not ours
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// background starts a command that the test kills.
func (f folder) background(args ...string) *process {
	f.t.Helper()
	p := &process{cmd: exec.Command(volley, args...), log: new(logBuffer), done: make(chan struct{})}
	p.cmd.Dir = f.dir
	p.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(f.dir, "config"))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	f.t.Cleanup(p.kill)
	return p
}

func (f folder) lines(name string) []string {
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return nil // not yet
	}
	return strings.Fields(string(b))
}

// TestStrays: `volley run` is killed while its tasks have children in the
// foreground, in the background and in a session of their own. The next run
// finds them alive, and starts nothing before they are gone; each index runs
// once more. What another directory runs is left alone.
func TestStrays(t *testing.T) {
	t.Parallel()
	const tasks = 4
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// A task notes its index, its worker, and how many processes of the first
	// run it sees. In the first run it leaves three processes running. It asks
	// for no resources, so that it has no cgroup, whose remains are killed anyway.
	const job = `name: strays
array: %d
workdir: .
run: |
  if [ -e first ]; then
    alive=0
    if grep -qzxF "VOLLEY_WORKER=$(cat first)" /proc/[0-9]*/environ 2>/dev/null; then alive=1; fi
    echo "$VOLLEY_INDEX:$alive" >> second.txt
    exit 0
  fi
  echo "$VOLLEY_WORKER" >> workers.txt
  sleep 573 &
  setsid sleep 574 &
  echo $VOLLEY_INDEX >> first.txt
  sh -c 'sleep 575; true'
  true
`
	f, neighbour := newFolder(t), newFolder(t)
	for _, d := range []folder{f, neighbour} {
		d.write("job.yaml", fmt.Sprintf(job, tasks))
	}
	// Per task: its shell, three sleeps, and the shell of the third.
	const perTask = 5
	start := func(d folder) (*process, string) {
		t.Helper()
		p := d.background("run", "-j", strconv.Itoa(tasks), "job.yaml")
		var entry string
		until(ctx, t, "the processes of the tasks", func() bool {
			w := d.lines("workers.txt")
			if len(w) < tasks || len(d.lines("first.txt")) < tasks {
				return false
			}
			entry = "VOLLEY_WORKER=" + w[0]
			return len(marked(t, entry)) == tasks*perTask
		})
		t.Cleanup(func() {
			for _, pid := range marked(t, entry) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile
			}
		})
		return p, entry
	}
	p, first := start(f)
	_, others := start(neighbour)
	if first == others {
		t.Fatalf("two workers call themselves the same: %s", first)
	}
	p.kill()
	// The kernel kills the shells, which are the tasks' first processes.
	until(ctx, t, "the death of the first processes", func() bool { return len(marked(t, first)) <= tasks*(perTask-1) })
	if n := len(marked(t, first)); n != tasks*(perTask-1) {
		t.Fatalf("%d processes are alive after the kill: there is nothing to find", n)
	}

	f.write("first", strings.TrimPrefix(first, "VOLLEY_WORKER=")+"\n")
	out, errs, code := f.volley("run", "-j", strconv.Itoa(tasks), "-o", "json", "job.yaml")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	if s := lastObject(t, out); s.State != "SUCCEEDED" || s.Succeeded != tasks {
		t.Errorf("%+v", s)
	}
	if left := marked(t, first); len(left) > 0 {
		t.Errorf("processes of the killed run are alive: %v", left)
	}
	ran := map[string]int{}
	for _, line := range f.lines("second.txt") {
		ran[line]++
	}
	for i := range tasks {
		if n := ran[fmt.Sprintf("%d:0", i)]; n != 1 {
			t.Errorf("index %d ran %d times after the kill with none of the old processes beside it, want once: %v", i, n, ran)
		}
	}
	if len(ran) != tasks {
		t.Errorf("executions after the kill, and whether they saw old processes: %v", ran)
	}
	if n := len(f.lines("first.txt")); n != tasks {
		t.Errorf("%d executions before the kill, want %d", n, tasks)
	}
	if n := len(marked(t, others)); n != tasks*perTask {
		t.Errorf("%d processes of another directory are alive, want %d", n, tasks*perTask)
	}
	if _, err := os.Stat(filepath.Join(f.dir, ".volley", "worker", "running")); err == nil {
		t.Error("a clean end leaves the note of an unclean one")
	}
}
