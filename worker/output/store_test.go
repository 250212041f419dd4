// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func begin(t testing.TB, slot *Slot, ref Ref) (stdout, stderr int) {
	t.Helper()
	stdout, stderr, err := slot.Begin(ref)
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}

func put(t testing.TB, fd int, text string) {
	t.Helper()
	if text == "" {
		return
	}
	if _, err := syscall.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func end(t testing.TB, slot *Slot) Info {
	t.Helper()
	info, err := slot.End(false)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// attemptOf runs an attempt that writes the two texts.
func attemptOf(t testing.TB, slot *Slot, ref Ref, stdout, stderr string) {
	t.Helper()
	o, e := begin(t, slot, ref)
	put(t, o, stdout)
	put(t, e, stderr)
	info := end(t, slot)
	if want := (Info{Bytes: [2]int64{int64(len(stdout)), int64(len(stderr))}}); info != want {
		t.Fatalf("%s: %+v, want %+v", ref, info, want)
	}
}

func read(t testing.TB, s *Store, ref Ref, stream Stream, from int64) string {
	t.Helper()
	var b bytes.Buffer
	n, err := s.Read(ref, stream, from, &b)
	if err != nil {
		t.Fatalf("read %s %s: %v", ref, stream, err)
	}
	if n != int64(b.Len()) {
		t.Fatalf("read says %d bytes and gave %d", n, b.Len())
	}
	return b.String()
}

func wantNotFound(t testing.TB, s *Store, ref Ref) {
	t.Helper()
	if n, err := s.Read(ref, Stdout, 0, &bytes.Buffer{}); n != 0 || !errors.Is(err, ErrNotFound) {
		t.Errorf("read %s: %d bytes, %v; want ErrNotFound", ref, n, err)
	}
}

func segments(t testing.TB, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.out"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	a, b := s.Slot(0), s.Slot(1)
	if s.Slot(0) != a {
		t.Error("a slot is not the same when asked for again")
	}
	attemptOf(t, a, Ref{1, 5, 1}, "five", "")
	attemptOf(t, b, Ref{1, 3, 1}, "three", "error of three")
	attemptOf(t, a, Ref{1, 4, 1}, "", "")
	attemptOf(t, a, Ref{1, 5, 2}, "five again", "x")
	attemptOf(t, a, Ref{2, 5, 1}, "", "only errors")
	check := func(t *testing.T, s *Store) {
		t.Helper()
		for _, tt := range []struct {
			ref    Ref
			stream Stream
			from   int64
			want   string
		}{
			{Ref{1, 5, 1}, Stdout, 0, "five"},
			{Ref{1, 5, 1}, Stderr, 0, ""},
			{Ref{1, 5, 2}, Stdout, 0, "five again"},
			{Ref{1, 5, 2}, Stdout, 5, "again"},
			{Ref{1, 5, 2}, Stdout, 10, ""},
			{Ref{1, 5, 2}, Stdout, 1 << 62, ""},
			{Ref{1, 5, 2}, Stdout, -3, "ain"},
			{Ref{1, 5, 2}, Stdout, -1 << 62, "five again"},
			{Ref{1, 3, 1}, Stderr, 0, "error of three"},
			{Ref{1, 4, 1}, Stdout, 0, ""},
			{Ref{2, 5, 1}, Stdout, 0, ""},
			{Ref{2, 5, 1}, Stderr, -6, "errors"},
		} {
			if got := read(t, s, tt.ref, tt.stream, tt.from); got != tt.want {
				t.Errorf("%s %s from %d: %q, want %q", tt.ref, tt.stream, tt.from, got, tt.want)
			}
		}
		wantNotFound(t, s, Ref{1, 5, 3})
		wantNotFound(t, s, Ref{1, 4, 2})
		wantNotFound(t, s, Ref{1, 6, 1})
		wantNotFound(t, s, Ref{3, 5, 1})
		if n, err := s.LastAttempt(1, 5); n != 2 || err != nil {
			t.Errorf("last attempt of 5: %d, %v", n, err)
		}
		if n, err := s.LastAttempt(1, 4); n != 1 || err != nil {
			t.Errorf("last attempt of 4: %d, %v", n, err)
		}
		if _, err := s.LastAttempt(1, 9); !errors.Is(err, ErrNotFound) {
			t.Errorf("last attempt of 9: %v", err)
		}
		if diff := cmp.Diff([]uint64{1, 2}, s.Jobs()); diff != "" {
			t.Errorf("jobs (-want +got):\n%s", diff)
		}
	}
	check(t, s)
	if n := segments(t, dir); n != 2 {
		t.Errorf("%d segments for two slots", n)
	}
	if err := errors.Join(s.Sync(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s2 := openStore(t, dir, Options{})
	check(t, s2)
	// What is new does not go where an earlier worker's tasks may write.
	attemptOf(t, s2.Slot(0), Ref{3, 0, 1}, "new", "")
	if n := segments(t, dir); n != 3 {
		t.Errorf("%d segments after a restart", n)
	}
	if err := s2.RemoveJob(3); err != nil {
		t.Fatal(err)
	}
	check(t, s2)
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	slot, other := s.Slot(0), s.Slot(1)
	if _, err := slot.End(false); err == nil {
		t.Error("end without begin is accepted")
	}
	begin(t, slot, Ref{1, 1, 1})
	if _, _, err := slot.Begin(Ref{1, 2, 1}); err == nil {
		t.Error("begin within an attempt is accepted")
	}
	if _, _, err := other.Begin(Ref{1, 1, 1}); !errors.Is(err, ErrRunning) {
		t.Errorf("the same attempt in two slots: %v", err)
	}
	if _, _, err := other.Begin(Ref{1, ^uint64(0), 1}); err == nil {
		t.Error("an index that no job has is accepted")
	}
	attemptOf(t, other, Ref{1, 2, 1}, "works after that", "")
	if _, err := s.Read(Ref{1, 1, 1}, 7, 0, &bytes.Buffer{}); err == nil {
		t.Error("stream 7 is accepted")
	}
	end(t, slot)
	for _, opts := range []Options{{SegmentBytes: -1}, {SegmentBytes: 3 << 30}, {MaxBytes: -5}, {MaxBytes: 1 << 40}} {
		if _, err := Open(t.TempDir(), opts); err == nil {
			t.Errorf("options %+v are accepted", opts)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{SegmentBytes: 100})
	slot := s.Slot(0)
	text := strings.Repeat("x", 60)
	for i := range uint64(10) {
		attemptOf(t, slot, Ref{1, i, 1}, fmt.Sprint(i, text), "")
	}
	// Two attempts fill a segment.
	if n := segments(t, dir); n != 5 {
		t.Errorf("%d segments, want 5", n)
	}
	// An attempt is never split.
	attemptOf(t, slot, Ref{1, 10, 1}, strings.Repeat("y", 1000), "")
	for i := range uint64(10) {
		if got := read(t, s, Ref{1, i, 1}, Stdout, 0); got != fmt.Sprint(i, text) {
			t.Errorf("index %d: %q", i, got)
		}
	}
}

// TestFewFiles: 10,000 attempts with output leave few files, and the silent
// ones nearly nothing.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			slot := s.Slot(n)
			for i := range 2500 {
				attemptOf(t, slot, Ref{1, uint64(n*2500 + i), 1}, fmt.Sprintln("task", n, i), "")
			}
		})
	}
	wg.Wait()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	slot := s.Slot(0)
	for i := range uint64(10_000) {
		attemptOf(t, slot, Ref{2, i, 1}, "", "")
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.Size() - before.Size(); grown > 100 {
		t.Errorf("10,000 silent attempts took %d bytes of index", grown)
	}
	if per := float64(before.Size()) / 10_000; per > 24 {
		t.Errorf("%v bytes of index per attempt", per)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 10 {
		t.Errorf("%d files", len(files))
	}
	s2 := openStore(t, dir, Options{})
	for _, i := range []uint64{0, 2499, 2500, 9999} {
		if got, want := read(t, s2, Ref{1, i, 1}, Stdout, 0), fmt.Sprintln("task", i/2500, i%2500); got != want {
			t.Errorf("index %d: %q, want %q", i, got, want)
		}
		if got := read(t, s2, Ref{2, i, 1}, Stdout, 0); got != "" {
			t.Errorf("silent index %d: %q", i, got)
		}
	}
	wantNotFound(t, s2, Ref{2, 10_000, 1})
}

// TestStraggler: a process that outlives its attempt does not write into the
// next one's output.
func TestStraggler(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	slot := s.Slot(0)
	o, _ := begin(t, slot, Ref{1, 0, 1})
	// cat holds the segment for as long as its input is open.
	cat := exec.Command("/bin/cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cat.Stdout = os.NewFile(uintptr(dup(t, o)), "segment")
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cat.Stdout.(*os.File).Close()
	slot.Started()
	if _, err := in.Write([]byte("early\n")); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	enough := errors.New("enough")
	if err := s.Follow(t.Context(), Ref{1, 0, 1}, Stdout, 0, func(b []byte) error {
		if got.Write(b); got.Len() == 6 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || got.String() != "early\n" {
		t.Fatalf("follow: %q, %v", got.String(), err)
	}
	// The caller's word only counts where the system cannot tell.
	_, known := heldForWriting(slot.watch[0])
	if _, err := slot.End(!known); err != nil {
		t.Fatal(err)
	}
	attemptOf(t, slot, Ref{1, 1, 1}, "next\n", "")
	if _, err := in.Write([]byte("late\n")); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if err := cat.Wait(); err != nil {
		t.Fatal(err)
	}
	attemptOf(t, slot, Ref{1, 2, 1}, "last\n", "")
	for i, want := range []string{"early\n", "next\n", "last\n"} {
		if got := read(t, s, Ref{1, uint64(i), 1}, Stdout, 0); got != want {
			t.Errorf("index %d: %q, want %q", i, got, want)
		}
	}
	if n := segments(t, dir); n != 2 {
		t.Errorf("%d segments, want one before and one after the straggler", n)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(n)
	return n
}

func TestMaxBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{MaxBytes: 10})
	slot := s.Slot(0)
	o, e := begin(t, slot, Ref{1, 0, 1})
	put(t, o, "0123456789")
	if got := s.Exceeding(); len(got) != 0 {
		t.Errorf("exceeding at the bound: %v", got)
	}
	put(t, e, strings.Repeat("x", 5000))
	if diff := cmp.Diff([]Ref{{1, 0, 1}}, s.Exceeding()); diff != "" {
		t.Errorf("exceeding (-want +got):\n%s", diff)
	}
	if info := end(t, slot); info.Bytes != [2]int64{10, 10} {
		t.Errorf("recorded %+v", info)
	}
	attemptOf(t, slot, Ref{1, 1, 1}, "next", "error")
	for stream, want := range map[Stream]string{Stdout: "0123456789", Stderr: "xxxxxxxxxx"} {
		if got := read(t, s, Ref{1, 0, 1}, stream, 0); got != want {
			t.Errorf("%s: %q", stream, got)
		}
	}
	if got := read(t, s, Ref{1, 1, 1}, Stderr, 0); got != "error" {
		t.Errorf("the next attempt: %q", got)
	}
	info, err := os.Stat(s.path(1, Stderr))
	if err != nil || info.Size() != 15 {
		t.Errorf("segment has %d bytes, %v; want the excess gone", info.Size(), err)
	}
}
