// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"bytes"
	"os"
	"strconv"
)

// memory reads the high-water mark from /proc: that of getrusage is inherited
// over exec, so a small server would show the peak of the large process that
// started it.
func (u *Usage) memory() {
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		u.RSS, u.PeakRSS = field(b, "VmRSS:")*1024, field(b, "VmHWM:")*1024
	}
	// Not readable in some containers.
	if b, err := os.ReadFile("/proc/self/io"); err == nil {
		u.Written = field(b, "write_bytes:")
	}
}

// field finds the number after a name at the beginning of a line.
func field(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		words := bytes.Fields(rest)
		if len(words) == 0 {
			return 0
		}
		n, err := strconv.ParseInt(string(words[0]), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
