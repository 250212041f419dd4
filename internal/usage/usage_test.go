// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"os/exec"
	"runtime"
	"testing"
	"time"
)

func TestSelfGrows(t *testing.T) {
	t.Parallel()
	before := Self()
	if before.PeakRSS < 1<<20 || before.RSS > before.PeakRSS {
		t.Errorf("memory %d now, %d at most", before.RSS, before.PeakRSS)
	}
	deadline := time.Now().Add(10 * time.Second)
	for n := 0; Self().CPU() <= before.CPU(); n++ {
		if time.Now().After(deadline) {
			t.Fatalf("%v of CPU after ten seconds of work, %v before", Self().CPU(), before.CPU())
		}
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	before := Children().CPU()
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	if after := Children().CPU(); after <= before {
		t.Errorf("%v of children's CPU after a child has worked, %v before", after, before)
	}
}

func TestFileSystem(t *testing.T) {
	t.Parallel()
	if got := FileSystem(t.TempDir()); got == "" {
		t.Error("the temporary directory is on no file system")
	}
	if got := FileSystem("/nowhere/at/all"); got != "" {
		t.Errorf("a path that does not exist is on %q", got)
	}
	if runtime.GOOS == "linux" {
		if got := FileSystem("/dev/shm"); got != "" && got != "tmpfs" {
			t.Errorf("/dev/shm is on %q", got)
		}
	}
}
