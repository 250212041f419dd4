// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func input(path, content string, mode uint32) *volleyv1.Input {
	sum := sha256.Sum256([]byte(content))
	return &volleyv1.Input{Path: path, Digest: sum[:], Size: int64(len(content)), Mode: mode}
}

func give(content string) Source {
	return func(_ context.Context, _ []byte, write func([]byte) error) error {
		return write([]byte(content))
	}
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFetchOnceForAll(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	in := input("a", "content", 0o755)
	var transfers atomic.Int32
	begun := make(chan struct{}, 64)
	release := make(chan struct{})
	source := func(_ context.Context, _ []byte, write func([]byte) error) error {
		transfers.Add(1)
		begun <- struct{}{}
		<-release
		return write([]byte("content"))
	}
	var wg sync.WaitGroup
	paths := make([]string, 8)
	for i := range paths {
		wg.Go(func() {
			var err error
			if paths[i], err = s.Fetch(t.Context(), in, source); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	close(release)
	wg.Wait()
	if n := transfers.Load(); n != 1 {
		t.Errorf("%d transfers, want 1", n)
	}
	info, err := os.Stat(paths[0])
	if err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("mode %v %v, want 0555", info.Mode(), err)
	}
	// Eight uses: the last release removes it.
	for range 7 {
		if err := s.Release([]*volleyv1.Input{in}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(paths[0]); err != nil {
		t.Errorf("removed while it is used: %v", err)
	}
	if err := s.Release([]*volleyv1.Input{in}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(paths[0]); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestFailedTransferLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	in := input("a", "content", 0o644)
	broken := errors.New("broken")
	for name, source := range map[string]Source{
		"other content": give("CONTENT"),
		"too long":      give("content and more"),
		"too short":     give("con"),
		"error": func(_ context.Context, _ []byte, write func([]byte) error) error {
			return errors.Join(write([]byte("con")), broken)
		},
	} {
		_, err := s.Fetch(t.Context(), in, source)
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
			t.Errorf("%s leaves %v %v", name, left, err)
		}
	}
	if _, err := s.Fetch(t.Context(), in, give("content")); err != nil {
		t.Errorf("after failures: %v", err)
	}
}

func TestDamagedFileIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	in := input("a", "content", 0o644)
	path, err := s.Fetch(t.Context(), in, give("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), in, give("content")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   *volleyv1.Input
		want string
	}{
		{input("a/b", "", 0), ""},
		{input("../a", "", 0), "leads out"},
		{input("/etc/passwd", "", 0), "leads out"},
		{input("a/../../b", "", 0), "leads out"},
		{input(".", "", 0), "leads out"},
		{input("", "", 0), "leads out"},
		{&volleyv1.Input{Path: "a", Digest: []byte{1}}, "digest of 1 bytes"},
		{&volleyv1.Input{Path: "a", External: "relative"}, "not absolute"},
		{&volleyv1.Input{Path: "a", External: "/abs"}, ""},
	} {
		err := Check(tc.in)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: %v, want %q", tc.in, err, tc.want)
		}
	}
}

func TestSweepAndLeftovers(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	used, unused := input("a", "used", 0o644), input("b", "unused", 0o644)
	keep, err := s.Fetch(t.Context(), used, give("used"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), unused, give("unused")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ff-444"+partial+"123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(s.dir) // the next process
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), used, give("never asked")); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 2 {
		t.Errorf("young files: %v %v, want both", left, err)
	}
	if err := s.Sweep(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 1 || left[0].Name() != filepath.Base(keep) {
		t.Errorf("after the sweep: %v %v, want %s", left, err, keep)
	}
}

func TestLinkAndUnlink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inputs := []*volleyv1.Input{input("a", "", 0), input("d/e/b", "", 0), input("d/c", "", 0)}
	targets := []string{"/t/a", "/t/b", "/t/c"}
	if err := Link(dir, inputs, targets); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(filepath.Join(dir, "d/e/b")); err != nil || got != "/t/b" {
		t.Errorf("%q %v", got, err)
	}
	// The task replaces one by a file of its own.
	if err := os.Remove(filepath.Join(dir, "d/c")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "d/c"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	Unlink(dir, inputs, targets)
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(left) != 1 || left[0] != filepath.Join(dir, "d/c") {
		t.Errorf("left: %v %v, want the task's own file", left, err)
	}
}
