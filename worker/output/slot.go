// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Slot writes the output of one attempt at a time. Its methods belong to one
// goroutine.
type Slot struct {
	store *Store
	// seg is the current segment; 0: none yet, the first Begin makes it.
	seg   uint32
	paths [2]string
	// watch are read-only descriptors of its files, kept open to see their
	// size and writers.
	watch [2]int
	// size of the files as End saw them. Invariant: while not rotate, nobody
	// but the next attempt writes behind it.
	size [2]int64
	// rotate: someone may still write to the segment, or it is gone.
	rotate bool
	// parked are segments that were left because of rotate. Mostly it was a
	// process that another slot was starting, which held copies of the
	// descriptors until its exec: when nobody holds them any more they are used
	// again, so that false alarms do not add up to many files.
	parked []parkedSegment
	// write are the descriptors of the running attempt; -1: closed.
	write [2]int
	// cur is the running attempt. Written under Store.mu: Close leaves the
	// files of a busy slot to its End.
	cur *attempt
	// spare is an attempt that nobody follows, for the next Begin.
	spare *attempt
}

// parkedSegment is a segment that its slot may come back to.
type parkedSegment struct {
	seg   uint32
	paths [2]string
	watch [2]int
}

// maxParked bounds the parked segments of a slot: beyond, a straggler really
// lives on, and its segment is given up.
const maxParked = 2

// attempt is a running execution. Fields but done and ended are written before
// it is published in Store.live.
type attempt struct {
	ref   Ref
	seg   uint32
	start [2]int64
	// done is made by the first follower and closed when the attempt ends.
	done  chan struct{}
	ended bool
}

// end wakes followers. With Store.mu held.
func (a *attempt) end() {
	a.ended = true
	if a.done != nil {
		close(a.done)
	}
}

// Slot returns slot n, the same for the same n.
func (s *Store) Slot(n int) *Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[n]
	if slot == nil {
		slot = &Slot{store: s, write: [2]int{-1, -1}}
		s.slots[n] = slot
	}
	return slot
}

func (s *Store) path(seg uint32, stream Stream) string {
	suffix := ".out"
	if stream == Stderr {
		suffix = ".err"
	}
	return filepath.Join(s.dir, fmt.Sprintf("%06d%s", seg, suffix))
}

// segmentID reads the number of a segment file's name.
func segmentID(name string) (uint32, bool) {
	base, ok := strings.CutSuffix(name, ".out")
	if !ok {
		if base, ok = strings.CutSuffix(name, ".err"); !ok {
			return 0, false
		}
	}
	id, err := strconv.ParseUint(base, 10, 32)
	return uint32(id), err == nil && id > 0
}

// Begin gives the descriptors that the attempt writes its output to. They stay
// the slot's: the caller hands them to the process, then calls Started.
// ErrRunning while another slot has not ended the same attempt.
func (s *Slot) Begin(ref Ref) (stdout, stderr int, err error) {
	if s.cur != nil {
		return 0, 0, fmt.Errorf("output: begin %s: %s has not ended in this slot", ref, s.cur.ref)
	}
	if ref.Index == math.MaxUint64 {
		return 0, 0, fmt.Errorf("output: begin %s: the index is out of range", ref)
	}
	err = s.open()
	if errors.Is(err, fs.ErrNotExist) {
		// Someone deleted the segment: go on in a new one.
		s.rotate = true
		err = s.open()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("output: begin %s: %w", ref, err)
	}
	a := s.spare
	if a == nil {
		a = &attempt{}
	}
	s.spare = nil
	*a = attempt{ref: ref, seg: s.seg, start: s.size}
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	_, running := st.live[ref]
	switch {
	case st.closed:
		err = ErrClosed
	case running:
		err = fmt.Errorf("output: begin %s: %w", ref, ErrRunning)
	}
	if err != nil {
		s.Started()
		return 0, 0, err
	}
	st.live[ref] = a
	s.cur = a
	return s.write[0], s.write[1], nil
}

// open opens the files for an attempt.
func (s *Slot) open() error {
	if err := s.prepare(); err != nil {
		return err
	}
	for i := range s.write {
		fd, err := openAppend(s.paths[i], 0)
		if err != nil {
			s.Started()
			return err
		}
		s.write[i] = fd
	}
	return nil
}

// prepare moves on to a new segment if need be.
func (s *Slot) prepare() error {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return ErrClosed
	}
	if s.seg != 0 && !s.rotate && s.size[0] < st.opts.SegmentBytes && s.size[1] < st.opts.SegmentBytes &&
		// All that lay in it has been removed: give the space back.
		(st.segments[s.seg].entries > 0 || s.size == [2]int64{}) {
		return nil
	}
	if s.seg != 0 && s.rotate && len(s.parked) < maxParked {
		s.parked = append(s.parked, parkedSegment{s.seg, s.paths, s.watch})
		s.seg = 0
	} else if err := s.leaveSegment(); err != nil {
		return err
	}
	if s.unpark() {
		return nil
	}
	id := st.nextSeg
	st.nextSeg++
	var watch [2]int
	for i := range watch {
		path := st.path(id, Stream(i))
		s.paths[i] = path
		fd, err := openAppend(path, syscall.O_CREAT|syscall.O_EXCL)
		if err == nil {
			_ = syscall.Close(fd)
			watch[i], err = openRead(path)
		}
		if err != nil {
			for _, fd := range watch[:i] {
				_ = syscall.Close(fd)
			}
			return err
		}
	}
	st.segment(id).current = true
	s.seg, s.watch, s.size, s.rotate = id, watch, [2]int64{}, false
	return nil
}

// unpark goes back to a parked segment that nobody writes to any more, and says
// whether there was one. What was written to it meanwhile belongs to no attempt.
func (s *Slot) unpark() bool {
	for n, p := range s.parked {
		var size [2]int64
		free := true
		for i, fd := range p.watch {
			held, known := heldForWriting(fd)
			var stat syscall.Stat_t
			free = free && known && !held && syscall.Fstat(fd, &stat) == nil && stat.Nlink > 0 && stat.Size < s.store.opts.SegmentBytes
			size[i] = stat.Size
		}
		if free {
			s.parked = slices.Delete(s.parked, n, n+1)
			s.seg, s.paths, s.watch, s.size, s.rotate = p.seg, p.paths, p.watch, size, false
			return true
		}
	}
	return false
}

// leaveAll leaves the current segment and the parked ones. With Store.mu held.
func (s *Slot) leaveAll() error {
	err := s.leaveSegment()
	for _, p := range s.parked {
		s.seg, s.watch = p.seg, p.watch
		err = errors.Join(err, s.leaveSegment())
	}
	s.parked = nil
	return err
}

// leaveSegment closes the current segment and deletes it when nothing lies in
// it. With Store.mu held.
func (s *Slot) leaveSegment() error {
	if s.seg == 0 {
		return nil
	}
	for _, fd := range s.watch {
		_ = syscall.Close(fd) // read only
	}
	id := s.seg
	s.seg = 0
	seg := s.store.segments[id]
	seg.current = false
	if seg.entries > 0 {
		return nil
	}
	return s.store.deleteSegment(id)
}

// Started closes the slot's own copies of the descriptors. To be called as
// soon as the process runs (or could not be started): a copy that lives on
// would be inherited, until its exec, by every process that another slot
// starts meanwhile, and End would take that for a straggler.
func (s *Slot) Started() {
	for i, fd := range s.write {
		if fd >= 0 {
			_ = syscall.Close(fd) // nothing was written through it
			s.write[i] = -1
		}
	}
}

// End records the output of the attempt; the process must have ended.
// stragglers says that something of it may live on, and is only relied on
// where the system cannot tell who has a file open. An error loses the output
// of this attempt, and the slot goes on.
func (s *Slot) End(stragglers bool) (Info, error) {
	a := s.cur
	if a == nil {
		return Info{}, fmt.Errorf("output: end: no attempt was begun in this slot")
	}
	s.Started()
	st := s.store
	held := s.held(stragglers)
	e := entry{index: a.ref.Index, attempt: a.ref.Attempt, segment: a.seg}
	var statErr error
	var size [2]int64
	for i := range size {
		size[i], statErr = s.measure(i, a.start[i], held)
		if statErr != nil {
			break
		}
	}
	if statErr != nil {
		held = true // the size is not known: begin afresh
		size = a.start
	}
	s.rotate = held
	s.size = size
	e.off = [2]uint32{uint32(a.start[0]), uint32(a.start[1])}
	e.length = [2]uint32{
		uint32(min(size[0]-a.start[0], st.opts.MaxBytes)),
		uint32(min(size[1]-a.start[1], st.opts.MaxBytes)),
	}

	st.mu.Lock()
	defer st.mu.Unlock()
	s.cur = nil
	if st.closed {
		_ = s.leaveAll() // Open deletes what is left
		return Info{}, ErrClosed
	}
	delete(st.live, a.ref)
	var err error
	if statErr == nil {
		err = st.record(a.ref, e)
	}
	followed := a.done != nil
	a.end()
	if !followed {
		s.spare = a
	}
	if statErr != nil {
		return Info{}, fmt.Errorf("output: end %s: %w", a.ref, statErr)
	}
	if err != nil {
		return Info{}, fmt.Errorf("output: end %s: %w", a.ref, err)
	}
	return Info{Bytes: [2]int64{int64(e.length[0]), int64(e.length[1])}}, nil
}

// record takes what End found. With mu held.
func (s *Store) record(ref Ref, e entry) error {
	if e.length == [2]uint32{} {
		s.job(ref.Job).addSilent(ref.Attempt, ref.Index, 1)
		return s.index.appendSilent(ref.Job, ref.Attempt, ref.Index)
	}
	r := record{kind: kindOutput, job: ref.Job, entry: e}
	s.apply(&r)
	s.segments[e.segment].dirty = true
	return s.index.append(&r)
}

// held says whether a process still has one of the files open for writing.
func (s *Slot) held(hint bool) bool {
	for _, fd := range s.watch {
		held, known := heldForWriting(fd)
		for n := 0; held && n < 8; n++ {
			// A process that another slot is starting this moment may hold
			// copies until its exec.
			time.Sleep(100 * time.Microsecond << min(n, 4))
			held, known = heldForWriting(fd)
		}
		if !known {
			return hint
		}
		if held {
			return true
		}
	}
	return false
}

// measure returns the size of a file after the attempt that began at start. What
// is beyond the bound is cut off, unless someone still writes.
func (s *Slot) measure(i int, start int64, held bool) (int64, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(s.watch[i], &stat); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	limit := start + s.store.opts.MaxBytes
	switch {
	case stat.Size < start:
		return 0, fmt.Errorf("segment %d shrank from %d to %d bytes", s.seg, start, stat.Size)
	case stat.Size > limit && !held:
		if err := os.Truncate(s.store.path(s.seg, Stream(i)), limit); err != nil {
			return 0, err
		}
		return limit, nil
	}
	return stat.Size, nil
}

func openAppend(path string, flags int) (int, error) {
	return open(path, flags|syscall.O_WRONLY|syscall.O_APPEND)
}

func openRead(path string) (int, error) { return open(path, syscall.O_RDONLY) }

// open is os.OpenFile without the os.File: two are opened per attempt.
func open(path string, flags int) (int, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o600)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}
