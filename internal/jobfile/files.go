// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// escapes reports whether the relative path p leads out of its directory.
func escapes(p string) bool {
	p = path.Clean(filepath.ToSlash(p))
	return p == ".." || strings.HasPrefix(p, "../")
}

// within reports whether the absolute path p is dir or below it.
func within(dir, p string) bool {
	_, ok := relWithin(dir, p)
	return ok || p == dir
}

// relWithin is p relative to dir with forward slashes, if it is below it.
func relWithin(dir, p string) (string, bool) {
	rel, err := filepath.Rel(dir, p)
	if err != nil || rel == "." || escapes(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// rel is how a message names the path p.
func (c *collector) rel(p string) string {
	if r, err := filepath.Rel(c.dir, p); err == nil {
		return filepath.ToSlash(r)
	}
	return p
}

// reason is the bare reason of a file error: its path is in the message
// already.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// nearestFile returns the name in the directory of missing that is nearest to
// its base name, or "".
func nearestFile(missing string, wantDir bool) string {
	dir, err := os.Open(filepath.Dir(missing))
	if err != nil {
		return ""
	}
	defer dir.Close()                 // opened for reading
	entries, _ := dir.ReadDir(10_000) // what is there is enough for a suggestion
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() == wantDir || !wantDir {
			names = append(names, e.Name())
		}
	}
	return nearest(filepath.Base(missing), names)
}

// beside puts name in the place of the last element of p, as p is written.
func beside(p, name string) string {
	i := strings.LastIndexByte(strings.TrimRight(p, "/"), '/')
	return p[:i+1] + name
}
