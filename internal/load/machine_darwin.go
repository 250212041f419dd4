// SPDX-License-Identifier: Apache-2.0

package load

import "golang.org/x/sys/unix"

func memoryBytes() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(n)
}

func cpuModel() string {
	name, err := unix.Sysctl("machdep.cpu.brand_string")
	if err != nil || name == "" {
		return "unknown"
	}
	return name
}
