// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func store(t *testing.T, s *Store, content []byte) {
	t.Helper()
	sum := sha256.Sum256(content)
	w, err := s.Create(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreRoundTrip(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("print('hello')\n")
	sum := sha256.Sum256(content)
	if has, err := s.Has(sum[:]); has || err != nil {
		t.Fatalf("Has before = %v, %v", has, err)
	}
	var wg sync.WaitGroup
	for range 8 { // the same content at the same time
		wg.Go(func() { store(t, s, content) })
	}
	wg.Wait()
	f, err := s.Open(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read %q, %v", got, err)
	}
	all, err := s.All()
	if err != nil || len(all) != 1 || !bytes.Equal(all[0], sum[:]) {
		t.Fatalf("All = %x, %v", all, err)
	}
	if err := errors.Join(s.Remove(sum[:]), s.Remove(sum[:])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(sum[:]); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Open after Remove: %v", err)
	}
}

func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("announced"))
	w, err := s.Create(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("received")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); !errors.Is(err, ErrDigest) {
		t.Errorf("Commit of other content: %v", err)
	}
	if _, err := s.Create([]byte("short")); !errors.Is(err, ErrDigest) {
		t.Errorf("Create with a short digest: %v", err)
	}
	if w, err = s.Create(sum[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, io.LimitReader(zeros{}, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	w.Abort()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOpenRemovesPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, partial+"1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
