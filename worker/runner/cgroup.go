// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
)

// errNoCgroups is why findCgroups found none, wrapped with the detail.
var errNoCgroups = errors.New("no writable cgroup")

// cgroups makes cgroups for tasks. Safe for concurrent use.
type cgroups interface {
	// kind is "cgroup1" or "cgroup2".
	kind() string
	// create makes a cgroup with the limits set and nothing in it.
	create(Limits) (cgroup, error)
	// close removes what the runner made.
	close() error
}

// cgroup is one task's.
type cgroup interface {
	// start forks and executes inside the cgroup, on the slot's thread.
	start(*Slot, *Spec) (pid int, err error)
	// kill sends SIGKILL to everything inside. Does not block.
	kill()
	// killAll kills until nothing is left, for a bounded time; false: some
	// process would not die.
	killAll() bool
	// memory says whether the limit killed a process, and the peak in bytes, 0
	// when the kernel does not tell.
	memory() (oom bool, peak int64)
	// remove removes the directory; what cannot be removed now is tried again
	// later.
	remove()
}
