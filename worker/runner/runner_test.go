// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	succeeded  = volleyv1.Outcome_OUTCOME_UNSPECIFIED
	failed     = volleyv1.Outcome_OUTCOME_FAILED
	notStarted = volleyv1.Outcome_OUTCOME_NOT_STARTED
	timedOut   = volleyv1.Outcome_OUTCOME_TIMED_OUT
	outOfMem   = volleyv1.Outcome_OUTCOME_OUT_OF_MEMORY
	killed     = volleyv1.Outcome_OUTCOME_KILLED
)

// measured are the fields that differ from run to run.
var measured = cmpopts.IgnoreFields(Result{}, "StartedAt", "Duration", "PeakMemoryBytes", "CPUTime")

func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	tests := []struct {
		name   string
		script string
		want   Result
	}{
		{"success", "exit 0", Result{Outcome: succeeded}},
		{"one", "exit 1", Result{Outcome: failed, ExitCode: 1}},
		{"greatest", "exit 255", Result{Outcome: failed, ExitCode: 255}},
		{"killed by itself", "kill -9 $$", Result{Outcome: failed, ExitCode: 137, Signal: syscall.SIGKILL}},
		{"terminated by itself", "kill -TERM $$", Result{Outcome: failed, ExitCode: 143, Signal: syscall.SIGTERM}},
		{"program that says 137", "exit 137", Result{Outcome: failed, ExitCode: 137}},
		{"background process of the group", "sleep 1000 & exit 3", Result{Outcome: failed, ExitCode: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			got := r.Run(shell(tt.script), nil)
			if diff := cmp.Diff(tt.want, got, measured); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if got.StartedAt.Before(before) || got.Duration <= 0 || got.Duration > time.Since(before) {
				t.Errorf("started at %v, took %v, of %v since %v", got.StartedAt, got.Duration, time.Since(before), before)
			}
		})
	}
}

func TestSpecReachesTheTask(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	dir := t.TempDir()
	spec := shell(`pwd -P; echo "$A|$B|$#|$1|$2"; cat; ps -o pgid= -p $$ | tr -d ' '; echo $$`)
	spec.Args = append(spec.Args, "zero", "one two", "")
	spec.Env = []string{"A=1", "B=two words", "PATH=" + os.Getenv("PATH")}
	spec.Dir = dir
	out, res := output(t, r, spec)
	if res.Outcome != succeeded {
		t.Fatalf("result %+v", res)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 || !strings.HasSuffix(lines[0], dir) || lines[1] != "1|two words|2|one two|" {
		t.Errorf("task saw %q", lines)
	}
	if lines[2] != lines[3] {
		t.Errorf("process group %s of process %s: want its own", lines[2], lines[3])
	}
}

func TestTaskSeesOnlyThreeDescriptors(t *testing.T) {
	t.Parallel()
	// As a careless parent leaves it to the worker.
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = syscall.Close(p[0]), syscall.Close(p[1]) }()
	r := newRunner(t, Options{})
	out, res := output(t, r, shell(fmt.Sprintf(
		`n=0; while [ $n -le %d ]; do if [ -e /dev/fd/$n ]; then echo $n; fi; n=$((n+1)); done`, max(p[1], 64)+20)))
	if res.Outcome != succeeded || out != "0\n1\n2\n" {
		t.Errorf("descriptors %q, result %+v; want 0, 1, 2", out, res)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	tests := []struct {
		name   string
		script string
		grace  time.Duration
		want   Result
	}{
		{"obeys SIGTERM", "sleep 1000", 0, Result{
			Outcome: timedOut, ExitCode: 143, Signal: syscall.SIGTERM, Reason: ReasonTimeout,
		}},
		{"cleans up and says success", "trap 'exit 0' TERM; sleep 1000 & wait", 0, Result{
			Outcome: timedOut, Reason: ReasonTimeout,
		}},
		{"ignores SIGTERM", "trap '' TERM; while :; do sleep 1; done", 50 * time.Millisecond, Result{
			Outcome: timedOut, ExitCode: 137, Signal: syscall.SIGKILL, Reason: ReasonTimeout,
		}},
		{"no grace", "trap 'exit 0' TERM; sleep 1000 & wait", -1, Result{
			Outcome: timedOut, ExitCode: 137, Signal: syscall.SIGKILL, Reason: ReasonTimeout,
		}},
		{"in time", "exit 0", 0, Result{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec := shell(tt.script)
			spec.Timeout, spec.Grace = 300*time.Millisecond, tt.grace
			if tt.want.Outcome == succeeded {
				spec.Timeout = time.Minute
			}
			got := r.Run(spec, nil)
			if diff := cmp.Diff(tt.want, got, measured); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if got.Outcome == timedOut && got.Duration < spec.Timeout {
				t.Errorf("took %v, less than its timeout", got.Duration)
			}
		})
	}
}

func TestStopAndKill(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	t.Run("stop is gentle, its first reason stays", func(t *testing.T) {
		t.Parallel()
		task, out, results := start(t, r, shell("trap 'exit 7' TERM; echo ready; sleep 1000 & wait"))
		line(t, out)
		task.Stop("cancelled by user")
		task.Stop("again")
		want := Result{Outcome: killed, ExitCode: 7, Reason: "cancelled by user"}
		if diff := cmp.Diff(want, <-results, measured); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	})
	t.Run("kill cuts the grace short", func(t *testing.T) {
		t.Parallel()
		task, out, results := start(t, r, shell("trap '' TERM; echo ready; while :; do sleep 1; done"))
		line(t, out)
		task.Stop("cancelled by user")
		task.Kill("now")
		want := Result{Outcome: killed, ExitCode: 137, Signal: syscall.SIGKILL, Reason: "cancelled by user"}
		if diff := cmp.Diff(want, <-results, measured); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	})
	t.Run("stopped process", func(t *testing.T) {
		t.Parallel()
		task, out, results := start(t, r, shell("trap 'exit 7' TERM; echo ready; kill -STOP $$; sleep 1000 & wait"))
		line(t, out)
		task.Stop("cancelled")
		if got := <-results; got.Outcome != killed || got.Signal == syscall.SIGKILL {
			t.Errorf("result %+v; want the task to take SIGTERM", got)
		}
	})
	t.Run("signal does not decide the result", func(t *testing.T) {
		t.Parallel()
		task, out, results := start(t, r, shell("trap 'echo got; exit 0' USR1; echo ready; sleep 1000 & wait"))
		line(t, out)
		task.Signal(syscall.SIGUSR1)
		if s := line(t, out); s != "got" {
			t.Errorf("task said %q", s)
		}
		if diff := cmp.Diff(Result{}, <-results, measured); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		task, _, results := start(t, r, shell("exit 0"))
		res := <-results
		task.Stop("late")
		task.Kill("late")
		task.Signal(syscall.SIGKILL)
		if res.Outcome != succeeded {
			t.Errorf("result %+v", res)
		}
	})
}

func TestWholeGroupEnds(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	for _, tt := range []struct {
		name, script string
		stop         bool
	}{
		{"killed", `sleep 1000 & echo $!; wait`, true},
		{"killed tree", `sh -c 'trap "" TERM HUP; sleep 1000 & echo $!; wait' & wait`, true},
		{"first process exits", `sleep 1000 & echo $!`, false},
		{"double fork", `(sleep 1000 & echo $!)`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			task, out, results := start(t, r, shell(tt.script))
			pid := pidLine(t, out)
			if tt.stop {
				task.Kill("test")
			}
			res := <-results
			if res.Stragglers {
				t.Errorf("stragglers reported: %+v", res)
			}
			if !gone(pid) {
				t.Errorf("process %d of the group survived", pid)
			}
		})
	}
}

func TestNotStarted(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain.sh", "echo hello\n", 0o755)
	empty := file("empty", "", 0o755)
	foreign := file("foreign", "\x7fELF\x02\x01\x01\x00garbage that is no program", 0o755)
	noInterp := file("no-interp", "#!/no/such/python3 -u\n", 0o755)
	noExec := file("no-exec", "#!/bin/sh\n", 0o644)
	sh := func(change func(*Spec)) *Spec {
		s := shell("exit 0")
		change(s)
		return s
	}
	tests := []struct {
		name string
		spec *Spec
		want string
	}{
		{"missing", &Spec{Path: dir + "/none", Args: []string{"none"}}, fmt.Sprintf("command %q not found", dir+"/none")},
		{"not executable", &Spec{Path: noExec, Args: []string{"x"}}, fmt.Sprintf("command %q is not executable; set the permission with chmod +x", noExec)},
		{"directory", &Spec{Path: dir, Args: []string{"x"}}, fmt.Sprintf("command %q is a directory", dir)},
		{"script without #!", &Spec{Path: plain, Args: []string{"x"}}, fmt.Sprintf("command %q: exec format error: add a #! line", plain)},
		{"empty file", &Spec{Path: empty, Args: []string{"x"}}, fmt.Sprintf("command %q: exec format error: the file is empty", empty)},
		{"other system", &Spec{Path: foreign, Args: []string{"x"}}, fmt.Sprintf("command %q: exec format error: the program was built for another system or processor", foreign)},
		{"interpreter", &Spec{Path: noInterp, Args: []string{"x"}}, fmt.Sprintf("command %q: its interpreter %q does not exist", noInterp, "/no/such/python3")},
		{"working directory", sh(func(s *Spec) { s.Dir = dir + "/gone" }), fmt.Sprintf("working directory %q: no such file or directory", dir+"/gone")},
		{"working directory is a file", sh(func(s *Spec) { s.Dir = plain }), fmt.Sprintf("working directory %q: not a directory", plain)},
		{"long argument", sh(func(s *Spec) { s.Args = append(s.Args, strings.Repeat("x", 8<<20)) }), `command "/bin/sh": arguments and environment are too long for the system`},
		{"zero byte", sh(func(s *Spec) { s.Args = append(s.Args, "a\x00b") }), `command "/bin/sh": an argument or environment value has a zero byte`},
		{"no path", &Spec{Args: []string{"x"}}, "spec has no program path"},
		{"no arguments", &Spec{Path: "/bin/sh"}, `spec of "/bin/sh" has no argument vector; the first argument is the program's name`},
		{"negative memory", sh(func(s *Spec) { s.Limits.MemoryBytes = -1 }), "memory limit -1 bytes is negative; use 0 for none"},
		{"negative cpu", sh(func(s *Spec) { s.Limits.CPUMilli = -5 }), "cpu limit -5 milli is negative; use 0 for none"},
		{"negative timeout", sh(func(s *Spec) { s.Timeout = -time.Second }), "timeout -1s is negative; use 0 for none"},
		{"negative descriptor", sh(func(s *Spec) { s.Stdout = -1 }), "descriptors 0, -1, 0: a negative one is not open"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, limits := range []Limits{{}, {CPUMilli: 1000, MemoryBytes: 64 << 20}} {
				spec := *tt.spec
				if spec.Limits == (Limits{}) {
					spec.Limits = limits
				}
				got := r.Run(&spec, func(*Task) { t.Error("reported as started") })
				want := Result{Outcome: notStarted, Reason: tt.want}
				if diff := cmp.Diff(want, got, measured); diff != "" {
					t.Errorf("limits %v: result (-want +got):\n%s", limits, diff)
				}
			}
		})
	}
}

func TestAccounting(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	burn := r.Run(helperSpec(t, "burn", "150"), nil)
	if burn.Outcome != succeeded || burn.CPUTime < 150*time.Millisecond || burn.CPUTime > 5*time.Second {
		t.Errorf("150 ms of CPU measured as %v; %+v", burn.CPUTime, burn)
	}
	large := r.Run(eat(200), nil)
	if large.Outcome != succeeded || large.PeakMemoryBytes < 200<<20 || large.PeakMemoryBytes > 240<<20 {
		t.Errorf("200 MiB measured as %d bytes; %+v", large.PeakMemoryBytes, large)
	}
	small := r.Run(shell("exit 0"), nil)
	if small.PeakMemoryBytes > 16<<20 {
		t.Errorf("an empty shell measured as %d bytes: that is the worker's memory", small.PeakMemoryBytes)
	}
}

func TestConcurrentRuns(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 8 {
				if got := r.Run(shell(fmt.Sprintf("exit %d", i)), func(task *Task) {
					go task.Signal(syscall.SIGCONT)
				}); got.ExitCode != i {
					t.Errorf("exit %d gave %+v", i, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestClosedRunner(t *testing.T) {
	t.Parallel()
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if got := r.Run(shell("exit 0"), nil); got.Outcome != notStarted || got.Reason != "runner is closed" {
		t.Errorf("result %+v", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a/b", "..\x00", "node one", strings.Repeat("x", 129)} {
		if _, err := New(Options{ID: id}); err == nil {
			t.Errorf("id %q is accepted", id)
		}
	}
}

// TestSignalRace sends signals while tasks end: a signal after the reap would
// hit whoever has the process id then.
func TestSignalRace(t *testing.T) {
	t.Parallel()
	r := newRunner(t, Options{})
	for range 100 {
		var wg sync.WaitGroup
		res := r.Run(shell("exit 0"), func(task *Task) {
			wg.Go(func() { task.Stop("race") })
			wg.Go(func() { task.Kill("race") })
		})
		wg.Wait()
		if res.Outcome != succeeded && res.Outcome != killed {
			t.Fatalf("result %+v", res)
		}
	}
}
