// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroupFiles is the part of the file system that cgroups need. The tests have
// one that behaves like the kernel on an ordinary directory.
type cgroupFiles interface {
	read(path string) ([]byte, error)
	// write writes the value with one call, as the kernel wants it.
	write(path, value string) error
	mkdir(path string) error
	rmdir(path string) error
	// children are the names of the directories inside.
	children(path string) ([]string, error)
}

type kernelFiles struct{}

func (kernelFiles) read(path string) ([]byte, error) { return os.ReadFile(path) }

func (kernelFiles) write(path, value string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd) //nolint:errcheck // the kernel acts on the write
	if _, err := syscall.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func (kernelFiles) mkdir(path string) error { return os.Mkdir(path, 0o755) }

// rmdir: os.Remove would try to unlink first and report that error.
func (kernelFiles) rmdir(path string) error {
	if err := syscall.Rmdir(path); err != nil {
		return &os.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

func (kernelFiles) children(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// cgroupMounts is where this process is in each hierarchy.
type cgroupMounts struct {
	// v2 is the directory in the unified hierarchy; empty: none mounted.
	v2 string
	// v1 is the directory by controller.
	v1 map[string]string
}

// parseCgroupMounts reads /proc/self/mountinfo and /proc/self/cgroup.
func parseCgroupMounts(mountinfo, self []byte) cgroupMounts {
	own := make(map[string]string) // "" is v2
	for line := range bytes.Lines(self) {
		// hierarchy-ID:controller-list:path
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			own[""] = parts[2]
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			if c != "" {
				own[c] = parts[2]
			}
		}
	}
	m := cgroupMounts{v1: make(map[string]string)}
	for line := range bytes.Lines(mountinfo) {
		// id parent dev root mountpoint options [optional…] - type source superoptions
		before, after, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		root, point := unescapeMount(left[3]), unescapeMount(left[4])
		switch right[0] {
		case "cgroup2":
			if dir, ok := below(point, root, own, ""); ok && m.v2 == "" {
				m.v2 = dir
			}
		case "cgroup":
			for c := range strings.SplitSeq(right[2], ",") {
				if dir, ok := below(point, root, own, c); ok && m.v1[c] == "" {
					m.v1[c] = dir
				}
			}
		}
	}
	return m
}

// below is the directory of the process's cgroup under a mount that shows the
// hierarchy from root on; false when it lies outside.
func below(point, root string, own map[string]string, controller string) (string, bool) {
	path, ok := own[controller]
	if !ok || !strings.HasPrefix(path, "/") || slices.Contains(strings.Split(path, "/"), "..") {
		return "", false
	}
	if root != "/" {
		if path != root && !strings.HasPrefix(path, root+"/") {
			return "", false
		}
		path = strings.TrimPrefix(path, root)
	}
	return filepath.Join(point, path), true
}

// unescapeMount undoes mountinfo's \ooo.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// flatValue reads one number of a file of "key value" lines.
func flatValue(text []byte, key string) (int64, bool) {
	for line := range bytes.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(string(line)), " "); ok && k == key {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func number(text []byte) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// killProcs sends SIGKILL to the processes of one cgroup and says how many it
// saw.
func killProcs(files cgroupFiles, dir string) int {
	text, err := files.read(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return 0
	}
	seen := 0
	self := os.Getpid()
	for field := range strings.FieldsSeq(string(text)) {
		// 0 stands for a process of another pid namespace: to kill(2) it would
		// mean our own group.
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 && pid != self {
			seen++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return seen
}

// killTree kills what runs in dir and below until nothing does, at most for
// the time given.
func killTree(files cgroupFiles, dir string, limit time.Duration) bool {
	var round func(dir string) int
	round = func(dir string) int {
		n := killProcs(files, dir)
		names, _ := files.children(dir)
		for _, name := range names {
			n += round(filepath.Join(dir, name))
		}
		return n
	}
	pause := 100 * time.Microsecond
	for deadline := time.Now().Add(limit); ; pause = min(2*pause, 10*time.Millisecond) {
		if round(dir) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

// removeTree removes dir and the cgroups below it, which a task may have made.
func removeTree(files cgroupFiles, dir string) error {
	err := files.rmdir(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	names, lerr := files.children(dir)
	if lerr != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := removeTree(files, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return files.rmdir(dir)
}

// freshDir makes dir; what an earlier worker left under the name is killed and
// removed first.
func freshDir(files cgroupFiles, dir string) error {
	err := files.mkdir(dir)
	if err == nil || !errors.Is(err, os.ErrExist) {
		return err
	}
	if !killTree(files, dir, 5*time.Second) {
		return fmt.Errorf("%s: processes of an earlier worker do not die", dir)
	}
	// Killed processes leave the cgroup a moment after they vanish from it.
	for pause := time.Millisecond; ; pause *= 2 {
		err := removeTree(files, dir)
		if err == nil {
			break
		}
		if pause > 500*time.Millisecond {
			return err
		}
		time.Sleep(pause)
	}
	return files.mkdir(dir)
}
