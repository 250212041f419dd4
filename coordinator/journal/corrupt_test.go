// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/coordinator/journal"
)

// sample makes a closed journal with a snapshot and records after it, in files of
// a few pages, and returns its records.
func sample(t *testing.T, snapshot bool) (dir string, want []journal.Record) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "journal")
	j, _ := openLeading(t, journal.RaftConfig{Dir: dir, TrailingRecords: 5})
	commit(t, j, numbered(0, 100)...)
	if snapshot {
		cut(t, j, "one hundred")
	}
	for i := 100; i < 300; i += 20 { // several transactions, so that pages are freed and used again
		commit(t, j, numbered(i, i+20)...)
	}
	commit(t, j, make([]byte, 20000))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := reopen(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	trim(t, filepath.Join(dir, "raft.db"))
	return dir, got
}

// trim cuts off what bbolt has allocated and not used, 16 MiB that every copy
// would have to write.
func trim(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	page := binary.LittleEndian.Uint32(b[16+8:])
	high := max(binary.LittleEndian.Uint64(b[16+40:]), binary.LittleEndian.Uint64(b[page+16+40:]))
	if err := os.Truncate(name, int64(high)*int64(page)); err != nil {
		t.Fatal(err)
	}
}

// reopen returns what a journal holds, or the error of opening it.
func reopen(t *testing.T, dir string) ([]journal.Record, error) {
	t.Helper()
	j, err := journal.OpenRaft(journal.RaftConfig{Dir: dir})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := j.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	var records []journal.Record
	for {
		switch ev := await(t, j); ev.Kind {
		case journal.EventRestore:
			if err := ev.Snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		case journal.EventCommitted:
			records = append(records, ev.Records...)
		case journal.EventLeading:
			return records, nil
		case journal.EventFailed:
			return records, ev.Err
		}
	}
}

// damage copies the journal, has f change the named file, and opens the copy. It
// must be whole or refuse with an error that says what is wrong where.
func damage(t *testing.T, dir string, want []journal.Record, file string, f func([]byte) []byte) (refused bool) {
	t.Helper()
	bad := filepath.Join(t.TempDir(), "bad")
	copyDir(t, dir, bad)
	name := filepath.Join(bad, file)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b = f(b); b == nil {
		err = os.Remove(name)
	} else {
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := reopen(t, bad)
	if err != nil {
		if !strings.Contains(err.Error(), bad) {
			t.Errorf("error does not name the file: %v", err)
		}
		return true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("opened, but records differ (-want +got):\n%.2000s", d)
	}
	return false
}

// snapshotFile returns the path of a file of the only snapshot, within dir.
func snapshotFile(t *testing.T, dir, name string) string {
	t.Helper()
	found, err := fs.Glob(os.DirFS(dir), "snapshots/*/"+name)
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

func TestBitFlips(t *testing.T) {
	t.Parallel()
	dir, want := sample(t, true)
	seed := rand.Uint64()
	page := os.Getpagesize()
	for _, tt := range []struct {
		file     string
		flips    int
		from, to int // bytes of the file; to 0: its end
	}{
		{"raft.db", 10, 16, 80},               // the first root
		{"raft.db", 10, page + 16, page + 80}, // the second
		{"raft.db", 60, 0, 0},
		{snapshotFile(t, dir, "state.bin"), 5, 0, 0},
		{snapshotFile(t, dir, "meta.json"), 15, 0, 0},
		{"FORMAT", 8, 0, 0},
	} {
		t.Run(fmt.Sprintf("file=%s/from=%d", filepath.Base(tt.file), tt.from), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, uint64(tt.from)))
			refused := 0
			for range tt.flips {
				var bit int
				flipped := func(b []byte) []byte {
					to := tt.to
					if to == 0 {
						to = len(b)
					}
					bit = tt.from*8 + rng.IntN((to-tt.from)*8)
					b[bit/8] ^= 1 << (bit % 8)
					return b
				}
				if damage(t, dir, want, tt.file, flipped) {
					refused++
				}
				if t.Failed() {
					t.Fatalf("seed %d: bit %d of %s", seed, bit, tt.file)
				}
			}
			t.Logf("%s: %d of %d flips refused, the others harmless", tt.file, refused, tt.flips)
			if refused == 0 || (tt.to > 0 && refused < tt.flips) {
				t.Fatalf("seed %d, %s: %d of %d flips were noticed", seed, tt.file, refused, tt.flips)
			}
		})
	}
}

func TestTruncation(t *testing.T) {
	t.Parallel()
	dir, want := sample(t, true)
	for _, n := range []int{0, 1, 15, 4095, 4096, 4200, 8192, 12288, 20000, 40000} {
		if !damage(t, dir, want, "raft.db", func(b []byte) []byte { return b[:n] }) {
			t.Errorf("log file cut to %d bytes was accepted", n)
		}
	}
	state := snapshotFile(t, dir, "state.bin")
	for _, n := range []int{0, 7, 39, 40, 45} {
		if !damage(t, dir, want, state, func(b []byte) []byte { return b[:n] }) {
			t.Errorf("snapshot cut to %d bytes was accepted", n)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	gone := func([]byte) []byte { return nil }
	dir, want := sample(t, true)
	for _, file := range []string{"raft.db", "FORMAT", snapshotFile(t, dir, "state.bin"), snapshotFile(t, dir, "meta.json")} {
		if !damage(t, dir, want, file, gone) {
			t.Errorf("opened without %s", file)
		}
	}
	dir, want = sample(t, false)
	if !damage(t, dir, want, "raft.db", gone) {
		t.Error("opened without raft.db and without a snapshot")
	}
	// Without a snapshot, FORMAT says nothing that the log file does not.
	if damage(t, dir, want, "FORMAT", gone) {
		t.Error("a whole log file was refused")
	}
}

func TestFormatVersion(t *testing.T) {
	t.Parallel()
	dir, want := sample(t, false)
	if !damage(t, dir, want, "FORMAT", func(b []byte) []byte { return []byte(strings.Replace(string(b), "journal 1", "journal 2", 1)) }) {
		t.Error("a later format was accepted")
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "FORMAT"), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.OpenRaft(journal.RaftConfig{Dir: bad}); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}
