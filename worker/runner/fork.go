// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"syscall"
	"time"
)

// busyTries bounds how long forkExec waits for a program to be let go: about a
// second.
const busyTries = 70

// forkExec is syscall.ForkExec, patient with ETXTBSY. A program that was just
// written, by the worker itself when it fetched the job's files or by a task,
// is still held open for writing by every child that another slot has forked
// and that has not reached its exec yet (golang.org/issue/22315).
func forkExec(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	for n := 0; ; n++ {
		pid, err = syscall.ForkExec(path, args, attr)
		if err != syscall.ETXTBSY || n == busyTries {
			return pid, err
		}
		time.Sleep(time.Millisecond << min(n/4, 4))
	}
}
