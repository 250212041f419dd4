// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// heldForWriting says whether anyone has the file open for writing, by asking
// for a read lease, which the kernel grants only if nobody has. known is false
// where the file system has no leases.
func heldForWriting(fd int) (held, known bool) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false, true
	case errors.Is(err, syscall.EAGAIN):
		return true, true
	default:
		return false, false
	}
}
