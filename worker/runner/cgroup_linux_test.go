// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// enforced runs a test with what this machine permits and with the fallback.
// On a machine without writable cgroups both are the fallback.
func enforced(t *testing.T, test func(*testing.T, *Runner)) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts Options
	}{{"machine", Options{}}, {"without cgroups", Options{NoCgroups: true}}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, tt.opts)
			t.Logf("limits are enforced by %s", r.Enforcement())
			if tt.opts.NoCgroups && r.Enforcement() != "rlimit" {
				t.Fatalf("enforcement %q without cgroups; want rlimit", r.Enforcement())
			}
			test(t, r)
		})
	}
}

func hasCgroups(r *Runner) bool { return r.groups != nil }

func TestMemoryLimit(t *testing.T) {
	enforced(t, func(t *testing.T, r *Runner) {
		spec := eat(400)
		spec.Limits.MemoryBytes = 128 << 20
		got := r.Run(spec, nil)
		want := Result{Outcome: outOfMem, ExitCode: 137, Signal: syscall.SIGKILL, Reason: ReasonOutOfMemory}
		if !hasCgroups(r) {
			// The allocation fails, which dd reports.
			want = Result{Outcome: failed, ExitCode: 1}
		}
		if diff := cmp.Diff(want, got, measured); diff != "" {
			t.Errorf("400 MiB with a limit of 128: result (-want +got):\n%s", diff)
		}
		spec = eat(32)
		spec.Limits.MemoryBytes = 128 << 20
		if got := r.Run(spec, nil); got.Outcome != succeeded {
			t.Errorf("32 MiB with a limit of 128: %+v", got)
		}
	})
}

// TestMemoryLimitOfGrandchild: the program that the limit kills is not the
// task's first process.
func TestMemoryLimitOfGrandchild(t *testing.T) {
	enforced(t, func(t *testing.T, r *Runner) {
		spec := shell(strings.Join(eat(400).Args, " ") + "; exit $?")
		spec.Limits.MemoryBytes = 128 << 20
		got := r.Run(spec, nil)
		want := outOfMem
		if !hasCgroups(r) {
			want = failed
		}
		if got.Outcome != want || got.ExitCode == 0 {
			t.Errorf("result %+v; want %v", got, want)
		}
	})
}

// escape leaves a process in a session of its own and prints its id once it is
// there.
func escape() *Spec {
	return shell(`f=$(mktemp -u) && mkfifo "$f" || exit 9
setsid sh -c "echo \$\$ >'$f'; exec sleep 1000" &
read p <"$f"; rm "$f"; echo $p`)
}

func TestCPULimit(t *testing.T) {
	enforced(t, func(t *testing.T, r *Runner) {
		spec := helperSpec(t, "burn", "200")
		spec.Limits.CPUMilli = 200
		got := r.Run(spec, nil)
		if got.Outcome != succeeded {
			t.Fatalf("result %+v", got)
		}
		// 200 ms of CPU at a fifth take a second, less what one period gives
		// before the first is over.
		if hasCgroups(r) && got.Duration < 600*time.Millisecond {
			t.Errorf("200 ms of CPU at 200 milli took only %v", got.Duration)
		}
	})
}

func TestEscapedProcess(t *testing.T) {
	enforced(t, func(t *testing.T, r *Runner) {
		spec := escape()
		spec.Limits.MemoryBytes = 256 << 20
		_, out, results := start(t, r, spec)
		pid := pidLine(t, out)
		res := <-results
		if res.Outcome != succeeded || res.Stragglers {
			t.Errorf("result %+v", res)
		}
		if hasCgroups(r) != gone(pid) {
			t.Errorf("process in a session of its own: gone %v, cgroup %v", gone(pid), hasCgroups(r))
		}
		if !hasCgroups(r) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLimitedTasksLeaveNothing: cgroups go with their tasks, and the slot's
// thread is back where it was.
func TestLimitedTasksLeaveNothing(t *testing.T) {
	enforced(t, func(t *testing.T, r *Runner) {
		slot := r.NewSlot()
		defer slot.Close()
		before, err := os.ReadFile("/proc/thread-self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			spec := shell("sleep 1000 & exit 4")
			spec.Limits = Limits{CPUMilli: 1000, MemoryBytes: 64 << 20}
			if got := slot.Run(spec, nil); got.ExitCode != 4 || got.Outcome != failed {
				t.Fatalf("result %+v", got)
			}
		}
		after, err := os.ReadFile("/proc/thread-self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Errorf("the thread's cgroups (-before +after):\n%s", diff)
		}
		var scopes []string
		switch g := r.groups.(type) {
		case *cgroups1:
			scopes = append(scopes, g.memory.scope, g.cpu.scope)
		case *cgroups2:
			scopes = append(scopes, g.scope)
		}
		for _, scope := range scopes {
			names, err := kernelFiles{}.children(scope)
			if err != nil || len(names) > 0 {
				t.Errorf("%s still has %v, %v", scope, names, err)
			}
		}
	})
}

// TestLeftoversOfAnEarlierWorker: what a killed worker left in its cgroup is
// killed by the next with the same ID.
func TestLeftoversOfAnEarlierWorker(t *testing.T) {
	t.Parallel()
	id := "leftover-" + filepath.Base(t.TempDir()) + "-" + time.Now().Format("150405.000000")
	first := newRunner(t, Options{ID: id})
	spec := shell("echo $$; sleep 1000")
	spec.Limits.MemoryBytes = 64 << 20
	task, out, results := start(t, first, spec)
	pid := pidLine(t, out)
	second := newRunner(t, Options{ID: id})
	if hasCgroups(second) {
		if got := <-results; got.Signal != syscall.SIGKILL {
			t.Errorf("the earlier worker's task: %+v", got)
		}
	} else {
		task.Kill("no cgroup to find it by")
		<-results
	}
	if !gone(pid) {
		t.Errorf("process %d is alive", pid)
	}
	spec = shell("exit 0")
	spec.Limits.MemoryBytes = 64 << 20
	if got := second.Run(spec, nil); got.Outcome != succeeded {
		t.Errorf("result %+v", got)
	}
}

// TestUnifiedHierarchy starts a task inside a cgroup by descriptor wherever a
// version 2 hierarchy is mounted writable, also one without controllers.
func TestUnifiedHierarchy(t *testing.T) {
	t.Parallel()
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	files := kernelFiles{}
	m := parseCgroupMounts(mountinfo, self)
	scope := filepath.Join(m.v2, scopeName("unified-test"))
	if m.v2 == "" || !haveClone3() || freshDir(files, scope) != nil {
		// Not here: then the detection must say so rather than try.
		if _, err := newCgroups2(files, m.v2, "unified-test", discard()); err == nil {
			t.Error("cgroup2 is taken for usable")
		}
		return
	}
	r := newRunner(t, Options{NoCgroups: true})
	g := &cgroups2{cgroupNames: cgroupNames{files: files}, scope: scope}
	r.groups = g
	spec := shell("cat /proc/self/cgroup")
	spec.Limits.CPUMilli = 1000
	out, res := output(t, r, spec)
	if res.Outcome != succeeded || !strings.Contains(out, scopeName("unified-test")+"/1\n") {
		t.Errorf("the task says it is in %q; %+v", out, res)
	}
	spec = escape()
	spec.Limits.CPUMilli = 1000
	_, lines, results := start(t, r, spec)
	pid := pidLine(t, lines)
	if res := <-results; res.Stragglers || !gone(pid) {
		t.Errorf("escaped process: gone %v; %+v", gone(pid), res)
	}
	task, lines, results := start(t, r, &Spec{
		Path: "/bin/sh", Args: []string{"sh", "-c", "echo ready; sleep 1000"},
		Env: os.Environ(), Limits: Limits{CPUMilli: 1000},
	})
	line(t, lines)
	task.Kill("test")
	if res := <-results; res.Outcome != killed {
		t.Errorf("result %+v", res)
	}
	if names, err := files.children(scope); err != nil || len(names) > 0 {
		t.Errorf("%s still has %v, %v", scope, names, err)
	}
}

func TestParseCgroupMounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, mountinfo, self string
		want                  cgroupMounts
	}{
		{
			"unified, systemd service",
			"29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/volley.service\n",
			cgroupMounts{v2: "/sys/fs/cgroup/system.slice/volley.service", v1: map[string]string{}},
		},
		{
			"hybrid",
			"30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
				"31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"4:memory:/user.slice\n3:cpu,cpuacct:/user.slice\n1:name=systemd:/x\n0::/user.slice/s\n",
			cgroupMounts{v2: "/sys/fs/cgroup/unified/user.slice/s", v1: map[string]string{
				"cpu": "/sys/fs/cgroup/cpu,cpuacct/user.slice", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/user.slice",
				"memory": "/sys/fs/cgroup/memory/user.slice",
			}},
		},
		{
			"container that sees its own part",
			"700 1 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"4:memory:/docker/abc\n",
			cgroupMounts{v1: map[string]string{"memory": "/sys/fs/cgroup/memory"}},
		},
		{
			"outside of what is mounted",
			"700 1 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"701 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"4:memory:/docker/abcdef\n0::/../other\n",
			cgroupMounts{v1: map[string]string{}},
		},
		{
			"space in the path",
			`29 23 0:26 / /mnt/my\040groups rw - cgroup2 cgroup2 rw` + "\n", "0::/\n",
			cgroupMounts{v2: "/mnt/my groups", v1: map[string]string{}},
		},
		{"nothing", "1 0 0:1 / / rw - ext4 /dev/vda rw\n", "", cgroupMounts{v1: map[string]string{}}},
		{"garbage", " - \n\n- - -\n1 2 3\n", ":::\nx\n0:\n", cgroupMounts{v1: map[string]string{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parseCgroupMounts([]byte(tt.mountinfo), []byte(tt.self))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(cgroupMounts{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseCgroupMounts(f *testing.F) {
	f.Add([]byte("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), []byte("0::/a\n"))
	f.Add([]byte(`1 2 3 /x\134 /y\999 rw - cgroup c cpu,memory`), []byte("4:cpu,memory:/x\\/a\n"))
	f.Fuzz(func(t *testing.T, mountinfo, self []byte) {
		m := parseCgroupMounts(mountinfo, self)
		for c, dir := range m.v1 {
			if slices.Contains(strings.Split(dir, "/"), "..") && !strings.Contains(string(mountinfo), "..") {
				t.Errorf("%s leads to %q", c, dir)
			}
		}
	})
}

func TestCPUQuota(t *testing.T) {
	t.Parallel()
	for milli, want := range map[int64][2]int64{
		1: {1000, 1_000_000}, 9: {9000, 1_000_000}, 10: {1000, 100_000},
		1000: {100_000, 100_000}, 2500: {250_000, 100_000}, 64_000: {6_400_000, 100_000},
	} {
		if q, p := cpuQuota(milli); [2]int64{q, p} != want {
			t.Errorf("%d milli: %d per %d, want %v", milli, q, p, want)
		}
	}
}

// TestWarnsOnce: the operator hears that limits are not enforced, once, and
// only when a task has some.
func TestWarnsOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := newRunner(t, Options{NoCgroups: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r.noGroups = errNoCgroups
	r.Run(shell("exit 0"), nil)
	if log.Len() > 0 {
		t.Errorf("without limits: %s", log.String())
	}
	for range 2 {
		limited := shell("exit 0")
		limited.Limits.CPUMilli = 500
		if res := r.Run(limited, nil); res.Outcome != succeeded {
			t.Errorf("result %+v", res)
		}
	}
	if n := strings.Count(log.String(), "cgroups are not usable"); n != 1 {
		t.Errorf("warned %d times: %s", n, log.String())
	}
}
