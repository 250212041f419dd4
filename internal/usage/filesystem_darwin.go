// SPDX-License-Identifier: Apache-2.0

package usage

import "syscall"

// FileSystem names the file system that holds the path, such as apfs; "" when
// the path cannot be looked at.
func FileSystem(path string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return ""
	}
	var name []byte
	for _, c := range s.Fstypename {
		if c == 0 {
			break
		}
		name = append(name, byte(c))
	}
	return string(name)
}
