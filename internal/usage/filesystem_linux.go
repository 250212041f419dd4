// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"fmt"
	"syscall"
)

// fileSystems are the numbers that statfs answers with, of those that people
// keep data on.
var fileSystems = map[uint32]string{
	0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs", 0xf2f52010: "f2fs", 0xca451a4e: "bcachefs",
	0x01021994: "tmpfs", 0x858458f6: "ramfs", 0x794c7630: "overlayfs", 0x6969: "nfs", 0xff534d42: "cifs", 0x65735546: "fuse",
	0x0bd00bd0: "lustre", 0x01021997: "9p", 0xc36400: "ceph",
}

// FileSystem names the file system that holds the path, such as ext4; "" when
// the path cannot be looked at.
func FileSystem(path string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return ""
	}
	n := uint32(s.Type) // magic numbers have 32 bits; the field has more on some architectures
	if name, ok := fileSystems[n]; ok {
		return name
	}
	return fmt.Sprintf("%#x", n)
}
