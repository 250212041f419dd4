// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"

	"golang.org/x/sys/unix"
)

var systemLimits = limits{read: func(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}}

func physicalMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram * uint64(info.Unit))
}
