// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"
	"path/filepath"
	"testing"
)

// copySpool makes of dir what a process that was killed leaves behind.
func copySpool(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"node-id", "epoch"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(to, "spool"), os.DirFS(filepath.Join(from, "spool"))); err != nil {
		t.Fatal(err)
	}
}
