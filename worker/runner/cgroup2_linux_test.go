// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeKernel is a cgroup2 file system on an ordinary directory: it makes the
// files of a new cgroup, refuses what the kernel refuses, and moves process
// ids about. It holds the rules that the code relies on, so that version 2 is
// tested on machines that have only version 1.
type fakeKernel struct {
	kernelFiles
	root string
	mu   sync.Mutex
}

// newFakeKernel makes a hierarchy with the worker, and others, in base.
func newFakeKernel(t *testing.T, controllers string, base string, procs ...int) *fakeKernel {
	t.Helper()
	k := &fakeKernel{root: t.TempDir()}
	k.populate(k.root, controllers)
	dir := k.root
	for name := range strings.SplitSeq(base, "/") {
		k.put(filepath.Join(dir, "cgroup.subtree_control"), controllers)
		dir = filepath.Join(dir, name)
		if err := k.mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	k.setProcs(dir, procs)
	return k
}

func (k *fakeKernel) put(path, value string) {
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		panic(err)
	}
}

func (k *fakeKernel) get(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "absent"
	}
	return string(b)
}

func (k *fakeKernel) setProcs(dir string, pids []int) {
	var b strings.Builder
	for _, pid := range pids {
		b.WriteString(strconv.Itoa(pid) + "\n")
	}
	k.put(filepath.Join(dir, "cgroup.procs"), b.String())
	populated := "0"
	if len(pids) > 0 {
		populated = "1"
	}
	k.put(filepath.Join(dir, "cgroup.events"), "populated "+populated+"\nfrozen 0\n")
}

func (k *fakeKernel) procs(dir string) (pids []int) {
	for f := range strings.FieldsSeq(k.get(filepath.Join(dir, "cgroup.procs"))) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			panic(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func (k *fakeKernel) populate(dir, controllers string) {
	k.put(filepath.Join(dir, "cgroup.controllers"), controllers)
	k.put(filepath.Join(dir, "cgroup.subtree_control"), "")
	k.put(filepath.Join(dir, "cgroup.kill"), "")
	for c := range strings.FieldsSeq(controllers) {
		switch c {
		case "memory":
			k.put(filepath.Join(dir, "memory.max"), "max")
			k.put(filepath.Join(dir, "memory.swap.max"), "max")
			k.put(filepath.Join(dir, "memory.oom.group"), "0")
			k.put(filepath.Join(dir, "memory.events"), "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n")
			k.put(filepath.Join(dir, "memory.peak"), "0\n")
		case "cpu":
			k.put(filepath.Join(dir, "cpu.max"), "max 100000")
		}
	}
	k.setProcs(dir, nil)
}

func (k *fakeKernel) mkdir(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	k.populate(path, k.get(filepath.Join(filepath.Dir(path), "cgroup.subtree_control")))
	return nil
}

func (k *fakeKernel) rmdir(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	names, err := k.children(path)
	if err != nil {
		return err
	}
	if len(names) > 0 || len(k.procs(path)) > 0 {
		return &os.PathError{Op: "rmdir", Path: path, Err: syscall.EBUSY}
	}
	return os.RemoveAll(path)
}

func (k *fakeKernel) write(path, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := os.Stat(path); err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	fail := func(err error) error { return &os.PathError{Op: "write", Path: path, Err: err} }
	switch name {
	case "cgroup.subtree_control":
		on := strings.Fields(k.get(path))
		for change := range strings.FieldsSeq(value) {
			c := change[1:]
			if !strings.Contains(" "+k.get(filepath.Join(dir, "cgroup.controllers"))+" ", " "+c+" ") {
				return fail(syscall.ENOENT)
			}
			if change[0] == '+' {
				if dir != k.root && len(k.procs(dir)) > 0 {
					return fail(syscall.EBUSY)
				}
				on = append(on, c)
				continue
			}
			kept := on[:0]
			for _, have := range on {
				if have != c {
					kept = append(kept, have)
				}
			}
			on = kept
		}
		k.put(path, strings.Join(on, " "))
	case "cgroup.procs":
		if dir != k.root && k.get(filepath.Join(dir, "cgroup.subtree_control")) != "" {
			return fail(syscall.EBUSY)
		}
		pid, err := strconv.Atoi(value)
		if err != nil {
			return fail(syscall.EINVAL)
		}
		_ = filepath.WalkDir(k.root, func(d string, e os.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			var rest []int
			for _, p := range k.procs(d) {
				if p != pid {
					rest = append(rest, p)
				}
			}
			k.setProcs(d, rest)
			return nil
		})
		k.setProcs(dir, append(k.procs(dir), pid))
	case "cgroup.kill":
		k.setProcs(dir, nil)
	case "cpu.max":
		var quota, period int
		f := strings.Fields(value)
		quota, _ = strconv.Atoi(f[0])
		if len(f) == 2 {
			period, _ = strconv.Atoi(f[1])
		}
		if quota < 1000 || period < 1000 || period > 1_000_000 {
			return fail(syscall.EINVAL)
		}
		k.put(path, value)
	default:
		k.put(path, value)
	}
	return nil
}

func TestCgroup2Setup(t *testing.T) {
	t.Parallel()
	self := os.Getpid()
	tests := []struct {
		name        string
		controllers string
		base        string
		procs       []int
		wantErr     string
		wantAgent   bool
		wantCPU     bool
	}{
		{"delegated service", "cpu memory pids", "system.slice/volley.service", []int{self}, "", true, true},
		{"empty delegated cgroup", "cpu memory", "a", nil, "", false, true},
		{"memory only", "memory pids", "user.slice", []int{self}, "", true, false},
		{"no memory controller", "cpu pids", "user.slice", []int{self}, "has no memory controller", false, false},
		{"shared with a shell", "cpu memory", "session.scope", []int{self, 1 << 30}, "Delegate=yes", false, false},
		{"moved by an earlier self", "cpu memory", "s/volley-agent-w1", []int{self}, "", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newFakeKernel(t, tt.controllers, tt.base, tt.procs...)
			base := filepath.Join(k.root, tt.base)
			if filepath.Base(base) == "volley-agent-w1" {
				// The parent had its controllers enabled before.
				base = filepath.Dir(base)
			}
			g, err := newCgroups2(k, filepath.Join(k.root, tt.base), "w1", discard())
			agent := filepath.Join(base, "volley-agent-w1")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v; want %q", err, tt.wantErr)
				}
				if diff := cmp.Diff(tt.procs, k.procs(base)); len(tt.procs) == 1 && diff != "" {
					t.Errorf("processes of the worker's cgroup (-before +after):\n%s", diff)
				}
				if names, _ := k.children(base); len(names) > 0 {
					t.Errorf("left behind: %v", names)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if moved := k.get(agent+"/cgroup.procs") == strconv.Itoa(self)+"\n"; moved != tt.wantAgent {
				t.Errorf("worker moved aside: %v, want %v", moved, tt.wantAgent)
			}
			if g.cpu != tt.wantCPU {
				t.Errorf("cpu limits: %v, want %v", g.cpu, tt.wantCPU)
			}
			if err := g.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(g.scope); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after close %s is still there: %v", g.scope, err)
			}
		})
	}
}

func TestCgroup2Task(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t, "cpu memory", "w")
	g, err := newCgroups2(k, filepath.Join(k.root, "w"), "w1", discard())
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.create(Limits{CPUMilli: 1500, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(k.root, "w", "volley-w1", "1")
	got := map[string]string{}
	for _, name := range []string{"memory.max", "memory.swap.max", "memory.oom.group", "cpu.max"} {
		got[name] = k.get(filepath.Join(dir, name))
	}
	want := map[string]string{"memory.max": "1073741824", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "150000 100000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	if oom, peak := c.memory(); oom || peak != 0 {
		t.Errorf("fresh cgroup: oom %v, peak %d", oom, peak)
	}
	k.put(filepath.Join(dir, "memory.events"), "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n")
	k.put(filepath.Join(dir, "memory.peak"), "1073741000\n")
	if oom, peak := c.memory(); !oom || peak != 1073741000 {
		t.Errorf("after a kill: oom %v, peak %d", oom, peak)
	}
	k.setProcs(dir, []int{1 << 30})
	if !c.killAll() || len(k.procs(dir)) != 0 {
		t.Errorf("processes left: %v", k.procs(dir))
	}
	c.remove()
	if k.get(filepath.Join(dir, "cgroup.procs")) != "absent" {
		t.Error("the task's cgroup is still there")
	}

	// One that cannot go at first goes with a later one.
	c1, err := g.create(Limits{MemoryBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	stuck := filepath.Join(k.root, "w", "volley-w1", "2")
	k.setProcs(stuck, []int{1 << 30})
	c1.remove()
	k.setProcs(stuck, nil)
	c2, err := g.create(Limits{CPUMilli: 1})
	if err != nil {
		t.Fatal(err)
	}
	c2.remove()
	if names, _ := k.children(g.scope); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if err := g.close(); err != nil {
		t.Error(err)
	}
}

func TestCgroup2Leftovers(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t, "cpu memory", "w")
	base := filepath.Join(k.root, "w")
	if err := enableControllers(k, base, []string{"memory", "cpu"}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"volley-w1", "volley-w1/7", "volley-w1/7/made-by-the-task", "volley-other"} {
		if err := k.mkdir(filepath.Join(base, dir)); err != nil {
			t.Fatal(err)
		}
	}
	g, err := newCgroups2(k, base, "w1", discard())
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := k.children(g.scope); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if names, _ := k.children(base); !cmp.Equal(names, []string{"volley-other", "volley-w1"}) {
		t.Errorf("children of the worker's cgroup: %v", names)
	}
}

// TestChooseCgroups: nothing usable is an error that says why for both.
func TestChooseCgroups(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t, "cpu", "w")
	_, err := chooseCgroups(k, cgroupMounts{v2: filepath.Join(k.root, "w")}, "x", discard())
	if !errors.Is(err, errNoCgroups) || !strings.Contains(err.Error(), "cgroup2: ") || !strings.Contains(err.Error(), "cgroup1: memory: not mounted") {
		t.Errorf("error %v", err)
	}
}
