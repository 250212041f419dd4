// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"
)

// cgroups1 makes tasks' cgroups in the memory and cpu hierarchies of version 1:
// BASE/volley-ID/N in each that the task's limits need.
type cgroups1 struct {
	cgroupNames
	memory, cpu hierarchy
}

type hierarchy struct {
	// base is the worker's own cgroup, to which its threads come back.
	base  string
	scope string // empty: not usable
}

func newCgroups1(files cgroupFiles, dirs map[string]string, id string, log *slog.Logger) (*cgroups1, error) {
	g := &cgroups1{cgroupNames: cgroupNames{files: files}}
	var err error
	if g.memory, err = newHierarchy(files, dirs["memory"], id); err != nil {
		return nil, fmt.Errorf("cgroup1: memory: %w", err)
	}
	// The root of old hierarchies does not bound grandchildren without it;
	// absent or fixed to 1 elsewhere.
	_ = files.write(filepath.Join(g.memory.scope, "memory.use_hierarchy"), "1")
	if dirs["cpu"] == g.memory.base {
		// Both controllers in one mount: one directory serves both.
		g.cpu = g.memory
		return g, nil
	}
	if g.cpu, err = newHierarchy(files, dirs["cpu"], id); err != nil {
		log.Warn("the cpu cgroup is not usable; cpu limits are not enforced", "reason", err)
	}
	return g, nil
}

func newHierarchy(files cgroupFiles, base, id string) (hierarchy, error) {
	if base == "" {
		return hierarchy{}, errors.New("not mounted")
	}
	scope := filepath.Join(base, scopeName(id))
	if err := freshDir(files, scope); err != nil {
		return hierarchy{}, err
	}
	return hierarchy{base: base, scope: scope}, nil
}

func (g *cgroups1) kind() string { return "cgroup1" }

func (g *cgroups1) create(l Limits) (cgroup, error) {
	c := &cgroup1{owner: g}
	name := g.take()
	if l.MemoryBytes > 0 {
		c.memDir = filepath.Join(g.memory.scope, name)
		if err := c.make(c.memDir, g.memory.base, [][2]string{
			{"memory.limit_in_bytes", strconv.FormatInt(l.MemoryBytes, 10)},
		}); err != nil {
			return nil, err
		}
		// Memory and swap together. Absent without swap accounting.
		_ = g.files.write(filepath.Join(c.memDir, "memory.memsw.limit_in_bytes"), strconv.FormatInt(l.MemoryBytes, 10))
	}
	if l.CPUMilli > 0 && g.cpu.scope != "" {
		quota, period := cpuQuota(l.CPUMilli)
		if err := c.make(filepath.Join(g.cpu.scope, name), g.cpu.base, [][2]string{
			{"cpu.cfs_period_us", strconv.FormatInt(period, 10)},
			{"cpu.cfs_quota_us", strconv.FormatInt(quota, 10)},
		}); err != nil {
			c.remove()
			return nil, err
		}
	}
	return c, nil
}

func (g *cgroups1) close() error {
	err := g.closeDir(g.memory.scope)
	if g.cpu.scope != "" && g.cpu != g.memory {
		if cerr := g.closeDir(g.cpu.scope); err == nil {
			err = cerr
		}
	}
	return err
}

type cgroup1 struct {
	owner  *cgroups1
	memDir string // empty: no memory limit
	// dirs of the task, and where the thread goes back to.
	dirs, bases []string
}

func (c *cgroup1) make(dir, base string, values [][2]string) error {
	files := c.owner.files
	if len(c.dirs) == 0 || c.dirs[len(c.dirs)-1] != dir {
		if err := files.mkdir(dir); err != nil {
			return err
		}
		c.dirs, c.bases = append(c.dirs, dir), append(c.bases, base)
	}
	if err := writeAll(files, dir, values); err != nil {
		c.remove()
		return err
	}
	return nil
}

// start takes the forking thread into the cgroup and back: a child is born in
// the cgroup of the thread that forks it. "0" is the thread that writes.
func (c *cgroup1) start(s *Slot, spec *Spec) (pid int, err error) {
	files := c.owner.files
	moved := 0
	for _, dir := range c.dirs {
		if err = files.write(filepath.Join(dir, "tasks"), "0"); err != nil {
			break
		}
		moved++
	}
	if err == nil {
		pid, err = forkExec(spec.Path, spec.Args, &s.attr)
	}
	for _, base := range c.bases[:moved] {
		if berr := files.write(filepath.Join(base, "tasks"), "0"); berr != nil {
			// The thread would count against the limits of this task and keep
			// its cgroup from going; the next start moves it away.
			s.r.log.Error("thread could not leave a task's cgroup", "cgroup", base, "err", berr)
		}
	}
	if err != nil && moved < len(c.dirs) {
		return 0, &StartError{Reason: "cgroup for the task's limits: " + err.Error(), Err: err}
	}
	return pid, err
}

func (c *cgroup1) kill() {
	if len(c.dirs) > 0 {
		killProcs(c.owner.files, c.dirs[0])
	}
}

func (c *cgroup1) killAll() bool {
	return len(c.dirs) == 0 || killTree(c.owner.files, c.dirs[0], time.Second)
}

func (c *cgroup1) memory() (oom bool, peak int64) {
	if c.memDir == "" {
		return false, 0
	}
	files := c.owner.files
	if text, err := files.read(filepath.Join(c.memDir, "memory.oom_control")); err == nil {
		n, known := flatValue(text, "oom_kill")
		oom = n > 0
		if !known {
			// Linux before 4.13 does not count kills, only that the limit was
			// hit, which page cache does too.
			text, err := files.read(filepath.Join(c.memDir, "memory.failcnt"))
			oom = err == nil && number(text) > 0
		}
	}
	if text, err := files.read(filepath.Join(c.memDir, "memory.max_usage_in_bytes")); err == nil {
		peak = number(text)
	}
	return oom, peak
}

func (c *cgroup1) remove() {
	for _, dir := range c.dirs {
		c.owner.remove(dir)
	}
}
