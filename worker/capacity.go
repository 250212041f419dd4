// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// detectCapacity fills what the operator left open. GPUs are never guessed:
// a device that a task does not get by number would be shared by chance.
func detectCapacity(c *volleyv1.Resources) resources {
	r := resources{c.GetCpuMilli(), c.GetMemoryBytes(), c.GetGpu()}
	if r.cpu == 0 {
		// NumCPU knows the affinity mask; the quota of a container is in its
		// cgroup. GOMAXPROCS is not it: never below 2, and the user may set it.
		r.cpu = int64(runtime.NumCPU()) * 1000
		if q := systemLimits.cpuMilli(); q > 0 {
			r.cpu = min(r.cpu, max(q, 1))
		}
	}
	if r.memory == 0 {
		r.memory = physicalMemory()
		if m := systemLimits.memoryBytes(); m > 0 && (r.memory == 0 || m < r.memory) {
			r.memory = m
		}
	}
	return r
}

// limits reads what cgroups allow this process.
type limits struct {
	read func(path string) string // "" when there is none
}

// groups are the directories of the process's cgroup for a v1 controller (""
// for v2), and of those above it: any of them may hold the limit. Inside a
// container the mount often shows the own cgroup as its root although
// /proc/self/cgroup names a path that is only valid outside, so the root of
// the mount is always looked at too.
func (l limits) groups(controller string) []string {
	mount := "/sys/fs/cgroup"
	if controller != "" {
		mount = filepath.Join(mount, controller)
	}
	dirs := []string{mount}
	for line := range strings.Lines(l.read("/proc/self/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		match := controller == "" && f[0] == "0" && f[1] == ""
		for c := range strings.SplitSeq(f[1], ",") {
			match = match || controller != "" && c == controller
		}
		if !match {
			continue
		}
		for p := filepath.Clean(f[2]); p != "/" && p != "."; p = filepath.Dir(p) {
			dirs = append(dirs, filepath.Join(mount, p))
		}
	}
	return dirs
}

func (l limits) number(path string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(l.read(path)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// cpuMilli is the smallest CPU quota; 0: none.
func (l limits) cpuMilli() int64 {
	var least int64
	note := func(quota, period int64) {
		if quota > 0 && period > 0 {
			if m := quota * 1000 / period; least == 0 || m < least {
				least = m
			}
		}
	}
	for _, dir := range l.groups("") {
		if f := strings.Fields(l.read(filepath.Join(dir, "cpu.max"))); len(f) == 2 && f[0] != "max" {
			quota, err := strconv.ParseInt(f[0], 10, 64)
			period, perr := strconv.ParseInt(f[1], 10, 64)
			if err == nil && perr == nil {
				note(quota, period)
			}
		}
	}
	for _, dir := range l.groups("cpu") {
		note(l.number(filepath.Join(dir, "cpu.cfs_quota_us")), l.number(filepath.Join(dir, "cpu.cfs_period_us")))
	}
	return least
}

// memoryBytes is the smallest memory limit; 0: none.
func (l limits) memoryBytes() int64 {
	var least int64
	note := func(n int64) {
		// v1 says "no limit" by a number near the top.
		if n > 0 && n < 1<<60 && (least == 0 || n < least) {
			least = n
		}
	}
	for _, dir := range l.groups("") {
		note(l.number(filepath.Join(dir, "memory.max"))) // "max" is no number
	}
	for _, dir := range l.groups("memory") {
		note(l.number(filepath.Join(dir, "memory.limit_in_bytes")))
	}
	return least
}
