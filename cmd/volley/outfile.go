// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// writeFile writes to the file that a user named.
//
// A regular file is written beside its place and put there when it is complete:
// half a Parquet file is none. A link stays one, its target is replaced. What
// is no regular file is written straight into: renaming over /dev/null or a
// FIFO would put a file in its place.
func writeFile(path string, write func(io.Writer) error) error {
	if fd, ok := descriptor(path); ok {
		return writeInto(path, write, func() (*os.File, error) {
			n, err := syscall.Dup(fd)
			if err != nil {
				return nil, err
			}
			return os.NewFile(uintptr(n), path), nil
		})
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return usagef("--file %s: it is a directory; name a file in it", path)
	case err == nil && !st.Mode().IsRegular():
		return writeInto(path, write, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) })
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return inFile(path, err)
	}
	target, err := followLinks(path)
	if err != nil {
		return inFile(path, err)
	}
	if st != nil {
		// A rename asks the directory alone, and would replace what is
		// protected against writing.
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return inFile(path, err)
		}
		_ = f.Close()
	}
	return replaceFile(path, target, st, write)
}

// replaceFile writes a new target and puts it in the place of the old one,
// which st describes; nil: there is none.
func replaceFile(path, target string, st os.FileInfo, write func(io.Writer) error) error {
	temporary := filepath.Join(filepath.Dir(target), ".volley-"+rand.Text())
	// os.CreateTemp would make it 0600, whatever the umask.
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return inFile(path, err)
	}
	if st != nil {
		err = inFile(path, f.Chmod(st.Mode().Perm()))
	}
	if err == nil {
		err = writeNamed(path, f, write)
	}
	if cerr := inFile(path, f.Close()); err == nil {
		err = cerr
	}
	if err == nil {
		err = inFile(path, os.Rename(temporary, target))
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// descriptor is the open file that a path of /dev stands for. Where it is a
// regular file, Linux would open it anew and write from its beginning, over
// what the process itself and those before it have written there.
func descriptor(path string) (fd int, ok bool) {
	switch path {
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	n, ok := strings.CutPrefix(path, "/dev/fd/")
	if !ok {
		return 0, false
	}
	fd, err := strconv.Atoi(n)
	return fd, err == nil && fd >= 0
}

func writeInto(path string, write func(io.Writer) error, open func() (*os.File, error)) error {
	f, err := open()
	if err != nil {
		return inFile(path, err)
	}
	err = writeNamed(path, f, write)
	if cerr := inFile(path, f.Close()); err == nil {
		err = cerr
	}
	return err
}

// namedWriter keeps the error of its file under the name that the user knows.
type namedWriter struct {
	file *os.File
	path string
	err  error
}

func (w *namedWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil && w.err == nil {
		w.err = inFile(w.path, err)
	}
	return n, err
}

// writeNamed prefers the file's own error: what is wrapped around it names a
// temporary file. An error of what is read is not one of the file.
func writeNamed(path string, f *os.File, write func(io.Writer) error) error {
	w := &namedWriter{file: f, path: path}
	err := write(w)
	if w.err != nil {
		return w.err
	}
	return err
}

// inFile words an error of the operating system about the file at path.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// followLinks is where a path leads; the last link may lead to what is not yet
// there, which filepath.EvalSymlinks refuses.
func followLinks(path string) (string, error) {
	const most = 40 // as the kernel
	for range most {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			// Not textually: dir may be a link, and to begin with "..".
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", fmt.Errorf("more than %d symbolic links", most)
}
