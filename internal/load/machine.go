// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volley-batch/volley/internal/usage"
)

func thisMachine(version string) Machine {
	m := Machine{
		CPU: cpuModel(), CPUs: runtime.GOMAXPROCS(0), MemoryBytes: memoryBytes(),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Volley: version,
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// fsyncs is how many the probe makes: enough for a 99th percentile, and done in
// a second on a slow disk.
const fsyncs = 300

// probeStorage measures fsync in the directory, with what a commit writes at
// least: one page behind the end of a file.
func probeStorage(dir string) (_ *Storage, err error) {
	s := &Storage{FileSystem: usage.FileSystem(dir)}
	path := filepath.Join(dir, "fsync-probe")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	h := newHistogram("fsync of 4 KiB")
	page := make([]byte, 4096)
	for begin := time.Now(); h.h.TotalCount() < fsyncs && time.Since(begin) < 3*time.Second; {
		at := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("probe the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("probe the disk: %w", err)
		}
		h.add(time.Since(at))
	}
	s.Fsync = &h.appendTo(nil)[0]
	return s, nil
}

// durability says in words what an acknowledged result has behind it.
func durability(fileSystem string) string {
	switch fileSystem {
	case "":
		return "journal fsynced before anything is acknowledged; of its disk nothing is known here"
	case "tmpfs", "ramfs":
		return "journal fsynced before anything is acknowledged, but its file system is in memory: nothing survives a power cut, and fsync costs nothing"
	}
	return "journal fsynced before anything is acknowledged; workers spool their reports without fsync"
}
