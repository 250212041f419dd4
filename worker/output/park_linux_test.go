// SPDX-License-Identifier: Apache-2.0

package output

import (
	"syscall"
	"testing"
)

// TestSlotComesBackToParkedSegment: a descriptor that lives a little longer
// than its attempt costs one more segment, not one each time.
func TestSlotComesBackToParkedSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	for i := range uint64(20) {
		o, _ := begin(t, slot, Ref{1, 2 * i, 1})
		put(t, o, "first\n")
		late := dup(t, o)
		end(t, slot)
		attemptOf(t, slot, Ref{1, 2*i + 1, 1}, "second\n", "")
		put(t, late, "of nobody\n")
		if err := syscall.Close(late); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(40) {
		want := "first\n"
		if i%2 == 1 {
			want = "second\n"
		}
		if got := read(t, s, Ref{1, i, 1}, Stdout, 0); got != want {
			t.Errorf("index %d: %q, want %q", i, got, want)
		}
	}
	if n := segments(t, dir); n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
}
