// SPDX-License-Identifier: Apache-2.0

package worker

import "golang.org/x/sys/unix"

// canRename: renameNoReplace may work.
const canRename = true

// renameNoReplace renames, and fails when something is at the new path. Not
// every file system can; the caller then goes without.
func renameNoReplace(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}
