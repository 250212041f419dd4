// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Errors that callers compare with errors.Is.
var (
	// ErrNotFound: no such attempt ran here, or it was removed.
	ErrNotFound = errors.New("output not found")
	// ErrRunning: another slot runs this very attempt.
	ErrRunning = errors.New("attempt is running already")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("output store is closed")
)

// Stream is one of a task's two streams.
type Stream int

// The streams of a task.
const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Ref names one execution.
type Ref struct {
	Job     uint64
	Index   uint64
	Attempt uint32
}

func (r Ref) String() string {
	return fmt.Sprintf("job %d index %d attempt %d", r.Job, r.Index, r.Attempt)
}

// Options of a Store. The zero value works.
type Options struct {
	// SegmentBytes is the size of one stream of a segment over which the slot
	// begins another. Larger ones make fewer files and free space later.
	// Default: 64 MiB; at most 2 GiB.
	SegmentBytes int64
	// MaxBytes is how much of one stream of an attempt is kept; the rest is
	// cut off at End. It does not stop the task: a file size limit of the
	// process would hold for every file that it writes, checkpoints too. A
	// worker stops such tasks by asking Exceeding now and then.
	// Default: 1 GiB; at most 2 GiB.
	MaxBytes int64
}

const (
	defaultSegmentBytes = 64 << 20
	defaultMaxBytes     = 1 << 30
	// Offsets and lengths are kept in 32 bits.
	maxOption = 2 << 30
)

func (o *Options) applyDefaultsAndValidate() error {
	for _, f := range []struct {
		name  string
		value *int64
		def   int64
	}{{"SegmentBytes", &o.SegmentBytes, defaultSegmentBytes}, {"MaxBytes", &o.MaxBytes, defaultMaxBytes}} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < 1 || *f.value > maxOption {
			return fmt.Errorf("output: %s %d is not between 1 and %d", f.name, *f.value, int64(maxOption))
		}
	}
	return nil
}

// Store is the output of one worker.
type Store struct {
	dir  string
	opts Options

	// mu guards everything below, and is never held across a read or write of
	// task output.
	mu       sync.Mutex
	closed   bool
	slots    map[int]*Slot
	jobs     map[uint64]*job
	live     map[Ref]*attempt
	segments map[uint32]*segment
	nextSeg  uint32
	// empty segments that could not be deleted yet.
	empty []uint32
	index indexFile
}

// segment is one pair of files.
type segment struct {
	// entries that lie in it.
	entries int
	// A slot writes it, so it is not deleted when the last entry goes.
	current bool
	// Grew since the last Sync.
	dirty bool
}

// Open opens the store in dir, which it makes if need be. One store per
// directory at a time: the caller holds the worker's lock on its data.
func Open(dir string, opts Options) (*Store, error) {
	if err := opts.applyDefaultsAndValidate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("output: open: %w", err)
	}
	s := &Store{
		dir: dir, opts: opts,
		slots:    make(map[int]*Slot),
		jobs:     make(map[uint64]*job),
		live:     make(map[Ref]*attempt),
		segments: make(map[uint32]*segment),
		nextSeg:  1,
	}
	if err := s.recover(); err != nil {
		err = errors.Join(err, s.index.close())
		return nil, fmt.Errorf("output: open %s: %w", dir, err)
	}
	return s, nil
}

// recover reads the index, deletes segments that nothing lies in, and rewrites
// the index when it pays.
func (s *Store) recover() error {
	if err := s.index.open(filepath.Join(s.dir, indexName), s.apply); err != nil {
		return err
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		id, ok := segmentID(e.Name())
		if !ok {
			continue
		}
		s.nextSeg = max(s.nextSeg, id+1)
		if seg := s.segments[id]; seg == nil || seg.entries == 0 {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
			continue
		}
	}
	for id, seg := range s.segments {
		// Numbers are never used twice, also when the files are gone.
		s.nextSeg = max(s.nextSeg, id+1)
		if seg.entries == 0 {
			delete(s.segments, id)
		}
	}
	return s.compactIfWasteful()
}

// apply takes one record into memory; at Open only records of the file, later
// those that End and RemoveJob make.
func (s *Store) apply(r *record) {
	switch r.kind {
	case kindOutput:
		s.job(r.job).add(r.entry)
		s.segment(r.entry.segment).entries++
	case kindSilent:
		s.job(r.job).addSilent(r.attempt, r.first, r.count)
	case kindRemoved:
		s.forget(r.job)
	}
}

func (s *Store) job(id uint64) *job {
	j := s.jobs[id]
	if j == nil {
		j = &job{}
		s.jobs[id] = j
	}
	return j
}

func (s *Store) segment(id uint32) *segment {
	seg := s.segments[id]
	if seg == nil {
		seg = &segment{}
		s.segments[id] = seg
	}
	return seg
}

// forget drops a job from memory and returns the segments that became empty.
func (s *Store) forget(id uint64) (empty []uint32) {
	j := s.jobs[id]
	if j == nil {
		return nil
	}
	for _, e := range j.entries {
		seg := s.segments[e.segment]
		if seg.entries--; seg.entries == 0 && !seg.current {
			empty = append(empty, e.segment)
		}
	}
	delete(s.jobs, id)
	return empty
}

// RemoveJob forgets the output of a job and deletes the segments in which
// nothing else lies. A segment that a slot still writes goes when the slot
// moves on, at its next Begin. The job's running attempts are not touched:
// their output is recorded when they end.
func (s *Store) RemoveJob(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	j := s.jobs[id]
	if j == nil {
		return nil
	}
	waste := j.len()
	s.empty = append(s.empty, s.forget(id)...)
	s.index.waste += waste + 1
	// The record first: after a crash between the two the segments are found
	// empty by Open. The other order would leave entries without a file.
	err := s.index.append(&record{kind: kindRemoved, job: id})
	if err == nil {
		err = s.index.flush()
	}
	for err == nil && len(s.empty) > 0 {
		if err = s.deleteSegment(s.empty[0]); err == nil {
			s.empty = s.empty[1:]
		}
	}
	if err != nil {
		return fmt.Errorf("output: remove job %d: %w", id, err)
	}
	return s.compactIfWasteful()
}

// Jobs lists the jobs that have recorded attempts, ascending.
func (s *Store) Jobs() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]uint64, 0, len(s.jobs))
	for id := range s.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *Store) deleteSegment(id uint32) error {
	delete(s.segments, id)
	for _, stream := range []Stream{Stdout, Stderr} {
		if err := os.Remove(s.path(id, stream)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Flush hands the records of ended attempts to the system: they survive the
// death of this process.
func (s *Store) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.index.flush()
}

// Sync makes the index and the output of ended attempts durable. It blocks for
// the disk.
func (s *Store) Sync() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	err := s.index.flush()
	var dirty []uint32
	for id, seg := range s.segments {
		if seg.dirty {
			seg.dirty = false
			dirty = append(dirty, id)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Without the lock, and through descriptors of its own: fsync is of the
	// file, not of the descriptor that wrote.
	paths := make([]string, 0, 2*len(dirty)+2)
	for _, id := range dirty {
		paths = append(paths, s.path(id, Stdout), s.path(id, Stderr))
	}
	paths = append(paths, filepath.Join(s.dir, indexName), s.dir)
	for _, p := range paths {
		// A segment may have been removed with its job meanwhile.
		if err = syncPath(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		err = nil
	}
	if err != nil {
		s.mu.Lock()
		for _, id := range dirty {
			if seg := s.segments[id]; seg != nil {
				seg.dirty = true
			}
		}
		s.mu.Unlock()
		return fmt.Errorf("output: sync: %w", err)
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close flushes and closes. Attempts still running end as not recorded, and
// those who follow them get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.index.flush()
	for _, slot := range s.slots {
		if slot.cur != nil {
			continue
		}
		if derr := slot.leaveAll(); err == nil {
			err = derr
		}
	}
	for ref, a := range s.live {
		delete(s.live, ref)
		a.end()
	}
	if cerr := s.index.close(); err == nil {
		err = cerr
	}
	return err
}

// compactIfWasteful rewrites the index without what removed jobs left in it.
func (s *Store) compactIfWasteful() error {
	if !s.index.wasteful() {
		return nil
	}
	return s.index.rewrite(func(put func(*record)) {
		for id, j := range s.jobs {
			for _, e := range j.entries {
				put(&record{kind: kindOutput, job: id, entry: e})
			}
			for attempt, r := range j.silent {
				for _, run := range r.list {
					put(&record{kind: kindSilent, job: id, attempt: attempt, first: run.first, count: run.count})
				}
			}
		}
	})
}
