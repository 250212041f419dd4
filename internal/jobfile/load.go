// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// Defaults of Options.
const (
	defaultFileBytes     = 64 << 20
	defaultSnapshotBytes = 256 << 20
	defaultSnapshotFiles = 10_000
)

// Load reads the job file at path and everything that it names, and blocks
// until all of that is read or ctx ends. The error is an *Error, or the one
// of the context.
func Load(ctx context.Context, path string, o Options) (*Loaded, error) {
	if o.FileBytes <= 0 {
		o.FileBytes = defaultFileBytes
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = defaultSnapshotBytes
	}
	if o.SnapshotFiles <= 0 {
		o.SnapshotFiles = defaultSnapshotFiles
	}
	src, err := readJobFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parse(path, src, o.Set)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", path, err)
	}
	l := &loader{File: file, o: o, abs: abs, dir: filepath.Dir(abs), d: file.doc.dec}
	return l.load(ctx)
}

func readJobFile(path string) ([]byte, error) {
	fail := func(msg, hint string) ([]byte, error) {
		return nil, &Error{[]Diagnostic{{File: path, Message: msg, Hint: hint}}}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := ""
		if near := nearestFile(path, false); near != "" {
			hint = fmt.Sprintf("did you mean %s?", beside(path, near))
		}
		return fail("no such file", hint)
	case err != nil:
		return fail(reason(err), "")
	case info.IsDir():
		return fail("this is a directory, not a job file", "")
	case !info.Mode().IsRegular():
		// Opening a pipe that nobody writes to would block for ever, and the
		// inputs would be looked for beside it.
		return fail("this is not a regular file", "")
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(reason(err), "")
	}
	defer f.Close() // opened for reading
	src, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return fail(reason(err), "")
	}
	return src, nil
}

// loader adds to a parsed file what lies on the disk.
type loader struct {
	*File
	o        Options
	abs, dir string
	d        *decoder
	size     uint64
}

func (l *loader) load(ctx context.Context) (*Loaded, error) {
	spec, root := l.Spec, l.doc.root
	if spec.Name == "" {
		spec.Name = defaultName(l.abs)
	}
	spec.SubmitDir = l.dir
	l.size = l.doc.size
	base, ok := l.workdir(root)
	if err := l.space(ctx, root); err != nil {
		return nil, err
	}
	var inputs []*inputItem
	if ok {
		var err error
		if inputs, err = l.inputs(ctx, root, base); err != nil {
			return nil, err
		}
	}
	if len(l.d.diags) > 0 {
		return nil, l.d.error()
	}
	out := &Loaded{Spec: spec, Size: l.size, Array: spec.Space != nil, Warnings: sortDiagnostics(l.d.warns), doc: l.doc}
	for _, it := range inputs {
		spec.Inputs = append(spec.Inputs, it.in)
		out.Inputs = append(out.Inputs, InputFile{Path: it.abs, Name: it.name, External: it.in.External != ""})
	}
	return out, nil
}

// workdir makes the working directory absolute and returns what the words of
// the command are relative to.
func (l *loader) workdir(root *node) (base string, ok bool) {
	n := root.get("workdir")
	if n == nil {
		return l.dir, true
	}
	dir := n.text
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(l.dir, filepath.FromSlash(dir))
	}
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	switch {
	case err != nil && strings.ContainsAny(n.text, "{}"):
		l.d.err(n, "workdir", "it is the same for all tasks; write `cd` into `run:`", "workdir takes no placeholders")
	case errors.Is(err, fs.ErrNotExist):
		hint := "create it, or write `workdir: .`"
		if near := nearestFile(dir, true); near != "" {
			hint = fmt.Sprintf("did you mean %s?", beside(n.text, near))
		}
		l.d.err(n, "workdir", hint, "workdir %s: no such directory", clip(n.text, 200))
	case err != nil:
		l.d.err(n, "workdir", "", "workdir %s: %s", clip(n.text, 200), reason(err))
	case !info.IsDir():
		l.d.err(n, "workdir", "", "workdir %s is not a directory", clip(n.text, 200))
	default:
		l.Spec.Workdir = dir
		return dir, true
	}
	return "", false
}

// space reads the table or the data set, if the job has one, and then checks
// what only they decide.
func (l *loader) space(ctx context.Context, root *node) error {
	switch k := l.Spec.GetSpace().GetKind().(type) {
	case *volleyv1.Space_Sweep:
		if k.Sweep.GetSampler() != volleyv1.Sampler_SAMPLER_FILE {
			return nil
		}
		table, err := l.readTable(ctx, root)
		if err != nil || table == nil {
			return err
		}
		k.Sweep.Table = table
		l.size = l.d.sweepSpace(root, k.Sweep)
	case *volleyv1.Space_Map:
		m, err := sharding.BuildManifest(ctx, l.dir, k.Map)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.d.place(root, err, "map.over", nil)
			return nil
		}
		k.Map.Manifest = m.Encode()
		k.Map.Format = m.Format()
		columns, all := m.Params()
		l.d.templates(root, mapScope(k.Map, columns, !all))
		shards, err := sharding.Split(m, k.Map.GetShard())
		if err != nil {
			l.d.place(root, err, "map.shard", nil)
			return nil
		}
		l.size = shards.Len()
		if k.Map.ShardDigests, err = sharding.ShardDigests(ctx, m, l.dir, shards); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.d.place(root, err, "map.over", nil)
		}
	}
	return nil
}

func (l *loader) inputs(ctx context.Context, root *node, base string) ([]*inputItem, error) {
	real, err := filepath.EvalSymlinks(l.dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", l.Name, err)
	}
	c := &collector{
		d: l.d, o: l.o, dir: l.dir, real: real, base: base, inPlace: l.Spec.Workdir != "",
		self: l.abs, items: map[string]*inputItem{},
	}
	return c.collect(ctx, root)
}

// defaultName makes a job name of the name of a file.
func defaultName(file string) string {
	base := filepath.Base(file)
	base = strings.TrimSuffix(base, filepath.Ext(base))
	var b strings.Builder
	for _, r := range base {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		switch {
		case ok, b.Len() > 0 && strings.ContainsRune("_.-", r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == maxName {
			break
		}
	}
	if name := strings.TrimRight(b.String(), "-"); name != "" {
		return name
	}
	return "job"
}
