// SPDX-License-Identifier: Apache-2.0

package worker

import "syscall"

// acceptCloexec accepts a connection that no child inherits.
func acceptCloexec(fd int) (int, error) {
	n, _, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
	return n, err
}
