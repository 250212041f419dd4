// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/coordinator/journal"
)

func openMemory(t *testing.T, cfg journal.MemoryConfig) (*journal.Memory, []string) {
	t.Helper()
	m, err := journal.NewMemory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, drain(t, m)
}

// drain takes all events, as text.
func drain(t *testing.T, m *journal.Memory) (out []string) {
	t.Helper()
	for ev, ok := m.Next(); ok; ev, ok = m.Next() {
		s := ev.Kind.String()
		if ev.Own {
			s = "own"
		}
		for _, r := range ev.Records {
			s += " " + string(r.Data)
		}
		if ev.Snapshot != nil {
			b, err := io.ReadAll(ev.Snapshot)
			if err != nil {
				t.Fatal(err)
			}
			s += " " + string(b)
		}
		out = append(out, s)
	}
	return out
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("events (-want +got):\n%s", d)
	}
}

func propose(t *testing.T, m *journal.Memory, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := m.Propose([]byte(d)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemoryHoldAndCrash(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keep, torn int
		want       []string
	}{
		"all held are lost":          {0, 0, []string{"committed a b", "leading"}},
		"one reached the disk":       {1, 0, []string{"committed a b c", "leading"}},
		"and the next is torn":       {1, 20, []string{"committed a b c", "leading"}},
		"torn by all it has but one": {0, 1 << 20, []string{"committed a b", "leading"}},
		"all reached it":             {9, 9, []string{"committed a b c d", "leading"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &journal.Disk{}
			m, events := openMemory(t, journal.MemoryConfig{Disk: disk, Hold: true})
			want(t, events, "leading")
			propose(t, m, "a", "b", "c", "d")
			want(t, drain(t, m))
			if n := m.Commit(2); n != 2 || m.Held() != 2 {
				t.Fatalf("committed %d, %d held", n, m.Held())
			}
			want(t, drain(t, m), "own a b")
			m.Crash(tt.keep, tt.torn)
			if err := m.Propose(nil); !errors.Is(err, journal.ErrClosed) {
				t.Fatal(err)
			}
			_, events = openMemory(t, journal.MemoryConfig{Disk: disk})
			want(t, events, tt.want...)
		})
	}
}

func TestMemoryFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail  func(*journal.Disk, *journal.Memory)
		cause error
		after []string // events on the mended disk
	}{
		"EIO":                          {func(_ *journal.Disk, m *journal.Memory) { m.FailDisk(syscall.EIO, 0) }, syscall.EIO, []string{"committed a", "leading"}},
		"EIO after the record reached": {func(_ *journal.Disk, m *journal.Memory) { m.FailDisk(syscall.EIO, 1) }, syscall.EIO, []string{"committed a b", "leading"}},
		"full": {func(d *journal.Disk, m *journal.Memory) {
			d.SetLimit(d.LogSize() + 1)
			m.Commit(-1)
		}, syscall.ENOSPC, []string{"committed a", "leading"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &journal.Disk{}
			m, _ := openMemory(t, journal.MemoryConfig{Disk: disk, Hold: true})
			propose(t, m, "a", "b")
			m.Commit(1)
			tt.fail(disk, m)
			want(t, drain(t, m), "own a", "failed")
			err := m.Propose([]byte("c"))
			if !errors.Is(err, journal.ErrFailed) || !errors.Is(err, journal.ErrInjected) || !errors.Is(err, tt.cause) {
				t.Fatalf("error %v", err)
			}
			if m.Lead(); m.Commit(-1) != 0 {
				t.Fatal("commits on a broken disk")
			}
			want(t, drain(t, m))
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			disk.SetLimit(0)
			_, events := openMemory(t, journal.MemoryConfig{Disk: disk})
			want(t, events, tt.after...)
		})
	}
}

func TestMemoryRefusals(t *testing.T) {
	t.Parallel()
	m, _ := openMemory(t, journal.MemoryConfig{})
	m.FailProposals(1)
	if err := m.Propose([]byte("a")); !errors.Is(err, journal.ErrInjected) {
		t.Fatal(err)
	}
	propose(t, m, "b")
	want(t, drain(t, m), "own b")
	m.FailSnapshots(1)
	var done []error
	for range 2 {
		if err := m.Snapshot(func(io.Writer) error { return nil }, func(err error) { done = append(done, err) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(done) != 2 || !errors.Is(done[0], journal.ErrInjected) || done[1] != nil {
		t.Fatalf("done with %v", done)
	}
	if err := m.Replicate([]byte("x")); err == nil {
		t.Error("a leader took a record of another")
	}
	if err := m.Install(nil); err == nil {
		t.Error("a leader took a snapshot of another")
	}
}

func TestMemoryLeadership(t *testing.T) {
	t.Parallel()
	disk := &journal.Disk{}
	m, events := openMemory(t, journal.MemoryConfig{Disk: disk, Hold: true, Follower: true})
	want(t, events)
	if err := m.Replicate([]byte("x"), []byte("y")); err != nil {
		t.Fatal(err)
	}
	m.Lead()
	want(t, drain(t, m), "committed x y", "leading")
	propose(t, m, "a", "b", "c")
	m.Commit(1)
	m.Depose(1)
	want(t, drain(t, m), "own a", "following")
	if err := m.Replicate([]byte("z")); err != nil {
		t.Fatal(err)
	}
	want(t, drain(t, m), "committed b", "committed z")
	if err := m.Snapshot(func(w io.Writer) error { _, err := io.WriteString(w, "old"); return err }, func(err error) {
		if !errors.Is(err, journal.ErrBusy) {
			t.Errorf("snapshot done with %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := m.Install([]byte("theirs")); err != nil {
		t.Fatal(err)
	}
	m.Lead()
	want(t, drain(t, m), "restore theirs", "leading")
	m.Crash(0, 0)
	_, events = openMemory(t, journal.MemoryConfig{Disk: disk})
	want(t, events, "restore theirs", "leading")
}

func TestMemoryDamage(t *testing.T) {
	t.Parallel()
	disk := &journal.Disk{}
	m, _ := openMemory(t, journal.MemoryConfig{Disk: disk})
	propose(t, m, "a", "b")
	drain(t, m)
	if err := m.Snapshot(func(w io.Writer) error { _, err := io.WriteString(w, "ab"); return err }, func(error) {}); err != nil {
		t.Fatal(err)
	}
	propose(t, m, "c", "d")
	drain(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for bit := range disk.LogSize() * 8 {
		disk.FlipBit(bit)
		if _, err := journal.NewMemory(journal.MemoryConfig{Disk: disk}); !errors.Is(err, journal.ErrCorrupt) {
			t.Fatalf("bit %d: error %v", bit, err)
		}
		disk.FlipBit(bit)
	}
	disk.FlipSnapshotBit(-1)
	if _, err := journal.NewMemory(journal.MemoryConfig{Disk: disk}); !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("snapshot: error %v", err)
	}
	disk.FlipSnapshotBit(-1)
	_, events := openMemory(t, journal.MemoryConfig{Disk: disk})
	want(t, events, "restore ab", "committed c d", "leading")
}
