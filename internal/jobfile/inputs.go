// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// collector gathers the files that a job names.
type collector struct {
	d *decoder
	o Options
	// dir holds the job file; real is dir without symbolic links.
	dir, real string
	// base is what the words of the command are relative to: the working
	// directory of the tasks, or dir, whose files they find in their own.
	base string
	// inPlace jobs use the files where they lie.
	inPlace bool
	// self is the job file: part of no snapshot, or every edit of it (more
	// points, say) would make all points new.
	self  string
	items map[string]*inputItem // by absolute path
	full  bool                  // too many: said once, and nothing more is added
}

type inputItem struct {
	abs, name string
	// at is the word that brought it in.
	at   *node
	path string
	size int64 // when it was found
	in   *volleyv1.Input
}

// skipped directories change by running the job, or hold every version of it.
var skipped = []string{".git", ".volley", "__pycache__"}

func (c *collector) fail(n *node, path, hint, format string, args ...any) {
	c.d.err(n, path, hint, format, args...)
}

// collect finds the inputs, reads them, and returns them in the order of
// their names.
func (c *collector) collect(ctx context.Context, root *node) ([]*inputItem, error) {
	for i, it := range listItems(root.get("inputs")) {
		if err := c.declared(ctx, it, elem("inputs", i)); err != nil {
			return nil, err
		}
	}
	c.words(root)
	list := make([]*inputItem, 0, len(c.items))
	for _, it := range c.items {
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b *inputItem) int { return strings.Compare(a.name, b.name) })
	for i, it := range list {
		if i > 0 && list[i-1].name == it.name {
			c.fail(it.at, it.path, "rename one of them", "two inputs have the name %q: %s and %s", it.name, list[i-1].abs, it.abs)
		}
	}
	c.checkTotal(list)
	if len(c.d.diags) > 0 {
		return nil, nil // reading gigabytes first would only delay the news
	}
	for _, it := range list {
		if err := c.digest(ctx, it); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c.fail(it.at, it.path, "", "input %s: %s", it.name, reason(err))
		}
	}
	return list, nil
}

// checkTotal refuses snapshots that are too large, by the sizes alone.
func (c *collector) checkTotal(list []*inputItem) {
	var total int64
	var largest *inputItem
	for _, it := range list {
		if c.inPlace || it.size > c.o.FileBytes {
			continue
		}
		total += it.size
		if largest == nil || it.size > largest.size {
			largest = it
		}
	}
	if total > c.o.SnapshotBytes {
		c.fail(largest.at, largest.path, "name fewer files, or write `workdir: .`, which uses them in place",
			"the inputs have %d MiB together, more than the %d MiB of a snapshot; the largest is %s with %d MiB",
			total>>20, c.o.SnapshotBytes>>20, largest.name, largest.size>>20)
	}
}

// declared adds what one element of `inputs` names.
func (c *collector) declared(ctx context.Context, n *node, path string) error {
	abs := filepath.Join(c.dir, filepath.FromSlash(n.text))
	info, err := os.Stat(abs)
	switch {
	case err == nil && info.IsDir():
		before := len(c.items)
		if real, err := filepath.EvalSymlinks(abs); err != nil || !within(c.real, real) {
			c.fail(n, path, "copy it beside the job file", "%s: %q is a link that leads out of the directory of the job file", path, n.text)
			return nil
		}
		if err := c.walk(ctx, abs, n, path, nil); err != nil {
			return err
		}
		if len(c.items) == before && !c.full && !c.covered(abs) {
			c.fail(n, path, "", "%s: there are no files in %q", path, n.text)
		}
	case err == nil:
		c.file(abs, n, path, true)
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(n.text, "*?["):
		return c.glob(ctx, n, path)
	case errors.Is(err, fs.ErrNotExist):
		hint := ""
		if near := nearestFile(abs, false); near != "" {
			hint = fmt.Sprintf("did you mean %s?", beside(n.text, near))
		}
		c.fail(n, path, hint, "%s: %s: no such file or directory", path, clip(n.text, 200))
	default:
		c.fail(n, path, "", "%s: %s: %s", path, clip(n.text, 200), reason(err))
	}
	return nil
}

// covered reports whether an earlier input holds files below dir already.
func (c *collector) covered(dir string) bool {
	for abs := range c.items {
		if within(dir, abs) {
			return true
		}
	}
	return false
}

// glob adds the files that a pattern matches. `**` crosses directories.
func (c *collector) glob(ctx context.Context, n *node, path string) error {
	const most = 8
	pattern := strings.Split(filepath.ToSlash(filepath.Clean(filepath.FromSlash(n.text))), "/")
	if strings.Count(n.text, "**") > most {
		c.fail(n, path, "one is enough", "%s: more than %d `**` in one pattern", path, most)
		return nil
	}
	for _, p := range pattern {
		if _, err := filepath.Match(p, ""); err != nil {
			c.fail(n, path, "a `[` needs a `]`", "%s: %q is not a pattern", path, clip(n.text, 200))
			return nil
		}
	}
	// The walk begins below the names that hold no pattern.
	top := c.dir
	for len(pattern) > 1 && !strings.ContainsAny(pattern[0], "*?[\\") {
		top = filepath.Join(top, pattern[0])
		pattern = pattern[1:]
	}
	found := false
	if real, err := filepath.EvalSymlinks(top); err == nil && within(c.real, real) {
		err := c.walk(ctx, top, n, path, func(rel string, dir bool) bool {
			ok := matchPath(pattern, strings.Split(rel, "/"), dir)
			found = found || ok && !dir
			return ok
		})
		if err != nil {
			return err
		}
	}
	if !found && !c.full {
		c.fail(n, path, "", "%s: nothing matches %q in %s", path, clip(n.text, 200), c.dir)
	}
	return nil
}

// matchPath matches segment by segment; for a directory it says whether
// something below could match.
func matchPath(pattern, segs []string, dir bool) bool {
	if len(segs) == 0 {
		return dir == (len(pattern) > 0)
	}
	if len(pattern) == 0 {
		return false
	}
	if pattern[0] == "**" {
		if dir || len(pattern) == 1 {
			return true
		}
		return matchPath(pattern[1:], segs, dir) || matchPath(pattern, segs[1:], dir)
	}
	ok, _ := filepath.Match(pattern[0], segs[0])
	return ok && matchPath(pattern[1:], segs[1:], dir)
}

// walk adds the files below top, all or those that keep says.
func (c *collector) walk(ctx context.Context, top string, n *node, path string, keep func(rel string, dir bool) bool) error {
	// With the slash a top that is a link is followed; others are not.
	return filepath.WalkDir(top+string(filepath.Separator), func(p string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.fail(n, path, "", "%s: %s: %s", path, c.rel(p), reason(err))
			return fs.SkipAll
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return fmt.Errorf("walk %s: %w", top, err)
		}
		if rel == "." {
			return nil
		}
		if e.IsDir() {
			if slices.Contains(skipped, e.Name()) || keep != nil && !keep(filepath.ToSlash(rel), true) {
				return fs.SkipDir
			}
			return nil
		}
		if p == c.self || keep != nil && !keep(filepath.ToSlash(rel), false) {
			return nil
		}
		c.file(p, n, path, false)
		if c.full {
			return fs.SkipAll
		}
		return nil
	})
}

// file adds one file. What a walk finds and cannot take is a warning; what
// the job file names itself is an error.
func (c *collector) file(abs string, n *node, path string, named bool) {
	if c.full || c.items[abs] != nil {
		return
	}
	odd := func(hint, msg string) {
		diag := n.diag(path, fmt.Sprintf("input %s %s", c.rel(abs), msg), hint)
		if named {
			c.d.diags = append(c.d.diags, diag)
		} else {
			diag.Message += ": left out"
			c.d.warns = append(c.d.warns, diag)
		}
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		odd("", "is a link that leads nowhere")
		return
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		odd("", "cannot be read: "+reason(err))
		return
	case info.IsDir():
		odd("name the directory that it leads to", "is a link to a directory")
		return
	case !info.Mode().IsRegular():
		odd("", "is not a regular file")
		return
	case !c.inPlace && !within(c.real, real):
		odd("copy it beside the job file, or write `workdir: .`, which uses files in place", "leads out of the directory of the job file")
		return
	}
	name, ok := relWithin(c.dir, abs)
	if !ok && c.inPlace {
		name, ok = relWithin(c.base, abs)
	}
	if !ok {
		odd("copy it beside the job file", "leads out of the directory of the job file")
		return
	}
	if len(c.items) >= c.o.SnapshotFiles {
		c.full = true
		c.fail(n, path, "name fewer files, or write `workdir: .` and leave the data out of `inputs`", "the inputs are more than %d files", c.o.SnapshotFiles)
		return
	}
	c.items[abs] = &inputItem{abs: abs, name: name, at: n, path: path, size: info.Size()}
}

// digest reads the file, or only its size and time when it is large.
func (c *collector) digest(ctx context.Context, it *inputItem) error {
	f, err := os.Open(it.abs)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return err
	}
	it.in = &volleyv1.Input{Path: it.name, Size: info.Size(), Mode: uint32(info.Mode().Perm())}
	if c.inPlace {
		it.in.External = it.abs
	}
	h := sha256.New()
	if info.Size() > c.o.FileBytes {
		it.in.External = it.abs
		h.Write([]byte("volley external 1\x00" + it.name + "\x00"))
		_ = binary.Write(h, binary.BigEndian, [2]int64{info.Size(), info.ModTime().UnixNano()}) // a hash never fails
	} else {
		n, err := io.Copy(h, contextReader{ctx, io.LimitReader(f, c.o.FileBytes+1)})
		if err != nil {
			return err
		}
		if n != info.Size() {
			return fmt.Errorf("it is being written: %d bytes, then %d", info.Size(), n)
		}
	}
	it.in.Digest = h.Sum(nil)
	return nil
}

type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
