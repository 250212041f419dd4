// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"os"
	"syscall"
	"testing"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		write, list error
		want        bool
	}{
		"writable":              {nil, nil, false},
		"read-only file system": {syscall.EROFS, nil, true},
		"mode 0500":             {syscall.EACCES, nil, true},
		"of another user":       {syscall.EACCES, syscall.EACCES, false},
		"gone":                  {syscall.ENOENT, syscall.ENOENT, false},
	} {
		got := readOnly(func(mode uint32) error {
			if mode&2 != 0 {
				return tt.write
			}
			return tt.list
		})
		if got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the file system lets this process write is not taken for read-only.
func TestWritable(t *testing.T) {
	t.Parallel()
	d := directory(shortDir(t))
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := d.writable(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(d.path("a"), nil, 0o600); err != nil {
		t.Error(err)
	}
}
