// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestBusyProgram: a program that is still open for writing is started when it
// has been closed.
func TestBusyProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	content, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{}); err != syscall.ETXTBSY {
		t.Fatalf("while it is open: %v, want %v", err, syscall.ETXTBSY)
	}
	started := make(chan error, 1)
	go func() {
		pid, err := forkExec(program, []string{program}, &syscall.ProcAttr{})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		started <- err
	}()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
}
