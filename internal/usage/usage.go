// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"syscall"
	"time"
)

// Usage of one process.
type Usage struct {
	User, System time.Duration
	// RSS and PeakRSS are bytes of memory, now and at most.
	RSS, PeakRSS int64
	// Written counts bytes that the process caused to be written to storage.
	Written int64
}

// CPU is the time in user and system mode.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Self is what this process has used.
func Self() Usage {
	u := times(syscall.RUSAGE_SELF)
	u.memory()
	return u
}

// Children is the CPU time of the children that have ended and were waited
// for, and of theirs. One that still runs is not in it.
func Children() Usage { return times(syscall.RUSAGE_CHILDREN) }

func times(who int) Usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		return Usage{} // cannot be, with these arguments
	}
	return Usage{User: time.Duration(r.Utime.Nano()), System: time.Duration(r.Stime.Nano())}
}
