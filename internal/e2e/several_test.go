// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start starts a command in the folder; it is killed with the test at last.
func (f folder) start(args ...string) *process {
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

// wait waits for the end of a command.
func (p *process) wait(t *testing.T) (code int) {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatalf("still there after a minute:\n%s", p.log)
		return 0
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// come waits for a condition that only another process can bring about.
func come(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s within a minute", what)
		}
	}
}

// tally counts what tasks have appended to a file.
func (f folder) tally(name string) map[string]int {
	b, _ := os.ReadFile(filepath.Join(f.dir, name))
	n := map[string]int{}
	for line := range bytes.Lines(b) {
		n[strings.TrimSpace(string(line))]++
	}
	return n
}

func (f folder) exists(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, name))
	return err == nil
}

// TestSixAtOnce: jobs that are run in one directory at once all succeed, and
// every task of every job runs once, whoever leaves first.
func TestSixAtOnce(t *testing.T) {
	t.Parallel()
	const rounds, commands, tasks = 3, 6, 12
	for range rounds {
		f := newFolder(t)
		var all []*process
		for k := range commands {
			f.write(fmt.Sprintf("%d.yaml", k), fmt.Sprintf(`name: job-%d
array: %d
workdir: .
resources: {cpu: 0.25}
run: |
  echo %d.$VOLLEY_INDEX >> ran
  sleep 0.0%d
`, k, tasks, k, 2*k))
			all = append(all, f.start("run", fmt.Sprintf("%d.yaml", k)))
		}
		for k, p := range all {
			if code := p.wait(t); code != 0 {
				t.Errorf("job %d: exit %d\n%s", k, code, p.log)
			}
		}
		ran := f.tally("ran")
		for k := range commands {
			for i := range tasks {
				if n := ran[fmt.Sprintf("%d.%d", k, i)]; n != 1 {
					t.Errorf("task %d of job %d ran %d times", i, k, n)
				}
			}
		}
	}
}

// TestOwnerStays: the command that runs the tasks of another one does not end
// before them.
func TestOwnerStays(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("short.yaml", "name: short\nworkdir: .\nrun: until test -e short.go; do sleep 0.02; done\n")
	f.write("long.yaml", "name: long\nworkdir: .\nresources: {cpu: 0.1}\nrun: echo ran >> long.ran; until test -e long.go; do sleep 0.02; done\n")
	short := f.start("run", "short.yaml", "-o", "json")
	come(t, "owner", func() bool { return f.exists(".volley/endpoint.json") })
	long := f.start("run", "long.yaml")
	come(t, "task of the guest", func() bool { return f.exists("long.ran") })
	f.write("short.go", "")
	come(t, "word about it", func() bool {
		return strings.Contains(short.log.String(), "job 2 of another command is still running here: waiting for it")
	})
	if !strings.Contains(short.log.String(), `"state":"SUCCEEDED"`) {
		t.Errorf("the result is not told before the wait:\n%s", short.log)
	}
	f.write("long.go", "")
	for _, p := range []*process{short, long} {
		if code := p.wait(t); code != 0 {
			t.Errorf("exit %d\n%s", code, p.log)
		}
	}
	if n := f.tally("long.ran")["ran"]; n != 1 {
		t.Errorf("the guest's task ran %d times", n)
	}
}

// TestOwnerIsSentAway: Ctrl-C ends the waiting; the task goes back and on.
func TestOwnerIsSentAway(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("short.yaml", "name: short\nworkdir: .\nrun: until test -e short.go; do sleep 0.02; done\n")
	f.write("long.yaml", "name: long\nworkdir: .\nresources: {cpu: 0.1}\nrun: echo ran >> long.ran; until test -e long.go; do sleep 0.02; done\n")
	short := f.start("run", "short.yaml")
	come(t, "owner", func() bool { return f.exists(".volley/endpoint.json") })
	long := f.start("run", "long.yaml")
	come(t, "task of the guest", func() bool { return f.exists("long.ran") })
	f.write("short.go", "")
	come(t, "word about it", func() bool { return strings.Contains(short.log.String(), "is still running here") })
	short.signal(t, os.Interrupt)
	if code := short.wait(t); code != 0 || !strings.Contains(short.log.String(), "job 2 was running here too: it is stopped and handed back") {
		t.Errorf("exit %d\n%s", code, short.log)
	}
	come(t, "second start", func() bool { return f.tally("long.ran")["ran"] == 2 })
	f.write("long.go", "")
	if code := long.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, long.log)
	}
}

// TestHangUp: a terminal that closes stops a run cleanly, also when it says so
// twice; under nohup it does not.
func TestHangUp(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("job.yaml", "name: job\nworkdir: .\nrun: trap 'echo > stopped; exit 1' TERM; echo > started; until test -e go; do sleep 0.02; done\n")
	p := f.start("run", "job.yaml")
	come(t, "task", func() bool { return f.exists("started") })
	p.signal(t, syscall.SIGHUP)
	_ = p.cmd.Process.Signal(syscall.SIGHUP) // it may have ended
	if code := p.wait(t); code != 130 || !f.exists("stopped") {
		t.Errorf("exit %d, the task was asked to stop: %v\n%s", code, f.exists("stopped"), p.log)
	}
	if err := os.Remove(filepath.Join(f.dir, "started")); err != nil {
		t.Fatal(err)
	}
	p = &process{cmd: exec.Command("nohup", volley, "run", "job.yaml"), log: new(logBuffer), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = f.dir, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	come(t, "task", func() bool { return f.exists("started") })
	p.signal(t, syscall.SIGHUP)
	f.write("go", "")
	if code := p.wait(t); code != 0 {
		t.Errorf("under nohup: exit %d\n%s", code, p.log)
	}
}

// TestKilledRunRepeatsNothing: after kill -9 the next run takes over all that
// had finished, also what the coordinator had not recorded yet.
func TestKilledRunRepeatsNothing(t *testing.T) {
	t.Parallel()
	const tasks, rounds = 40, 4
	// A worker may be killed between the end of a task and the record of it,
	// which takes some milliseconds: the last tasks are left out.
	const last = 6
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			f.write("job.yaml", fmt.Sprintf("name: job\narray: %d\nconcurrency: 1\nworkdir: .\nrun: echo $VOLLEY_INDEX >> ran; sleep 0.03\n", tasks))
			p := f.start("run", "job.yaml")
			come(t, "tasks", func() bool { return len(f.tally("ran")) > 2*last+3*round })
			p.kill()
			began := len(f.tally("ran"))
			out, errs, code := f.volley("run", "job.yaml")
			if code != 0 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			ran := f.tally("ran")
			for i := range tasks {
				n := ran[fmt.Sprint(i)]
				if n == 0 || i < began-last && n != 1 {
					t.Errorf("task %d of %d that had begun ran %d times\n%s", i, began, n, out)
				}
			}
		})
	}
}

// TestSameFileTwice: the second command follows the job of the first, also when
// both begin at once; --fresh does the work again.
func TestSameFileTwice(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("job.yaml", "name: job\narray: 8\nworkdir: .\nresources: {cpu: 0.1}\nrun: echo $VOLLEY_INDEX >> ran; until test -e go; do sleep 0.02; done\n")
	both := []*process{f.start("run", "job.yaml"), f.start("run", "job.yaml")}
	const follows = "job 1 of this name is already doing this: following it"
	come(t, "follower", func() bool {
		return strings.Contains(both[0].log.String(), follows) != strings.Contains(both[1].log.String(), follows)
	})
	out, errs, code := f.volley("run", "--dry-run", "job.yaml")
	if code != 0 || !strings.Contains(out, "8 tasks: 8 being done by job 1\n") {
		t.Errorf("dry run: exit %d, %q, %q", code, out, errs)
	}
	// Who follows may leave; the job is not its own.
	third := f.start("run", "job.yaml")
	come(t, "third", func() bool { return strings.Contains(third.log.String(), follows) })
	third.signal(t, os.Interrupt)
	if code := third.wait(t); code != 130 || !strings.Contains(third.log.String(), "job 1 is that of another command and was not terminated") {
		t.Errorf("exit %d\n%s", code, third.log)
	}
	f.write("go", "")
	for _, p := range both {
		if code := p.wait(t); code != 0 {
			t.Errorf("exit %d\n%s", code, p.log)
		}
	}
	for i := range 8 {
		if n := f.tally("ran")[fmt.Sprint(i)]; n != 1 {
			t.Errorf("task %d ran %d times", i, n)
		}
	}
	if out, errs, code = f.volley("run", "--fresh", "job.yaml", "-o", "name"); code != 0 || out != "2\n" {
		t.Errorf("fresh: exit %d, %q, %q", code, out, errs)
	}
}

// TestWaitOutlivesTheOwner: who waits for a task that has not begun
// goes on with the next process that runs the tasks, and its output is there.
func TestWaitOutlivesTheOwner(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("first.yaml", "name: first\nworkdir: .\nrun: echo > started; sleep 600\n")
	f.write("second.yaml", "name: second\nrun: echo hello\n")
	owner := f.start("run", "first.yaml", "--jobs", "1")
	come(t, "task", func() bool { return f.exists("started") })
	guest := f.start("run", "second.yaml")
	come(t, "second job", func() bool {
		out, _, code := f.volley("ls", "-o", "name")
		return code == 0 && strings.Contains(out, "2\n")
	})
	waited := f.start("wait", "2", "-o", "name")
	owner.signal(t, syscall.SIGTERM)
	if code := owner.wait(t); code != 130 {
		t.Errorf("owner: exit %d\n%s", code, owner.log)
	}
	for name, p := range map[string]*process{"guest": guest, "wait": waited} {
		if code := p.wait(t); code != 0 {
			t.Errorf("%s: exit %d\n%s", name, code, p.log)
		}
	}
	if out, errs, code := f.volley("logs", "2"); out != "hello\n" || code != 0 {
		t.Errorf("logs: exit %d, %q, %q", code, out, errs)
	}
}
