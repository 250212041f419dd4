// SPDX-License-Identifier: Apache-2.0

package usage

import "syscall"

// memory knows the peak only, which is in bytes on this system.
func (u *Usage) memory() {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err == nil {
		u.PeakRSS = r.Maxrss
	}
}
