// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestFullDisk: records that could not be written are kept and written later.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	attemptOf(t, slot, Ref{1, 0, 1}, "before", "")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	file := s.index.file
	s.index.file = full
	attemptOf(t, slot, Ref{1, 1, 1}, "during", "")
	attemptOf(t, slot, Ref{1, 2, 1}, "", "")
	for range 2 {
		if err := s.Flush(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("flush: %v", err)
		}
	}
	// So many that a batch would be written on its own.
	var failed error
	for i := range uint64(5000) {
		if _, _, err := slot.Begin(Ref{2, i, 1}); err != nil {
			t.Fatal(err)
		}
		put(t, slot.write[0], "x")
		if _, err := slot.End(false); err != nil {
			failed = err
		}
	}
	if !errors.Is(failed, syscall.ENOSPC) {
		t.Errorf("end with a full batch: %v", failed)
	}
	s.index.file = file
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s2 := openStore(t, dir, Options{})
	for i, want := range []string{"before", "during", ""} {
		if got := read(t, s2, Ref{1, uint64(i), 1}, Stdout, 0); got != want {
			t.Errorf("index %d: %q, want %q", i, got, want)
		}
	}
	for i := range uint64(5000) {
		if got := read(t, s2, Ref{2, i, 1}, Stdout, 0); got != "x" {
			t.Fatalf("index %d: %q", i, got)
		}
	}
}

// TestSegmentsGone: files that someone deleted are an error, not a crash.
func TestSegmentsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	attemptOf(t, slot, Ref{1, 0, 1}, "before", "")
	for _, stream := range []Stream{Stdout, Stderr} {
		if err := os.Remove(s.path(1, stream)); err != nil {
			t.Fatal(err)
		}
	}
	wantNotFound(t, s, Ref{1, 0, 1})
	if _, _, err := slot.Begin(Ref{1, 1, 1}); err != nil {
		t.Fatalf("begin does not recover: %v", err)
	}
	put(t, slot.write[0], "after")
	end(t, slot)
	if got := read(t, s, Ref{1, 1, 1}, Stdout, 0); got != "after" {
		t.Errorf("read %q", got)
	}
	if err := s.RemoveJob(1); err != nil {
		t.Error(fmt.Errorf("remove: %w", err))
	}
}
