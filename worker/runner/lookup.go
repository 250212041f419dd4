// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Lookup resolves the names of commands and remembers what it found on PATH.
// The zero value is ready; safe for concurrent use.
type Lookup struct {
	mu    sync.Mutex
	known map[lookupKey]string
}

type lookupKey struct{ name, path string }

// maxLookups bounds the memory; a worker that sees more commands starts over.
const maxLookups = 4096

// LookPath resolves name: absolute as it is, with a slash relative to dir, else
// on the colon-separated path. Only the last is remembered, and only while the
// file is there and executable: a task may install what a later one calls. The
// error is a *StartError.
//
// exec.LookPath is not used, because it searches the worker's PATH, not the
// task's, and knows no directory but its own.
func (l *Lookup) LookPath(name, dir, path string) (string, error) {
	switch {
	case name == "":
		return "", &StartError{Reason: "command is empty"}
	case strings.IndexByte(name, 0) >= 0:
		return "", &StartError{Reason: fmt.Sprintf("command %q has a zero byte", name)}
	case filepath.IsAbs(name):
		return name, explain(name, executable(name))
	case strings.ContainsRune(name, '/'):
		abs := filepath.Join(dir, name)
		return abs, explain(name, executable(abs))
	}
	key := lookupKey{name, path}
	l.mu.Lock()
	found, ok := l.known[key]
	l.mu.Unlock()
	if ok && executable(found) == nil {
		return found, nil
	}
	var denied error
	for elem := range strings.SplitSeq(path, ":") {
		// An empty element means the current directory to a shell; a program
		// must not be picked up from the data that the task works on.
		if !filepath.IsAbs(elem) {
			continue
		}
		candidate := filepath.Join(elem, name)
		err := executable(candidate)
		if err == nil {
			l.mu.Lock()
			if l.known == nil || len(l.known) >= maxLookups {
				l.known = make(map[lookupKey]string)
			}
			l.known[key] = candidate
			l.mu.Unlock()
			return candidate, nil
		}
		if denied == nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			denied = explain(candidate, err)
		}
	}
	if denied != nil {
		return "", denied
	}
	if path == "" {
		return "", &StartError{Reason: fmt.Sprintf("command %q not found: PATH is empty", name), Err: os.ErrNotExist}
	}
	return "", &StartError{Reason: fmt.Sprintf("command %q not found in PATH", name), Err: os.ErrNotExist}
}

var (
	errIsDir         = errors.New("is a directory")
	errNotExecutable = errors.New("is not executable; set the permission with chmod +x")
)

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errIsDir
	case info.Mode()&0o111 == 0:
		return errNotExecutable
	}
	return nil
}

func explain(name string, err error) error {
	var reason string
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errIsDir), errors.Is(err, errNotExecutable):
		reason = fmt.Sprintf("command %q %s", name, err)
	case errors.Is(err, os.ErrNotExist):
		reason = fmt.Sprintf("command %q not found", name)
	case errors.Is(err, os.ErrPermission):
		reason = fmt.Sprintf("command %q: permission denied", name)
	default:
		reason = fmt.Sprintf("command %q: %s", name, cause(err))
	}
	return &StartError{Reason: reason, Err: err}
}

// startError turns what fork and exec answered into a line for the user. Exec
// says ENOENT for a missing program, a missing interpreter and a missing
// working directory alike, so it looks which of them it was.
func startError(spec *Spec, err error) error {
	if se, ok := errors.AsType[*StartError](err); ok {
		return se
	}
	name := spec.Path
	var reason string
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		reason = fmt.Sprintf("command %q: exec format error: %s", name, formatHint(name))
	case errors.Is(err, syscall.E2BIG):
		reason = fmt.Sprintf("command %q: arguments and environment are too long for the system", name)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		reason = fmt.Sprintf("command %q: the machine has no room for another process: %s", name, cause(err))
	case errors.Is(err, syscall.EINVAL):
		reason = fmt.Sprintf("command %q: an argument or environment value has a zero byte", name)
	default:
		if spec.Dir != "" {
			if info, derr := os.Stat(spec.Dir); derr != nil || !info.IsDir() {
				if derr == nil {
					derr = syscall.ENOTDIR
				}
				return &StartError{Reason: fmt.Sprintf("working directory %q: %s", spec.Dir, cause(derr)), Err: err}
			}
		}
		path := spec.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(spec.Dir, path)
		}
		if ferr := executable(path); ferr != nil {
			return explain(name, ferr)
		}
		if interp := interpreter(path); interp != "" && errors.Is(err, syscall.ENOENT) {
			reason = fmt.Sprintf("command %q: its interpreter %q does not exist", name, interp)
		} else {
			reason = fmt.Sprintf("command %q: %s", name, cause(err))
		}
	}
	return &StartError{Reason: reason, Err: err}
}

// cause strips the operation and the path, which the caller's text has.
func cause(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

func head(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close() // read only
	buf := make([]byte, 256)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return buf[:n]
}

func formatHint(path string) string {
	b := head(path)
	switch {
	case len(b) == 0:
		return "the file is empty"
	case strings.HasPrefix(string(b), "\x7fELF"), strings.HasPrefix(string(b), "MZ"),
		strings.HasPrefix(string(b), "\xcf\xfa\xed\xfe"):
		return "the program was built for another system or processor"
	default:
		return "add a #! line"
	}
}

func interpreter(path string) string {
	line, _, _ := strings.Cut(string(head(path)), "\n")
	rest, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return name
}
