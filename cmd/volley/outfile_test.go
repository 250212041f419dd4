// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func writes(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func mustWrite(t *testing.T, path, s string) {
	t.Helper()
	if err := writeFile(path, writes(s)); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s: %q, %v; want %q", path, b, err, want)
	}
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != strings.Join(want, " ") {
		t.Errorf("left in the directory: %s", got)
	}
}

func TestWriteFileMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, probe := filepath.Join(dir, "a"), filepath.Join(dir, "probe")
	// What the umask leaves of a new file, asked without changing it.
	if f, err := os.Create(probe); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	standard, err := os.Stat(probe)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, "one")
	if st, err := os.Stat(path); err != nil || st.Mode() != standard.Mode() {
		t.Errorf("a new file has %v, %v; want %v", st.Mode(), err, standard.Mode())
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, "two")
	wantFile(t, path, "two")
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
		t.Errorf("a replaced file has %v, %v; want its own 0640", st.Mode(), err)
	}
	wantEntries(t, dir, "a", "probe")
}

func TestWriteFileFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other", "deep")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		filepath.Join(other, "second"): "../target", filepath.Join(dir, "first"): "linked/second",
		filepath.Join(dir, "linked"): other, filepath.Join(dir, "loop"): "loop",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"new", "replaced"} { // the last link leads nowhere at first
		mustWrite(t, filepath.Join(dir, "first"), s)
		wantFile(t, filepath.Join(dir, "other", "target"), s)
	}
	wantEntries(t, dir, "first", "linked", "loop", "other")
	wantEntries(t, filepath.Join(dir, "other"), "deep", "target")
	if st, err := os.Lstat(filepath.Join(dir, "first")); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is one no longer: %v, %v", st.Mode(), err)
	}
	if err := writeFile(filepath.Join(dir, "loop"), writes("x")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}

func TestWriteFileIntoFIFO(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
	}()
	mustWrite(t, path, "through")
	if s := <-got; s != "through" {
		t.Errorf("read %q", s)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the FIFO is one no longer: %v, %v", st.Mode(), err)
	}
	mustWrite(t, "/dev/null", "gone")
	if st, err := os.Stat("/dev/null"); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("/dev/null: %v, %v", st.Mode(), err)
	}
}

// Where the standard output is a file, what comes before and after stays.
func TestWriteFileDescriptor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, err := range []error{
		writes("before ")(f),
		writeFile("/dev/fd/"+strconv.Itoa(int(f.Fd())), writes("rows")),
		writes(" after")(f),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, path, "before rows after")
	if err := writeFile("/dev/fd/999999", writes("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("a descriptor that is not open: %v", err)
	}
}

func TestWriteFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	mustWrite(t, path, "old")
	away := errors.New("the coordinator went away")
	err := writeFile(path, func(w io.Writer) error { return errors.Join(writes("half")(w), away) })
	if !errors.Is(err, away) || strings.Contains(err.Error(), path) {
		t.Errorf("an error of the source: %v", err)
	}
	wantFile(t, path, "old")
	// The file is closed under the writer: as a disk that gives up.
	err = writeFile(path, func(w io.Writer) error {
		_ = w.(*namedWriter).file.Close()
		return writes("half")(w)
	})
	if err == nil || !strings.HasPrefix(err.Error(), "write "+path+": ") || strings.Contains(err.Error(), ".volley-") {
		t.Errorf("an error of the file: %v", err)
	}
	wantFile(t, path, "old")
	wantEntries(t, dir, "a")
	for _, p := range []string{dir, filepath.Join(path, "b"), filepath.Join(dir, "none", "b")} {
		if err := writeFile(p, writes("x")); err == nil || !strings.Contains(err.Error(), p) || strings.Contains(err.Error(), ".volley-") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
