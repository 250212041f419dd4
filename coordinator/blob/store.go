// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// MaxSize is the largest blob.
const MaxSize = 64 << 20

var (
	// ErrDigest: the content does not have the digest that was announced.
	ErrDigest = errors.New("the content does not match its digest")
	// ErrTooLarge: the content is above MaxSize.
	ErrTooLarge = fmt.Errorf("a blob is larger than %d MiB", MaxSize>>20)
	// ErrNotFound: there is no blob of this digest.
	ErrNotFound = errors.New("there is no such blob")
)

const partial = ".partial-"

// Store is a directory of blobs. The time of a file says when it was last
// stored or asked for with Keep.
type Store struct {
	dir string
	// mu makes looking at a blob's age and acting on it one step: RemoveBefore
	// must not remove what Keep has just promised.
	mu sync.Mutex
}

// Open makes the directory and removes what a crash left half-written.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	for _, e := range old {
		if strings.HasPrefix(e.Name(), partial) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("open blobs: %w", err)
			}
		}
	}
	return &Store{dir: dir}, nil
}

func (s *Store) path(digest []byte) (string, error) {
	if len(digest) != sha256.Size {
		return "", fmt.Errorf("%w: a digest has %d bytes, this one %d", ErrDigest, sha256.Size, len(digest))
	}
	return filepath.Join(s.dir, hex.EncodeToString(digest)), nil
}

// Has says whether the blob is there.
func (s *Store) Has(digest []byte) (bool, error) {
	p, err := s.path(digest)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Keep says whether the blob is there, and if so, renews its age.
func (s *Store) Keep(digest []byte) (bool, error) {
	p, err := s.path(digest)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	err = os.Chtimes(p, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// RemoveBefore forgets a blob that was neither stored nor kept since t, and
// says whether it did.
func (s *Store) RemoveBefore(digest []byte, t time.Time) (bool, error) {
	p, err := s.path(digest)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.ModTime().Before(t) {
		return false, err
	}
	return true, os.Remove(p)
}

// Open opens a blob for reading.
func (s *Store) Open(digest []byte) (*os.File, error) {
	p, err := s.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %x", ErrNotFound, digest)
	}
	return f, err
}

// Remove forgets a blob. One that is not there is no error.
func (s *Store) Remove(digest []byte) error {
	p, err := s.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// All lists the digests of all blobs.
func (s *Store) All() ([][]byte, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, e := range entries {
		if d, err := hex.DecodeString(e.Name()); err == nil && len(d) == sha256.Size {
			all = append(all, d)
		}
	}
	return all, nil
}

// Writer takes in one blob.
type Writer struct {
	store  *Store
	digest []byte
	path   string
	file   *os.File
	hash   hash.Hash
	size   int64
}

// Create begins to store a blob. Call Commit or Abort.
func (s *Store) Create(digest []byte) (*Writer, error) {
	p, err := s.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.dir, partial)
	if err != nil {
		return nil, fmt.Errorf("store a blob: %w", err)
	}
	return &Writer{store: s, digest: digest, path: p, file: f, hash: sha256.New()}, nil
}

// Write appends to the blob.
func (w *Writer) Write(b []byte) (int, error) {
	if w.size += int64(len(b)); w.size > MaxSize {
		return 0, ErrTooLarge
	}
	w.hash.Write(b)
	return w.file.Write(b)
}

// Commit checks the digest and makes the blob durable.
func (w *Writer) Commit() error {
	if sum := w.hash.Sum(nil); string(sum) != string(w.digest) {
		w.Abort()
		return fmt.Errorf("%w: announced %x, received %x", ErrDigest, w.digest, sum)
	}
	err := w.file.Sync()
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		w.store.mu.Lock()
		err = os.Rename(w.file.Name(), w.path)
		w.store.mu.Unlock()
	}
	if err == nil {
		err = syncDir(w.store.dir)
	}
	if err != nil {
		_ = os.Remove(w.file.Name())
		return fmt.Errorf("store a blob: %w", err)
	}
	return nil
}

// syncDir makes a rename survive a power cut: a job is answered for when its
// files are stored, so they must be no less durable than the job.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// Abort gives up. After Commit it does nothing.
func (w *Writer) Abort() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}
