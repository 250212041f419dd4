// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestCgroupLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		files       map[string]string
		cpu, memory int64
	}{
		{"none", map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 0, 0},
		{"v2", map[string]string{
			"/proc/self/cgroup":             "0::/a/b\n",
			"/sys/fs/cgroup/a/cpu.max":      "150000 100000\n",
			"/sys/fs/cgroup/a/b/cpu.max":    "400000 100000\n",
			"/sys/fs/cgroup/a/b/memory.max": "max\n",
			"/sys/fs/cgroup/a/memory.max":   "2147483648\n",
		}, 1500, 2 << 30},
		{"v2 in a container", map[string]string{
			"/proc/self/cgroup":         "0::/docker/outside\n",
			"/sys/fs/cgroup/cpu.max":    "50000 100000\n",
			"/sys/fs/cgroup/memory.max": "1048576\n",
		}, 500, 1 << 20},
		{"v1", map[string]string{
			"/proc/self/cgroup":                             "5:memory:/x\n4:cpu,cpuacct:/y\n",
			"/sys/fs/cgroup/cpu/y/cpu.cfs_quota_us":         "300000\n",
			"/sys/fs/cgroup/cpu/y/cpu.cfs_period_us":        "100000\n",
			"/sys/fs/cgroup/cpu/cpu.cfs_quota_us":           "-1\n",
			"/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "4096\n",
			"/sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
		}, 3000, 4096},
		{"nonsense", map[string]string{"/proc/self/cgroup": "x\n:::\n0::/a\n", "/sys/fs/cgroup/a/cpu.max": "1 0\n", "/sys/fs/cgroup/cpu.max": "a b c\n"}, 0, 0},
	} {
		l := limits{read: func(path string) string { return tc.files[path] }}
		if got := l.cpuMilli(); got != tc.cpu {
			t.Errorf("%s: %d CPU milli, want %d", tc.name, got, tc.cpu)
		}
		if got := l.memoryBytes(); got != tc.memory {
			t.Errorf("%s: %d bytes, want %d", tc.name, got, tc.memory)
		}
	}
}

func TestDetectCapacity(t *testing.T) {
	t.Parallel()
	got := detectCapacity(nil)
	if got.cpu < 1 || got.memory < 1<<20 || got.gpu != 0 {
		t.Errorf("detected %+v", got)
	}
	if got := detectCapacity(&volleyv1.Resources{CpuMilli: 5, MemoryBytes: 6, Gpu: 7}); got != (resources{5, 6, 7}) {
		t.Errorf("given capacity became %+v", got)
	}
}
