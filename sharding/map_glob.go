// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles bounds the files of one map.
const maxFiles = 1 << 24

// foundFile is a regular file that `over` names.
type foundFile struct {
	path  string // absolute
	size  int64
	mtime int64 // Unix nanoseconds
}

// findFiles resolves `over`, relative to the absolute directory dir, to regular
// files in the order of their paths. pattern is false when over is the name of
// one file: a name that exists wins over its reading as a pattern.
//
// Patterns are the shell's: `*`, `?` and `[a-z]` within a path element, `**`
// for any number of directories. Wildcards match no leading dot; `**` follows
// no symbolic link to a directory, since that may be a cycle.
func findFiles(ctx context.Context, dir, over string) (files []foundFile, pattern bool, err error) {
	bad := func(format string, args ...any) ([]foundFile, bool, error) {
		return nil, false, errAt("map.over", over, format, args...)
	}
	switch {
	case over == "":
		return nil, false, errAt("map.over", "", "no data set: name a file or a pattern such as data/*.jpg")
	case strings.Contains(over, "://"):
		return bad("object stores cannot be mapped over; name a file or a pattern below a mounted directory")
	case strings.IndexByte(over, 0) >= 0 || len(over) > maxPath:
		return bad("not a path: it has a NUL byte or more than %d bytes", maxPath)
	}
	name := over
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return bad("this is a directory; write %q for its files or %q for all below it",
			path.Join(over, "*"), path.Join(over, "**"))
	case err == nil && !info.Mode().IsRegular():
		return bad("not a regular file (%s)", info.Mode().Type())
	case err == nil:
		return []foundFile{{name, info.Size(), info.ModTime().UnixNano()}}, false, nil
	case !strings.ContainsAny(over, `*?[\`):
		if errors.Is(err, fs.ErrNotExist) {
			return bad("no such file in %s%s", dir, nearest(name))
		}
		return nil, false, &Error{Path: "map.over", Value: over, Msg: "cannot be read", Err: err, Offset: -1}
	}

	root, elements := splitPattern(dir, over)
	for _, e := range elements {
		if e != "**" && strings.Contains(e, "**") {
			return bad("** must be a whole path element, as in **/*.jpg")
		}
		if _, err := path.Match(e, ""); err != nil {
			return bad("unclosed or empty [ in %q", e)
		}
	}
	w := globWalk{ctx: ctx, elements: elements}
	if err := w.dir(root, w.open(nil, 0)); err != nil {
		if ctx.Err() != nil {
			return nil, true, fmt.Errorf("list files: %w", context.Cause(ctx))
		}
		if root == w.failed && errors.Is(err, fs.ErrNotExist) {
			return bad("no such directory: %s%s", root, nearest(root))
		}
		return nil, true, &Error{Path: "map.over", Value: over, Msg: "cannot be listed", Err: err, Offset: -1}
	}
	if len(w.files) == 0 {
		return bad("no file matches this pattern in %s", dir)
	}
	slices.SortFunc(w.files, func(a, b foundFile) int { return strings.Compare(a.path, b.path) })
	return w.files, true, nil
}

// splitPattern separates the directory before the first wildcard, which is
// taken literally, from the pattern's elements. dir may hold wildcard
// characters itself.
func splitPattern(dir, over string) (root string, elements []string) {
	root = dir
	if filepath.IsAbs(over) {
		root = "/"
	}
	elements = strings.Split(strings.Trim(filepath.ToSlash(filepath.Clean(over)), "/"), "/")
	for len(elements) > 1 && !strings.ContainsAny(elements[0], `*?[\`) {
		root = filepath.Join(root, elements[0])
		elements = elements[1:]
	}
	// `a/**/**/b` is `a/**/b`.
	return root, slices.CompactFunc(elements, func(a, b string) bool { return a == "**" && b == "**" })
}

// globWalk visits every directory once, with the set of pattern positions that
// its path may stand at. Trying the positions one after the other instead would
// visit a deep tree exponentially often for `**/a/**/a/**`.
type globWalk struct {
	ctx      context.Context // lives for one call of findFiles
	elements []string
	files    []foundFile
	failed   string // the directory that could not be read
}

// open adds position p, and the one after a `**`, which may match nothing.
func (w *globWalk) open(at []int, p int) []int {
	for ; p < len(w.elements); p++ {
		if !slices.Contains(at, p) {
			at = append(at, p)
		}
		if w.elements[p] != "**" {
			break
		}
	}
	return at
}

func (w *globWalk) dir(dir string, at []int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.failed = dir
		return err
	}
	for _, e := range entries {
		if err := w.entry(filepath.Join(dir, e.Name()), e, at); err != nil {
			return err
		}
	}
	return nil
}

func (w *globWalk) entry(full string, e fs.DirEntry, at []int) error {
	hidden := strings.HasPrefix(e.Name(), ".")
	var below, belowReal []int // positions for a directory; belowReal not through a link
	accept := false
	for _, p := range at {
		pattern := w.elements[p]
		last := p == len(w.elements)-1
		if pattern == "**" {
			if !hidden {
				belowReal = w.open(belowReal, p)
				accept = accept || last
			}
			continue
		}
		if hidden && !strings.HasPrefix(pattern, ".") {
			continue
		}
		if ok, _ := path.Match(pattern, e.Name()); ok { // validated before
			if last {
				accept = true
			} else {
				below = w.open(below, p+1)
			}
		}
	}
	if !accept && below == nil && belowReal == nil {
		return nil
	}
	if e.IsDir() {
		for _, p := range belowReal {
			if !slices.Contains(below, p) {
				below = append(below, p)
			}
		}
		if len(below) == 0 {
			return nil
		}
		return w.dir(full, below)
	}
	switch {
	case e.Type()&fs.ModeSymlink != 0 && (accept || below != nil):
	case e.Type().IsRegular() && accept:
	default:
		return nil
	}
	info, err := os.Stat(full)
	if err != nil {
		return err // a dangling link: leaving it out would lose data silently
	}
	switch {
	case info.IsDir():
		if len(below) == 0 {
			return nil
		}
		return w.dir(full, below)
	case !accept || !info.Mode().IsRegular():
		return nil
	case len(w.files) == maxFiles:
		return fmt.Errorf("more than %d files", maxFiles)
	}
	w.files = append(w.files, foundFile{full, info.Size(), info.ModTime().UnixNano()})
	return nil
}
