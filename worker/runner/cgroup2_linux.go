// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups2 makes tasks' cgroups in the unified hierarchy:
//
//	BASE                      the worker's own cgroup when it started
//	BASE/volley-agent-ID      the worker, moved here if it must make room
//	BASE/volley-ID/N          one per task
type cgroups2 struct {
	cgroupNames
	scope string
	cpu   bool
	// agent is where the worker was moved to, base where it came from; empty:
	// it was not moved.
	agent, base string
}

func newCgroups2(files cgroupFiles, base, id string, log *slog.Logger) (_ *cgroups2, err error) {
	agentName := "volley-agent-" + id
	if filepath.Base(base) == agentName {
		// A worker that replaced itself by exec.
		base = filepath.Dir(base)
	}
	text, err := files.read(filepath.Join(base, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	have := strings.Fields(string(text))
	if !slices.Contains(have, "memory") {
		return nil, fmt.Errorf("cgroup2: %s has no memory controller", base)
	}
	g := &cgroups2{cgroupNames: cgroupNames{files: files}, scope: filepath.Join(base, scopeName(id))}
	g.cpu = slices.Contains(have, "cpu")
	want := []string{"memory"}
	if g.cpu {
		want = append(want, "cpu")
	} else {
		log.Warn("the cpu controller is not delegated to the worker; cpu limits are not enforced", "cgroup", base)
	}
	if err := g.enable(base, agentName, want); err != nil {
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	if err = freshDir(files, g.scope); err == nil {
		err = enableControllers(files, g.scope, want)
	}
	if err != nil {
		g.moveBack()
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	return g, nil
}

// enable gives the controllers to the children of base. The kernel refuses
// that while processes are in base itself (except at the root), so the worker
// steps aside into a child. Others are not moved: they are not ours.
func (g *cgroups2) enable(base, agentName string, want []string) error {
	err := enableControllers(g.files, base, want)
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	agent := filepath.Join(base, agentName)
	if err := g.files.mkdir(agent); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := g.files.write(filepath.Join(agent, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		_ = g.files.rmdir(agent)
		return err
	}
	g.agent, g.base = agent, base
	if err := enableControllers(g.files, base, want); err != nil {
		g.moveBack()
		return fmt.Errorf("other processes share the worker's cgroup; start it as a service, or by systemd-run, with Delegate=yes: %w", err)
	}
	return nil
}

func (g *cgroups2) moveBack() {
	if g.agent == "" {
		return
	}
	// While controllers are enabled below, base takes no process: then the
	// worker stays where it is.
	if g.files.write(filepath.Join(g.base, "cgroup.procs"), strconv.Itoa(os.Getpid())) == nil {
		_ = g.files.rmdir(g.agent)
	}
	g.agent = ""
}

func enableControllers(files cgroupFiles, dir string, want []string) error {
	path := filepath.Join(dir, "cgroup.subtree_control")
	text, err := files.read(path)
	if err != nil {
		return err
	}
	on := strings.Fields(string(text))
	var missing []string
	for _, c := range want {
		if !slices.Contains(on, c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return files.write(path, strings.Join(missing, " "))
}

func (g *cgroups2) kind() string { return "cgroup2" }

func (g *cgroups2) create(l Limits) (cgroup, error) {
	c := &cgroup2{owner: g, dir: filepath.Join(g.scope, g.take())}
	if err := g.files.mkdir(c.dir); err != nil {
		return nil, err
	}
	var values [][2]string
	if l.MemoryBytes > 0 {
		values = append(values, [2]string{"memory.max", strconv.FormatInt(l.MemoryBytes, 10)})
		// A limit that swap stretches is none. Absent without swap accounting.
		_ = g.files.write(filepath.Join(c.dir, "memory.swap.max"), "0")
		// All or nothing: a task that lost one process to the limit would
		// often hang. Absent before Linux 4.19.
		_ = g.files.write(filepath.Join(c.dir, "memory.oom.group"), "1")
	}
	if l.CPUMilli > 0 && g.cpu {
		quota, period := cpuQuota(l.CPUMilli)
		values = append(values, [2]string{"cpu.max", fmt.Sprintf("%d %d", quota, period)})
	}
	if err := writeAll(g.files, c.dir, values); err != nil {
		g.remove(c.dir)
		return nil, err
	}
	return c, nil
}

func (g *cgroups2) close() error {
	err := g.closeDir(g.scope)
	if err == nil && g.agent != "" {
		// Best effort: another worker may have its scope here too.
		_ = g.files.write(filepath.Join(g.base, "cgroup.subtree_control"), "-memory")
		if g.cpu {
			_ = g.files.write(filepath.Join(g.base, "cgroup.subtree_control"), "-cpu")
		}
		g.moveBack()
	}
	return err
}

type cgroup2 struct {
	owner *cgroups2
	dir   string
}

func (c *cgroup2) start(s *Slot, spec *Spec) (int, error) {
	fd, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: c.dir, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // a path descriptor holds no data
	s.sys.UseCgroupFD, s.sys.CgroupFD = true, fd
	pid, err := forkExec(spec.Path, spec.Args, &s.attr)
	s.sys.UseCgroupFD, s.sys.CgroupFD = false, 0
	return pid, err
}

func (c *cgroup2) kill() {
	if c.owner.files.write(filepath.Join(c.dir, "cgroup.kill"), "1") != nil {
		killProcs(c.owner.files, c.dir) // Linux before 5.14
	}
}

func (c *cgroup2) killAll() bool {
	pause := 50 * time.Microsecond
	for deadline := time.Now().Add(time.Second); ; pause = min(2*pause, 10*time.Millisecond) {
		text, err := c.owner.files.read(filepath.Join(c.dir, "cgroup.events"))
		if n, ok := flatValue(text, "populated"); err != nil || !ok || n == 0 {
			return err == nil
		}
		if time.Now().After(deadline) {
			return false
		}
		c.kill()
		time.Sleep(pause)
	}
}

func (c *cgroup2) memory() (oom bool, peak int64) {
	if text, err := c.owner.files.read(filepath.Join(c.dir, "memory.events")); err == nil {
		n, _ := flatValue(text, "oom_kill")
		oom = n > 0
	}
	// Since Linux 5.19.
	if text, err := c.owner.files.read(filepath.Join(c.dir, "memory.peak")); err == nil {
		peak = number(text)
	}
	return oom, peak
}

func (c *cgroup2) remove() { c.owner.remove(c.dir) }
