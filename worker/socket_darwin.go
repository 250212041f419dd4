// SPDX-License-Identifier: Apache-2.0

package worker

import "syscall"

// acceptCloexec accepts a connection that no child inherits: without accept4,
// the lock keeps forks away until the flag is set.
func acceptCloexec(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, _, err := syscall.Accept(fd)
	if err != nil {
		return 0, err
	}
	syscall.CloseOnExec(n)
	return n, syscall.SetNonblock(n, true)
}
