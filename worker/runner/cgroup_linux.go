// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// findCgroups looks where the worker may make cgroups. Version 2 goes first;
// on a machine with both (hybrid) the one that has the memory controller.
func findCgroups(id string, log *slog.Logger) (cgroups, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCgroups, err)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCgroups, err)
	}
	return chooseCgroups(kernelFiles{}, parseCgroupMounts(mountinfo, self), id, log)
}

func chooseCgroups(files cgroupFiles, m cgroupMounts, id string, log *slog.Logger) (cgroups, error) {
	err2 := errors.New("cgroup2: not mounted")
	if m.v2 != "" {
		var g cgroups
		if !haveClone3() {
			err2 = errors.New("cgroup2: clone3 is not available (Linux before 5.7 or a seccomp filter)")
		} else if g, err2 = newCgroups2(files, m.v2, id, log); err2 == nil {
			return g, nil
		}
	}
	g, err1 := newCgroups1(files, m.v1, id, log)
	if err1 == nil {
		return g, nil
	}
	return nil, fmt.Errorf("%w: %w; %w", errNoCgroups, err2, err1)
}

// haveClone3 asks without making a process: the size 0 is refused by a kernel
// that knows the call.
func haveClone3() bool {
	_, _, e := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	return e == unix.EINVAL
}

// cpuQuota is CPU time per period in microseconds. The kernel wants a quota of
// 1 ms at least, so little CPU is given per second rather than per 100 ms.
func cpuQuota(milli int64) (quota, period int64) {
	if milli < 10 {
		return max(milli, 1) * 1000, 1_000_000
	}
	return milli * 100, 100_000
}

// cgroupNames numbers the cgroups of tasks, and remembers those that could not
// be removed yet.
type cgroupNames struct {
	files cgroupFiles
	mu    sync.Mutex
	next  uint64
	stale []string
}

func (n *cgroupNames) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	return strconv.FormatUint(n.next, 10)
}

// remove removes the directory and, while it is at it, older ones.
func (n *cgroupNames) remove(dir string) {
	err := removeTree(n.files, dir)
	for try := 0; err != nil && try < 5; try++ {
		time.Sleep(50 * time.Microsecond << try)
		err = removeTree(n.files, dir)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.stale = append(n.stale, dir)
		return
	}
	n.retryLocked()
}

func (n *cgroupNames) retryLocked() {
	kept := n.stale[:0]
	for _, dir := range n.stale {
		if removeTree(n.files, dir) != nil {
			kept = append(kept, dir)
		}
	}
	n.stale = kept
}

// closeDir removes the directory that held the tasks' cgroups.
func (n *cgroupNames) closeDir(dir string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.retryLocked()
	if err := removeTree(n.files, dir); err != nil {
		return fmt.Errorf("runner: close: %w", err)
	}
	return nil
}

// scopeName is the directory of a runner's tasks below the worker's own cgroup.
func scopeName(id string) string { return "volley-" + id }

func writeAll(files cgroupFiles, dir string, values [][2]string) error {
	for _, kv := range values {
		if err := files.write(filepath.Join(dir, kv[0]), kv[1]); err != nil {
			return err
		}
	}
	return nil
}
