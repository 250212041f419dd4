// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// next waits for an event of j.
func next(t *testing.T, j Journal) Event {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		if ev, ok := j.Next(); ok {
			return ev
		}
		select {
		case <-j.Ready():
		case <-limit.C:
			t.Fatalf("no event for 30 s; stats %+v", j.Stats())
		}
	}
}

// untilKind drops events up to one of kind.
func untilKind(t *testing.T, j Journal, kind EventKind) Event {
	t.Helper()
	for {
		ev := next(t, j)
		if ev.Kind == kind {
			return ev
		}
		if ev.Kind == EventFailed {
			t.Fatalf("failed: %v", ev.Err)
		}
		if ev.Snapshot != nil {
			if err := ev.Snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFaultAtEveryOperation breaks the n-th operation on the log file, for each n
// from the creation of the file to the fifth record: OpenRaft fails or an event
// comes, with the cause and the file in its error; then the journal refuses and
// closes, and what was acknowledged is there when the disk is well again.
func TestFaultAtEveryOperation(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		whole := false // a run got through without meeting the fault
		for n := int64(0); !whole; n++ {
			if n > 300 {
				t.Fatal("no end of operations")
			}
			dir := filepath.Join(t.TempDir(), "journal")
			var count atomic.Int64
			acknowledged, err := liveWith(t, RaftConfig{Dir: dir, inject: func(string) error {
				if count.Add(1) > n {
					return cause
				}
				return nil
			}})
			whole = err == nil
			if err != nil && (!errors.Is(err, ErrFailed) || !errors.Is(err, cause) || !strings.Contains(err.Error(), filepath.Join(dir, logFile))) {
				t.Fatalf("fault %d: error %v", n, err)
			}
			if present, err := liveWith(t, RaftConfig{Dir: dir}); err != nil || present < acknowledged {
				t.Fatalf("fault %d: %d records acknowledged, then %d: %v", n, acknowledged, present, err)
			}
		}
	}
}

// liveWith opens a journal, commits five records and a snapshot, and closes it. It
// returns how many records it has seen and the failure.
func liveWith(t *testing.T, cfg RaftConfig) (seen int, failure error) {
	t.Helper()
	j, err := OpenRaft(cfg)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := j.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	own := 0
	for {
		ev := next(t, j)
		switch ev.Kind {
		case EventRestore:
			if _, err := fmt.Fscan(ev.Snapshot, &seen); err != nil {
				t.Fatal(err)
			}
			if err := ev.Snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		case EventCommitted:
			seen += len(ev.Records)
			if ev.Own {
				own += len(ev.Records)
			}
		case EventFailed:
			if err := j.Propose([]byte("after")); !errors.Is(err, ErrFailed) {
				t.Errorf("propose after failure: %v", err)
			}
			if err := j.Snapshot(nil, nil); !errors.Is(err, ErrFailed) {
				t.Errorf("snapshot after failure: %v", err)
			}
			return seen, ev.Err
		}
		if ev.Kind == EventLeading || (own > 0 && own < 5) {
			if err := j.Propose(fmt.Appendf(nil, "record %d", own)); err != nil && !errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
		}
		if own == 5 {
			return seen, nil
		}
	}
}

// TestForeignRecords puts records into the log that name another leadership than
// the one they are in: every node must skip them, before and after a restart and
// beside a snapshot.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() (*Raft, uint64) {
		j, err := OpenRaft(RaftConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return j, untilKind(t, j, EventLeading).Index
	}
	put := func(j *Raft, data string) {
		if err := j.Propose([]byte(data)); err != nil {
			t.Fatal(err)
		}
		ev := next(t, j)
		if !ev.Own || len(ev.Records) != 1 || string(ev.Records[0].Data) != data {
			t.Fatalf("event %+v, want own record %q", ev, data)
		}
	}
	j, old := open()
	put(j, "one")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, _ = open()
	for _, epoch := range []uint64{old, 0, 1 << 40} {
		if err := j.raft.ApplyLog(raft.Log{Data: []byte("stale"), Extensions: encodeExt(extRecord, epoch)}, 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	put(j, "two")
	done := make(chan error, 1)
	if err := j.Snapshot(func(w io.Writer) error { _, err := io.WriteString(w, "one two"); return err }, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := j.raft.ApplyLog(raft.Log{Data: []byte("stale"), Extensions: encodeExt(extRecord, old)}, 0).Error(); err != nil {
		t.Fatal(err)
	}
	put(j, "three")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, err := OpenRaft(RaftConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ev := next(t, j)
	b, err := io.ReadAll(ev.Snapshot)
	if err != nil || string(b) != "one two" {
		t.Fatalf("snapshot %q, %v", b, err)
	}
	if err := ev.Snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	if ev = next(t, j); ev.Kind != EventCommitted || len(ev.Records) != 1 || string(ev.Records[0].Data) != "three" {
		t.Fatalf("event %+v, want record three", ev)
	}
}

// TestUnknownRecord has a later version's record in the log: the node stops.
func TestUnknownRecord(t *testing.T) {
	t.Parallel()
	for name, ext := range map[string][]byte{"later version": {2, 2, 0, 0, 0, 0, 0, 0, 0, 0}, "unknown kind": {1, 9, 0, 0, 0, 0, 0, 0, 0, 0}, "none": nil, "short": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := OpenRaft(RaftConfig{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			untilKind(t, j, EventLeading)
			if err := j.raft.ApplyLog(raft.Log{Data: []byte("x"), Extensions: ext}, 0).Error(); err != nil {
				t.Fatal(err)
			}
			if ev := next(t, j); ev.Kind != EventFailed || !errors.Is(ev.Err, ErrFailed) || !strings.Contains(ev.Err.Error(), logFile) {
				t.Fatalf("event %+v", ev)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSnapshotDirectoryLost fails one snapshot; the journal goes on.
func TestSnapshotDirectoryLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := OpenRaft(RaftConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	untilKind(t, j, EventLeading)
	put := func() {
		t.Helper()
		if err := j.Propose([]byte("record")); err != nil {
			t.Fatal(err)
		}
		if ev := next(t, j); !ev.Own {
			t.Fatalf("event %+v", ev)
		}
	}
	cut := func() error {
		t.Helper()
		done := make(chan error, 1)
		if err := j.Snapshot(func(io.Writer) error { return nil }, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		return <-done
	}
	put()
	snapshots := filepath.Join(dir, "snapshots")
	if err := os.Remove(snapshots); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(snapshots, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cut(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("snapshot into a file: %v", err)
	}
	put()
	if err := os.Remove(snapshots); err != nil {
		t.Fatal(err)
	}
	if err := cut(); err != nil {
		t.Fatal(err)
	}
}

// TestBackpressure lets more wait than may for a caller who does not come, and
// sees all of it arrive when he does.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	const size, limit, n = 1 << 10, 64 << 10, 20000
	j, err := OpenRaft(RaftConfig{Dir: t.TempDir(), maxWaiting: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	untilKind(t, j, EventLeading)
	for range n {
		if err := j.Propose(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	// Applying stops at the limit; writing goes on until raft's own queue of 128
	// batches is full.
	for full := false; !full; runtime.Gosched() {
		j.mu.Lock()
		full = j.bytes > limit
		j.mu.Unlock()
	}
	seen, most := 0, 0
	for seen < n {
		j.mu.Lock()
		most = max(most, j.bytes)
		j.mu.Unlock()
		seen += len(next(t, j).Records)
	}
	if batch := 1024 * size; seen != n || most > limit+batch {
		t.Fatalf("%d records of %d; %d bytes waited, at most %d and a batch may", seen, n, most, limit)
	}
}

// TestFileErrorNamesTheFileOnce: the message goes to a user's terminal.
func TestFileErrorNamesTheFileOnce(t *testing.T) {
	t.Parallel()
	const path = "/data/journal/raft.db"
	full := &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	for want, err := range map[string]error{
		"write /data/journal/raft.db: no space left on device":                              full,
		"write /data/journal/raft.db: file resize error: truncate: no space left on device": fmt.Errorf("file resize error: %w", &os.PathError{Op: "truncate", Path: path, Err: syscall.ENOSPC}),
		"write /data/journal/raft.db: input/output error":                                   syscall.EIO,
	} {
		e := &fileError{"write", path, err}
		if e.Error() != want || !errors.Is(e, err) {
			t.Errorf("%q, want %q", e, want)
		}
	}
}
