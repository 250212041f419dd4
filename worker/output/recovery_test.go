// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	attemptOf(t, slot, Ref{1, 0, 1}, "done", "")
	o, _ := begin(t, slot, Ref{1, 1, 1})
	put(t, o, "cut short")
	followed := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() {
		followed <- s.Follow(context.Background(), Ref{1, 1, 1}, Stdout, 0, func([]byte) error {
			seen <- struct{}{}
			return nil
		})
	}()
	<-seen
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; !errors.Is(err, ErrClosed) {
		t.Errorf("follow: %v", err)
	}
	_, endErr := slot.End(false)
	_, _, beginErr := slot.Begin(Ref{1, 2, 1})
	_, readErr := s.Read(Ref{1, 0, 1}, Stdout, 0, &bytes.Buffer{})
	_, lookupErr := s.Lookup(Ref{1, 0, 1})
	_, lastErr := s.LastAttempt(1, 0)
	for i, err := range []error{endErr, beginErr, readErr, lookupErr, lastErr, s.Flush(), s.Sync(), s.RemoveJob(1)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	s2 := openStore(t, dir, Options{})
	wantNotFound(t, s2, Ref{1, 1, 1})
	if got := read(t, s2, Ref{1, 0, 1}, Stdout, 0); got != "done" {
		t.Errorf("read %q", got)
	}
}

func TestRemoveJob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{SegmentBytes: 50})
	slot := s.Slot(0)
	text := strings.Repeat("x", 60) // a segment each
	attemptOf(t, slot, Ref{1, 0, 1}, text, "")
	attemptOf(t, slot, Ref{1, 1, 1}, "short", "")
	attemptOf(t, slot, Ref{2, 0, 1}, text, "")
	attemptOf(t, slot, Ref{1, 2, 1}, "", "")
	attemptOf(t, slot, Ref{1, 3, 1}, text, "")
	if err := errors.Join(s.RemoveJob(1), s.RemoveJob(1), s.RemoveJob(99)); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(4) {
		wantNotFound(t, s, Ref{1, i, 1})
	}
	if got := read(t, s, Ref{2, 0, 1}, Stdout, 0); got != text {
		t.Errorf("the other job: %q", got)
	}
	// The slot's own segment goes when the slot moves on.
	attemptOf(t, slot, Ref{3, 0, 1}, "three", "")
	if n := segments(t, dir); n != 2 {
		t.Errorf("%d segments, want job 2's and job 3's", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s2 := openStore(t, dir, Options{})
	wantNotFound(t, s2, Ref{1, 0, 1})
	wantNotFound(t, s2, Ref{1, 2, 1})
	if got := read(t, s2, Ref{2, 0, 1}, Stdout, 0); got != text {
		t.Errorf("the other job after a restart: %q", got)
	}
	if err := errors.Join(s2.RemoveJob(2), s2.RemoveJob(3)); err != nil {
		t.Fatal(err)
	}
	if n := segments(t, dir); n != 0 {
		t.Errorf("%d segments with no job left", n)
	}
}

// TestIndexShrinks: removed jobs do not stay in the index for ever.
func TestIndexShrinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, indexName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	attemptOf(t, slot, Ref{9, 1, 1}, "stays", "")
	attemptOf(t, slot, Ref{9, 2, 1}, "", "")
	for i := range uint64(2 * minWaste) {
		attemptOf(t, slot, Ref{1, i, 1}, "goes", "")
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	large := size()
	if err := s.RemoveJob(1); err != nil {
		t.Fatal(err)
	}
	if small := size(); small > 100 || small >= large {
		t.Errorf("index of %d bytes became %d", large, small)
	}
	// The rewritten index is the one that is written to.
	attemptOf(t, slot, Ref{9, 3, 1}, "also stays", "")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s2 := openStore(t, dir, Options{})
	for i, want := range map[uint64]string{1: "stays", 2: "", 3: "also stays"} {
		if got := read(t, s2, Ref{9, i, 1}, Stdout, 0); got != want {
			t.Errorf("index %d: %q, want %q", i, got, want)
		}
	}
	wantNotFound(t, s2, Ref{1, 5, 1})
}

// TestTornIndex cuts and damages the index at every byte: what remains is a
// prefix of what was written, in whole frames, and the store goes on.
func TestTornIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	const n = 4
	for i := range uint64(n) {
		attemptOf(t, slot, Ref{1, i, 1}, fmt.Sprint("output ", i), "")
		if err := s.Flush(); err != nil { // a frame each
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	segs := map[string][]byte{}
	for _, name := range []string{"000001.out", "000001.err"} {
		if segs[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	try := func(name string, index []byte, least int) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "x")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range segs {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, indexName), index, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer s.Close()
		kept := 0
		for i := range uint64(n) {
			var b bytes.Buffer
			if _, err := s.Read(Ref{1, i, 1}, Stdout, 0, &b); err == nil {
				if int(i) != kept || b.String() != fmt.Sprint("output ", i) {
					t.Fatalf("%s: index %d gives %q after %d kept", name, i, b.String(), kept)
				}
				kept++
			} else if !errors.Is(err, ErrNotFound) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if kept < least {
			t.Fatalf("%s: only %d kept, want %d", name, kept, least)
		}
		attemptOf(t, s.Slot(0), Ref{1, 100, 1}, "after", "")
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		s2, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("%s: second open: %v", name, err)
		}
		defer s2.Close()
		if got := read(t, s2, Ref{1, 100, 1}, Stdout, 0); got != "after" {
			t.Fatalf("%s: the new attempt reads %q", name, got)
		}
	}
	frame := (len(whole) - len(indexMagic)) / n
	for cut := range whole {
		try(fmt.Sprintf("cut at %d", cut), whole[:cut], max(0, cut-len(indexMagic))/frame)
	}
	for at := len(indexMagic); at < len(whole); at++ {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		try(fmt.Sprintf("damage at %d", at), bad, (at-len(indexMagic))/frame)
	}
	if err := os.WriteFile(filepath.Join(dir, indexName), []byte("something else entirely"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("a foreign index is taken for an empty one")
	}
}
