// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// ErrCorrupt reports content that does not have the digest of its name.
var ErrCorrupt = errors.New("content does not match its digest")

// Source gives the content of a blob, piece by piece, to write; it blocks until
// all of it was given.
type Source func(ctx context.Context, digest []byte, write func([]byte) error) error

// Store keeps files by digest in one directory.
type Store struct {
	dir string

	mu       sync.Mutex
	fetching map[string]chan struct{} // closed when that transfer has ended
	used     map[string]int           // references, by file name
}

// Open opens the store in dir, which it makes when missing. What an earlier
// process left half-fetched is removed.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	half, err := filepath.Glob(filepath.Join(dir, "*"+partial+"*"))
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	for _, p := range half {
		if err := os.Remove(p); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return &Store{dir: dir, fetching: make(map[string]chan struct{}), used: make(map[string]int)}, nil
}

const partial = ".part"

// Check says what is wrong with an input by itself.
func Check(in *volleyv1.Input) error {
	p := filepath.FromSlash(in.GetPath())
	if !filepath.IsLocal(p) || filepath.Clean(p) == "." {
		return fmt.Errorf("input %q: the path leads out of the working directory", in.GetPath())
	}
	if ext := in.GetExternal(); ext != "" {
		if !filepath.IsAbs(ext) {
			return fmt.Errorf("input %q: external path %q is not absolute", in.GetPath(), ext)
		}
		return nil
	}
	if len(in.GetDigest()) != sha256.Size {
		return fmt.Errorf("input %q: digest of %d bytes, want %d", in.GetPath(), len(in.GetDigest()), sha256.Size)
	}
	return nil
}

// name keeps the executable bits apart: one content may be wanted both as a
// program and as data.
func name(in *volleyv1.Input) (string, fs.FileMode) {
	mode := fs.FileMode(in.GetMode()) & 0o555
	if mode == 0 {
		mode = 0o444
	}
	return fmt.Sprintf("%s-%o", hex.EncodeToString(in.GetDigest()), mode), mode
}

// Fetch makes sure that the input is here, counts one use of it, and returns
// the absolute path to link to. It blocks for the transfer.
func (s *Store) Fetch(ctx context.Context, in *volleyv1.Input, source Source) (string, error) {
	if err := Check(in); err != nil {
		return "", err
	}
	if ext := in.GetExternal(); ext != "" {
		if _, err := os.Stat(ext); err != nil {
			return "", fmt.Errorf("input %q: %w", in.GetPath(), err)
		}
		return ext, nil
	}
	file, mode := name(in)
	path := filepath.Join(s.dir, file)
	for {
		s.mu.Lock()
		if info, err := os.Stat(path); err == nil && info.Size() == in.GetSize() {
			s.used[file]++
			s.mu.Unlock()
			return path, nil
		}
		other := s.fetching[file]
		if other == nil {
			done := make(chan struct{})
			s.fetching[file] = done
			s.mu.Unlock()
			err := s.transfer(ctx, in, path, mode, source)
			s.mu.Lock()
			delete(s.fetching, file)
			if err == nil {
				s.used[file]++
			}
			s.mu.Unlock()
			close(done)
			if err != nil {
				return "", fmt.Errorf("input %q: %w", in.GetPath(), err)
			}
			return path, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return "", fmt.Errorf("input %q: %w", in.GetPath(), ctx.Err())
		}
	}
}

func (s *Store) transfer(ctx context.Context, in *volleyv1.Input, path string, mode fs.FileMode, source Source) (err error) {
	f, err := os.CreateTemp(s.dir, filepath.Base(path)+partial)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// Both fail only when the file is gone already.
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	var size int64
	err = source(ctx, in.GetDigest(), func(b []byte) error {
		if size += int64(len(b)); size > in.GetSize() {
			return fmt.Errorf("%w: more than %d bytes", ErrCorrupt, in.GetSize())
		}
		_, err := io.MultiWriter(sum, f).Write(b)
		return err
	})
	if err != nil {
		return err
	}
	if got := sum.Sum(nil); string(got) != string(in.GetDigest()) {
		return fmt.Errorf("%w: got %x", ErrCorrupt, got)
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Release takes back one use per input, and removes the files that nothing
// uses any more.
func (s *Store) Release(inputs []*volleyv1.Input) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, in := range inputs {
		if in.GetExternal() != "" || Check(in) != nil {
			continue
		}
		file, _ := name(in)
		if s.used[file]--; s.used[file] > 0 {
			continue
		}
		delete(s.used, file)
		if err := os.Remove(filepath.Join(s.dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Sweep removes files that no job uses and that were last changed before the
// given time: what earlier processes fetched.
func (s *Store) Sweep(before time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("sweep blob store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || s.used[e.Name()] > 0 || !info.ModTime().Before(before) || strings.Contains(e.Name(), partial) {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
	}
	return errors.Join(errs...)
}

// Link puts symbolic links to the targets into dir, at the inputs' relative
// paths, and makes the directories that they need.
func Link(dir string, inputs []*volleyv1.Input, targets []string) error {
	for i, in := range inputs {
		at := filepath.Join(dir, filepath.FromSlash(in.GetPath()))
		err := os.Symlink(targets[i], at)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
				err = os.Symlink(targets[i], at)
			}
		}
		if err != nil {
			return fmt.Errorf("link input %q: %w", in.GetPath(), err)
		}
	}
	return nil
}

// Unlink removes the links, and the directories made for them as far as they
// are empty. A file that the task has put in the place of a link stays.
func Unlink(dir string, inputs []*volleyv1.Input, targets []string) {
	for i, in := range inputs {
		rel := filepath.FromSlash(in.GetPath())
		at := filepath.Join(dir, rel)
		if got, err := os.Readlink(at); err != nil || got != targets[i] {
			continue
		}
		if os.Remove(at) != nil {
			continue
		}
		for p := filepath.Dir(rel); p != "."; p = filepath.Dir(p) {
			if os.Remove(filepath.Join(dir, p)) != nil {
				break
			}
		}
	}
}
