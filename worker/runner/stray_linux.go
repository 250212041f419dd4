// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const canKillStrays = true

// hunt is one call of KillStrays.
type hunt struct {
	marks []string
	at    *atomic.Int64 // the process that is looked at
	self  int
	// above are this process and its ancestors.
	above map[int]bool
	// noPidfd: the system has none, or forbids it.
	noPidfd bool
	killed  map[processID]bool
	buf     bytes.Buffer
}

// processID names a process for good: the kernel gives a number again, but not
// at the same tick of its clock.
type processID struct {
	pid   int
	start uint64
}

func killStrays(ctx context.Context, marks []string, at *atomic.Int64) (Strays, error) {
	return newHunt(marks, at).run(ctx)
}

func newHunt(marks []string, at *atomic.Int64) *hunt {
	h := &hunt{marks: marks, at: at, self: os.Getpid(), above: make(map[int]bool), killed: make(map[processID]bool)}
	for pid := h.self; pid > 0 && !h.above[pid]; {
		h.above[pid] = true
		st, err := readStat(pid)
		if err != nil {
			break // of a namespace that is not seen from here
		}
		pid = st.parent
	}
	return h
}

func (h *hunt) run(ctx context.Context) (Strays, error) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	quiet := 0
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, dying, again, err := h.pass()
		if err != nil {
			return Strays{}, err
		}
		if quiet++; again {
			quiet = 0
		}
		// A process that is just replacing its program shows no environment, so
		// one quiet look is not the end.
		if quiet == 2 || ctx.Err() != nil {
			return Strays{Killed: len(h.killed) - dying, Left: left}, nil
		}
		// They are still there for as long as the kernel takes to free their
		// memory. After ctx, one more pass says what is left.
		pause.Reset(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// pass looks once at every process and kills the marked ones. Of those that are
// left, dying have been sent SIGKILL. again: another look is due, since one of
// them is dying, or has ended by itself and may have started another.
func (h *hunt) pass() (left []Stray, dying int, again bool, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, 0, false, fmt.Errorf("runner: list processes: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("runner: list processes: %w", err)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		h.at.Store(int64(pid))
		mark := h.marked(pid)
		if mark == "" || h.kin(pid) {
			continue
		}
		switch err := h.kill(pid); {
		case err == nil:
			left = append(left, Stray{pid, mark})
			dying++
			again = true
		case errors.Is(err, unix.ESRCH):
			again = true
		default:
			left = append(left, Stray{pid, mark})
		}
	}
	return left, dying, again, nil
}

// marked answers the mark in the environment of the process. A process that has
// ended, also one that nobody has waited for, has none; nor has one that may
// not be looked at.
func (h *hunt) marked(pid int) string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	h.buf.Reset()
	_, err = io.Copy(&h.buf, f)
	if cerr := f.Close(); err != nil || cerr != nil {
		return ""
	}
	for item := range bytes.SplitSeq(h.buf.Bytes(), []byte{0}) {
		for _, m := range h.marks {
			if string(item) == m {
				return m
			}
		}
	}
	return ""
}

// kin says whether the process is this one, an ancestor, or a descendant.
func (h *hunt) kin(pid int) bool {
	if h.above[pid] {
		return true
	}
	// Parents may change meanwhile, so the way up has to have an end.
	for range 1000 {
		st, err := readStat(pid)
		if err != nil {
			return false
		}
		if pid = st.parent; pid == h.self {
			return true
		}
		if pid <= 1 {
			return false
		}
	}
	return false
}

// kill kills the process if it is a marked one. Between a look at /proc and a
// signal, the number may have passed to another process; so the process is held
// first, looked at, and killed as what is held.
func (h *hunt) kill(pid int) error {
	before, err := readStat(pid)
	if err != nil {
		return unix.ESRCH
	}
	fd := -1
	if !h.noPidfd {
		fd, err = unix.PidfdOpen(pid, 0)
		switch {
		case err == nil:
			defer func() { _ = unix.Close(fd) }() // nothing is written through it
		case errors.Is(err, unix.ESRCH):
			return err
		default: // Linux before 5.3, a sandbox, no descriptor left
			h.noPidfd, fd = true, -1
		}
	}
	if h.marked(pid) == "" {
		return unix.ESRCH
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	} else {
		// Without a descriptor, what was looked at must be as old as before:
		// numbers are not given again within the instant that is left.
		after, serr := readStat(pid)
		if serr != nil || after.start != before.start {
			return unix.ESRCH
		}
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err == nil {
		h.killed[processID{pid, before.start}] = true
	}
	return err
}

// stat is what /proc/PID/stat says.
type stat struct {
	parent int
	start  uint64 // ticks since the boot
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads "pid (name) state ppid …". The name may hold anything, blanks
// and ")" too.
func parseStat(b []byte) (st stat, err error) {
	const parentField, startField = 4, 22
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < startField-2 {
		return stat{}, fmt.Errorf("runner: status of a process: %q", b)
	}
	if st.parent, err = strconv.Atoi(string(fields[parentField-3])); err == nil {
		st.start, err = strconv.ParseUint(string(fields[startField-3]), 10, 64)
	}
	if err != nil {
		return stat{}, fmt.Errorf("runner: status of a process: %w", err)
	}
	return st, nil
}
