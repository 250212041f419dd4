// SPDX-License-Identifier: Apache-2.0

package worker

import "golang.org/x/sys/unix"

// There are no cgroups.
var systemLimits = limits{read: func(string) string { return "" }}

func physicalMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(n)
}
