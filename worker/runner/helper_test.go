// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is also the program that tests run: what it does is said by
// this variable.
const helperVar = "VOLLEY_RUNNER_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperVar); mode != "" {
		os.Exit(helper(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m,
		// signal.Notify's loop lives as long as the process.
		goleak.IgnoreTopFunction("os/signal.signal_recv"),
		goleak.IgnoreTopFunction("os/signal.loop"))
}

func helper(mode string, args []string) int {
	switch mode {
	case "burn": // use so many milliseconds of CPU
		ms, _ := strconv.Atoi(args[0])
		var ru syscall.Rusage
		for n := 0; ; n++ {
			if n%100_000 == 0 {
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
				if time.Duration(ru.Utime.Nano()+ru.Stime.Nano()) > time.Duration(ms)*time.Millisecond {
					return 0
				}
			}
		}
	case "worker": // run a task for ever
		r, err := New(Options{NoCgroups: true}) // killed before it could remove them
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		res := r.Run(&Spec{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Stderr: 2}, func(t *Task) {
			fmt.Println(t.PID())
		})
		fmt.Fprintln(os.Stderr, res)
		return 1
	case "killstrays":
		found, err := KillStrays(context.Background(), args)
		if err != nil || len(found.Left) > 0 {
			fmt.Fprintln(os.Stderr, found, err)
			return 1
		}
		fmt.Printf("killed=%d\n", found.Killed)
		return 0
	case "run": // run a command as a task
		r, err := New(Options{NoCgroups: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		res := r.Run(&Spec{Path: args[0], Args: args, Stdout: 1, Stderr: 2}, nil)
		return res.ExitCode
	}
	return 99
}

func helperSpec(t testing.TB, mode string, args ...string) *Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Spec{
		Path: self, Args: append([]string{"helper"}, args...),
		Env: append(os.Environ(), helperVar+"="+mode), Stderr: 2,
	}
}

func shell(script string) *Spec {
	return &Spec{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ()}
}

// eat touches so many MiB. It is not a mode of the test binary, since the race
// detector needs more memory than the limits leave.
func eat(mib int64) *Spec {
	return &Spec{
		Path: "/bin/dd",
		Args: []string{"dd", "if=/dev/zero", "of=/dev/null", "count=1", fmt.Sprintf("bs=%d", mib<<20)},
		Env:  os.Environ(),
	}
}

func newRunner(t testing.TB, opts Options) *Runner {
	t.Helper()
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// start runs the spec on a goroutine, with its standard output in a pipe.
func start(t testing.TB, r *Runner, spec *Spec) (*Task, *bufio.Reader, <-chan Result) {
	t.Helper()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pr.Close() })
	spec.Stdout = int(pw.Fd())
	tasks := make(chan *Task, 1)
	results := make(chan Result, 1)
	go func() {
		res := r.Run(spec, func(task *Task) {
			_ = pw.Close()
			tasks <- task
		})
		results <- res
	}()
	select {
	case task := <-tasks:
		return task, bufio.NewReader(pr), results
	case res := <-results:
		t.Fatalf("not started: %+v", res)
		return nil, nil, nil
	}
}

func line(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("read a line of output: %v", err)
	}
	return strings.TrimSpace(s)
}

func pidLine(t testing.TB, r *bufio.Reader) int {
	t.Helper()
	pid, err := strconv.Atoi(line(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// output runs the spec and returns what it printed.
func output(t testing.TB, r *Runner, spec *Spec) (string, Result) {
	t.Helper()
	_, out, results := start(t, r, spec)
	b, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), <-results
}

// gone says whether no process of that id exists, a zombie not counted.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}
