// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	slot := s.Slot(0)
	attemptOf(t, slot, Ref{1, 0, 1}, "before me", "")
	ref := Ref{1, 1, 1}
	o, _ := begin(t, slot, ref)
	put(t, o, "first ")
	follow := func(from int64, stream Stream) (<-chan string, <-chan error) {
		pieces, errs := make(chan string, 100), make(chan error, 1)
		go func() {
			errs <- s.Follow(context.Background(), ref, stream, from, func(b []byte) error {
				pieces <- string(b)
				return nil
			})
			close(pieces)
		}()
		return pieces, errs
	}
	all, allErr := follow(0, Stdout)
	tail, tailErr := follow(-3, Stdout)
	future, futureErr := follow(8, Stdout)
	nothing, nothingErr := follow(0, Stderr)
	var gotAll, gotTail string
	for gotAll != "first " {
		gotAll += <-all
	}
	for gotTail != "st " {
		gotTail += <-tail
	}
	put(t, o, "second ")
	for gotAll != "first second " {
		gotAll += <-all
	}
	if info, err := s.Lookup(ref); err != nil || info != (Info{Bytes: [2]int64{13, 0}, Live: true}) {
		t.Errorf("lookup of a running attempt: %+v, %v", info, err)
	}
	if got := read(t, s, ref, Stdout, -7); got != "second " {
		t.Errorf("read of a running attempt: %q", got)
	}
	if n, err := s.LastAttempt(1, 1); n != 1 || err != nil {
		t.Errorf("last attempt of a running index: %d, %v", n, err)
	}
	put(t, o, "third")
	end(t, slot)
	rest := func(got string, pieces <-chan string, errs <-chan error) string {
		for p := range pieces {
			got += p
		}
		if err := <-errs; err != nil {
			t.Errorf("follow: %v", err)
		}
		return got
	}
	for _, tt := range []struct{ got, want string }{
		{rest(gotAll, all, allErr), "first second third"},
		{rest(gotTail, tail, tailErr), "st second third"},
		{rest("", future, futureErr), "cond third"},
		{rest("", nothing, nothingErr), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("followed %q, want %q", tt.got, tt.want)
		}
	}
	// After the end it is a read.
	pieces, errs := follow(6, Stdout)
	if got := rest("", pieces, errs); got != "second third" {
		t.Errorf("follow after the end: %q", got)
	}
	if err := s.Follow(t.Context(), Ref{7, 7, 7}, Stdout, 0, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("follow of an unknown attempt: %v", err)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	slot := s.Slot(0)
	o, _ := begin(t, slot, Ref{1, 0, 1})
	put(t, o, "x")
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Follow(ctx, Ref{1, 0, 1}, Stdout, 0, func([]byte) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	full := errors.New("client is gone")
	if err := s.Follow(t.Context(), Ref{1, 0, 1}, Stdout, 0, func([]byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("refused: %v", err)
	}
	end(t, slot)
}

// TestConcurrent reads and follows what slots write, and removes jobs
// meanwhile.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{SegmentBytes: 4 << 10})
	const slots, tasks = 4, 150
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text := func(r Ref) string { return strings.Repeat(fmt.Sprintf("<%d.%d>", r.Job, r.Index), 10) }
	var wg, followers sync.WaitGroup
	for n := range slots {
		wg.Go(func() {
			slot := s.Slot(n)
			for i := range tasks {
				ref := Ref{uint64(n%2 + 1), uint64(n*tasks + i), 1}
				o, _, err := slot.Begin(ref)
				if err != nil {
					t.Error(err)
					return
				}
				followers.Go(func() {
					var got bytes.Buffer
					if err := s.Follow(ctx, ref, Stdout, 0, func(b []byte) error { got.Write(b); return nil }); err != nil {
						t.Errorf("follow %s: %v", ref, err)
					}
					if got.String() != text(ref) {
						t.Errorf("follow %s: %q", ref, got.String())
					}
				})
				for part := range 10 {
					if _, err := syscall.Write(o, []byte(text(ref)[part*len(text(ref))/10:(part+1)*len(text(ref))/10])); err != nil {
						t.Error(err)
					}
				}
				if _, err := slot.End(false); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if err := errors.Join(s.Sync(), s.RemoveJob(77)); err != nil {
						t.Error(err)
					}
				}
				if got := read(t, s, ref, Stdout, 0); got != text(ref) {
					t.Errorf("%s: %q", ref, got)
				}
			}
		})
	}
	wg.Wait()
	followers.Wait()
	if err := errors.Join(s.RemoveJob(1), s.RemoveJob(2)); err != nil {
		t.Fatal(err)
	}
	if len(s.Jobs()) != 0 {
		t.Errorf("jobs left: %v", s.Jobs())
	}
}
