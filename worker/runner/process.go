// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// waitExited blocks until the child is a zombie, without reaping it.
func waitExited(pid int) error {
	const pPID = 1
	// The kernel fills a siginfo_t (128 bytes on Linux, 104 on darwin); nothing
	// in it is needed.
	var info [16]uint64
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		switch e {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return os.NewSyscallError("waitid", e)
		}
	}
}

// reap blocks until the child has ended and takes its status.
func reap(pid int, ws *syscall.WaitStatus, ru *syscall.Rusage) error {
	for {
		_, err := syscall.Wait4(pid, ws, 0, ru)
		switch {
		case err == syscall.EINTR, err == nil && !ws.Exited() && !ws.Signaled():
		case err != nil:
			return os.NewSyscallError("wait4", err)
		default:
			return nil
		}
	}
}

// groupGone says whether nothing of the killed process group runs any more.
// What is left of it has SIGKILL pending and normally needs some hundred
// microseconds; on a crowded machine it may wait long for a CPU to die on, so it
// is given up to a second. Signal 0 harms nobody should the id
// be in use again, which costs a false straggler at worst.
func groupGone(pgid int) bool {
	pause := 50 * time.Microsecond
	for deadline := time.Now().Add(time.Second); ; pause = min(2*pause, 10*time.Millisecond) {
		if syscall.Kill(-pgid, 0) == syscall.ESRCH {
			return true
		}
		// Orphans become zombies of process 1, and in a container that is often
		// a program that never reaps them: then they are in the group for ever.
		if pause > 500*time.Microsecond && onlyZombies(pgid) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

// closeOnExecDir marks the descriptors above 2 that the directory lists.
func closeOnExecDir(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
