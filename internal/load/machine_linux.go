// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func memoryBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) //nolint:unconvert // narrower on other architectures
}

// cpuModel is as the kernel writes it; arm64 has numbers in place of a name.
func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	return modelOf(b)
}

func modelOf(cpuinfo []byte) string {
	fields := map[string]string{}
	for line := range bytes.Lines(cpuinfo) {
		name, value, ok := strings.Cut(string(line), ":")
		if name = strings.TrimSpace(name); ok && fields[name] == "" {
			fields[name] = strings.TrimSpace(value)
		}
	}
	switch {
	case fields["model name"] != "":
		return fields["model name"]
	case fields["CPU part"] != "":
		return "implementer " + fields["CPU implementer"] + " part " + fields["CPU part"]
	}
	return "unknown"
}
