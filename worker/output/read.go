// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Info is how much output an attempt has.
type Info struct {
	// Bytes by Stream.
	Bytes [2]int64
	// Live: the attempt is running.
	Live bool
}

// How often Follow looks for more: soon after something came, ever more seldom
// while nothing does.
const (
	minPoll = 5 * time.Millisecond
	maxPoll = 100 * time.Millisecond
	chunk   = 64 << 10
)

// span is a part of a segment file.
type span struct {
	segment  uint32
	off, end int64
}

// lookup finds where a stream lies; a is set while the attempt runs, and then
// the end is that of the moment.
func (s *Store) lookup(ref Ref, stream Stream) (sp span, a *attempt, err error) {
	if stream != Stdout && stream != Stderr {
		return sp, nil, fmt.Errorf("output: no stream %d", stream)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sp, nil, ErrClosed
	}
	if a := s.live[ref]; a != nil {
		sp = span{segment: a.seg, off: a.start[stream], end: a.start[stream]}
		if info, err := os.Stat(s.path(a.seg, stream)); err == nil {
			sp.end = max(sp.off, min(info.Size(), sp.off+s.opts.MaxBytes))
		}
		return sp, a, nil
	}
	if j := s.jobs[ref.Job]; j != nil {
		e, silent, ok := j.find(ref.Index, ref.Attempt)
		if ok && silent {
			return sp, nil, nil
		}
		if ok {
			off := int64(e.off[stream])
			return span{segment: e.segment, off: off, end: off + int64(e.length[stream])}, nil, nil
		}
	}
	return sp, nil, fmt.Errorf("%s: %w", ref, ErrNotFound)
}

// Lookup says how much output an attempt has, or ErrNotFound.
func (s *Store) Lookup(ref Ref) (Info, error) {
	var info Info
	for _, stream := range []Stream{Stdout, Stderr} {
		sp, a, err := s.lookup(ref, stream)
		if err != nil {
			return Info{}, err
		}
		info.Bytes[stream] = sp.end - sp.off
		info.Live = info.Live || a != nil
	}
	return info, nil
}

// LastAttempt is the greatest attempt of an index that ran or runs here, or
// ErrNotFound.
func (s *Store) LastAttempt(jobID, index uint64) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	var last uint32
	var found bool
	if j := s.jobs[jobID]; j != nil {
		last, found = j.lastAttempt(index)
	}
	// At most one per slot.
	for ref := range s.live {
		if ref.Job == jobID && ref.Index == index {
			last, found = max(last, ref.Attempt), true
		}
	}
	if !found {
		return 0, fmt.Errorf("job %d index %d: %w", jobID, index, ErrNotFound)
	}
	return last, nil
}

// Exceeding lists the running attempts that have written more than
// Options.MaxBytes to a stream.
func (s *Store) Exceeding() []Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refs []Ref
	for ref, a := range s.live {
		for _, stream := range []Stream{Stdout, Stderr} {
			info, err := os.Stat(s.path(a.seg, stream))
			if err == nil && info.Size()-a.start[stream] > s.opts.MaxBytes {
				refs = append(refs, ref)
				break
			}
		}
	}
	return refs
}

// Read writes an attempt's output from byte `from` on to w; below 0 only the
// last -from bytes. Of a running attempt it writes what is there now. It
// returns how many bytes it wrote.
func (s *Store) Read(ref Ref, stream Stream, from int64, w io.Writer) (int64, error) {
	sp, _, err := s.lookup(ref, stream)
	if err != nil {
		return 0, err
	}
	sp.skip(from)
	if sp.off == sp.end {
		return 0, nil
	}
	f, err := s.openStream(ref, sp.segment, stream)
	if err != nil {
		return 0, err
	}
	defer f.Close() // read only
	n, err := io.Copy(w, io.NewSectionReader(f, sp.off, sp.end-sp.off))
	if err == nil && n < sp.end-sp.off {
		err = fmt.Errorf("%s: %d of %d bytes: %w", ref, n, sp.end-sp.off, io.ErrUnexpectedEOF)
	}
	return n, err
}

func (sp *span) skip(from int64) {
	if from < 0 {
		sp.off = max(sp.off, sp.end+from)
		return
	}
	// Not off+from: it could overflow.
	if from > sp.end-sp.off {
		from = sp.end - sp.off
	}
	sp.off += from
}

func (s *Store) openStream(ref Ref, segment uint32, stream Stream) (*os.File, error) {
	f, err := os.Open(s.path(segment, stream))
	if errors.Is(err, fs.ErrNotExist) {
		// Removed with its job after the lookup, or by someone else.
		err = fmt.Errorf("%s: its segment %d is gone: %w", ref, segment, ErrNotFound)
	}
	return f, err
}

// Follow calls fn with an attempt's output from byte `from` on (below 0: from
// the last -from bytes on), first what is there and then what comes, until the
// attempt has ended and all of it was given, ctx is done, or fn returns an
// error. The slice is only valid during the call. It blocks for all that time.
func (s *Store) Follow(ctx context.Context, ref Ref, stream Stream, from int64, fn func([]byte) error) error {
	sp, a, err := s.lookup(ref, stream)
	if err != nil {
		return err
	}
	start := sp.off
	sp.skip(from)
	if a == nil && sp.off == sp.end {
		return nil
	}
	// Bytes that are to come may be skipped too.
	if from > sp.off-start {
		sp.off = start + min(from, s.opts.MaxBytes)
	}
	f, err := s.openStream(ref, sp.segment, stream)
	if err != nil {
		return err
	}
	defer f.Close() // read only

	done, err := s.watch(ref, a)
	if err != nil {
		return err
	}
	limit := sp.end
	switch {
	case done != nil:
		limit = start + s.opts.MaxBytes
	case a != nil:
		// It ended since the lookup.
		if limit, err = s.ended(ref, stream, sp.segment, start); err != nil {
			return err
		}
	}
	buf := make([]byte, chunk)
	poll := minPoll
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		for sp.off < limit && ctx.Err() == nil {
			n, rerr := f.ReadAt(buf[:min(chunk, limit-sp.off)], sp.off)
			if done != nil {
				select {
				case <-done:
					// It ended, so what was read may be of the next attempt. Had
					// it not ended by now, nothing of it could be.
					done = nil
					if limit, err = s.ended(ref, stream, sp.segment, start); err != nil {
						return err
					}
					n = int(min(int64(n), max(limit-sp.off, 0)))
				default:
				}
			}
			if n > 0 {
				sp.off += int64(n)
				poll = minPoll
				if err := fn(buf[:n]); err != nil {
					return err
				}
			}
			if errors.Is(rerr, io.EOF) {
				break
			}
			if rerr != nil {
				return fmt.Errorf("output: follow %s: %w", ref, rerr)
			}
		}
		if done == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		timer.Reset(poll)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			poll = min(2*poll, maxPoll)
		case <-done:
			done = nil
			if limit, err = s.ended(ref, stream, sp.segment, start); err != nil {
				return err
			}
		}
	}
}

// ended is where the stream of an attempt that has ended lies to, which bounds
// a follower: a straggler may go on writing behind it. start when the attempt
// wrote nothing, or another execution has taken its place.
func (s *Store) ended(ref Ref, stream Stream, segment uint32, start int64) (int64, error) {
	sp, a, err := s.lookup(ref, stream)
	if err != nil {
		return 0, err
	}
	if a != nil || sp.segment != segment || sp.off != start {
		return start, nil
	}
	return sp.end, nil
}

// watch returns a channel that is closed when the attempt ends; nil when it has
// ended already.
func (s *Store) watch(ref Ref, a *attempt) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	// The memory of an attempt that nobody followed is used again.
	if a == nil || s.live[ref] != a {
		return nil, nil
	}
	if a.done == nil {
		a.done = make(chan struct{})
	}
	return a.done, nil
}
