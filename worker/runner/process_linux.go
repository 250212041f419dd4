// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const haveRlimits = true

func newSysProcAttr() syscall.SysProcAttr {
	return syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// closeOnExecAll keeps descriptors that the worker inherited from its tasks;
// those that Go opened are marked already.
func closeOnExecAll() {
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	closeOnExecDir("/proc/self/fd") // Linux before 5.11
}

// clearSignalMask unblocks every signal on the calling thread: a child
// inherits the mask of the thread that forks it.
func clearSignalMask() {
	var none unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
}

// onlyZombies looks through all processes for a living one of the group. It is
// slow (some 2 µs a process) and only used for tasks that leave something
// behind.
func onlyZombies(pgid int) bool {
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if g, err := syscall.Getpgid(pid); err != nil || g != pgid {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // gone meanwhile
		}
		// pid (name) state …, and the name may hold anything, ")" too.
		i := bytes.LastIndexByte(stat, ')')
		if i < 0 || i+2 >= len(stat) || stat[i+2] != 'Z' && stat[i+2] != 'X' {
			return false
		}
	}
	return true
}

// startWithRlimit starts the program stopped at its first instruction, sets
// the limit, and lets it go. Setting it after an ordinary start would leave a
// moment in which the program could fork a child without it; setting it on
// the worker before the fork would limit the worker.
func (s *Slot) startWithRlimit(spec *Spec) (int, error) {
	s.sys.Ptrace = true
	pid, err := forkExec(spec.Path, spec.Args, &s.attr)
	s.sys.Ptrace = false
	if errors.Is(err, syscall.EPERM) {
		// Tracing is forbidden (Yama, seccomp): the moment is the lesser evil.
		if pid, err = forkExec(spec.Path, spec.Args, &s.attr); err != nil {
			return 0, err
		}
		return pid, s.limitOrKill(pid, spec)
	}
	if err != nil {
		return 0, err
	}
	var ws syscall.WaitStatus
	for {
		_, err = syscall.Wait4(pid, &ws, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil && !ws.Stopped() {
		// Killed before its first instruction and reaped by the wait above.
		return 0, &StartError{Reason: "process was killed while it started"}
	}
	if err := s.limitOrKill(pid, spec); err != nil {
		return 0, err
	}
	if err := syscall.PtraceDetach(pid); err != nil {
		s.discard(pid)
		return 0, os.NewSyscallError("ptrace detach", err)
	}
	return pid, nil
}

func (s *Slot) limitOrKill(pid int, spec *Spec) error {
	limit := unix.Rlimit{Cur: uint64(spec.Limits.MemoryBytes), Max: uint64(spec.Limits.MemoryBytes)}
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &limit, nil); err != nil {
		s.discard(pid)
		return os.NewSyscallError("prlimit", err)
	}
	return nil
}

// discard ends a process that was started and must not run.
func (s *Slot) discard(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	var ws syscall.WaitStatus
	var ru syscall.Rusage
	_ = reap(pid, &ws, &ru)
}
