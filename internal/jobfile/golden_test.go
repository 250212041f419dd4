// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

var update = flag.Bool("update", false, "rewrite the .want files of testdata")

func goldenFiles(t *testing.T, dir string, atLeast int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < atLeast {
		t.Fatalf("testdata/%s has %d files, want at least %d", dir, len(files), atLeast)
	}
	return files
}

// golden compares got with the .want file of a job file, or rewrites that.
func golden(t *testing.T, file, got string) {
	t.Helper()
	want := strings.TrimSuffix(file, ".yaml") + ".want"
	if *update {
		if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(b), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestBad holds every error message, with its place.
func TestBad(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range goldenFiles(t, "bad", 150) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, err := Load(t.Context(), file, Options{})
			var e *Error
			if !errors.As(err, &e) || len(e.Diagnostics) == 0 {
				t.Fatalf("Load: %v, want an *Error", err)
			}
			for _, d := range e.Diagnostics {
				checkPlace(t, d)
			}
			golden(t, file, strings.ReplaceAll(err.Error(), cwd, "$DIR")+"\n")
		})
	}
}

// checkPlace holds a diagnostic to the file that it names.
func checkPlace(t *testing.T, d Diagnostic) {
	t.Helper()
	if d.Line == 0 {
		if d.Column != 0 || d.Source != "" {
			t.Errorf("%v: a column or source without a line", d)
		}
		return
	}
	b, err := os.ReadFile(d.File)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(b), "\uFEFF"), "\r\n", "\n")
	lines := strings.Split(text, "\n")
	if d.Line > len(lines) {
		t.Fatalf("%v: the file has %d lines", d, len(lines))
	}
	if line := strings.ToValidUTF8(lines[d.Line-1], "\uFFFD"); line != d.Source {
		t.Errorf("%v: source is %q, the line is %q", d, d.Source, line)
	}
	if n := len([]rune(d.Source)); d.Column < 1 || d.Column > n+1 || d.Length < 1 || d.Column+d.Length > n+2 {
		t.Errorf("%v: %d characters from column %d on, in a line of %d", d, d.Length, d.Column, n)
	}
}

// TestGood holds the spec that every good file makes.
func TestGood(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range goldenFiles(t, "good", 25) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			l, err := Load(t.Context(), file, Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkLoaded(t, l)
			spec := proto.CloneOf(l.Spec)
			spec.SubmitDir = strings.ReplaceAll(spec.SubmitDir, cwd, "$DIR")
			spec.Workdir = strings.ReplaceAll(spec.Workdir, cwd, "$DIR")
			for _, in := range spec.Inputs {
				in.External = strings.ReplaceAll(in.External, cwd, "$DIR")
				in.Mode &= 0o111 // a checkout decides about the rest
			}
			if m := spec.GetSpace().GetMap(); m != nil {
				m.Manifest, m.ShardDigests = nil, nil // hold modification times
			}
			head := fmt.Sprintf("# size %d, array %v\n", l.Size, l.Array)
			for _, w := range l.Warnings {
				checkPlace(t, w)
				head += "# " + strings.ReplaceAll(w.Format(false), "\n", "\n# ") + "\n"
			}
			goldenSpec(t, file, head, spec)
		})
	}
}

// goldenSpec compares messages, not text: the text format promises no fixed
// white space.
func goldenSpec(t *testing.T, file, head string, spec *volleyv1.JobSpec) {
	t.Helper()
	want := strings.TrimSuffix(file, ".yaml") + ".want"
	if *update {
		text := head + strings.ReplaceAll(prototext.Format(spec), ":  ", ": ")
		if err := os.WriteFile(want, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	var wantSpec volleyv1.JobSpec
	if err := prototext.Unmarshal(b, &wantSpec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&wantSpec, spec, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !strings.HasPrefix(string(b), head) {
		t.Errorf("got the head\n%swant\n%s", head, b[:min(len(b), len(head)+200)])
	}
}

// checkLoaded holds what every loaded job keeps to.
func checkLoaded(t *testing.T, l *Loaded) {
	t.Helper()
	if !filepath.IsAbs(l.Spec.SubmitDir) {
		t.Errorf("submit_dir %q is not absolute", l.Spec.SubmitDir)
	}
	if len(l.Inputs) != len(l.Spec.Inputs) {
		t.Fatalf("%d files for %d inputs", len(l.Inputs), len(l.Spec.Inputs))
	}
	for i, in := range l.Spec.Inputs {
		f := l.Inputs[i]
		if f.Name != in.Path || f.External != (in.External != "") || !filepath.IsAbs(f.Path) {
			t.Errorf("file %+v for input %v", f, in)
		}
		if i > 0 && l.Spec.Inputs[i-1].Path >= in.Path {
			t.Errorf("inputs are not sorted: %q, %q", l.Spec.Inputs[i-1].Path, in.Path)
		}
		if len(in.Digest) != 32 {
			t.Errorf("input %q has a digest of %d bytes", in.Path, len(in.Digest))
		}
	}
	if l.Array != (l.Spec.Space != nil) || l.Size == 0 {
		t.Errorf("size %d, array %v", l.Size, l.Array)
	}
	if m := l.Spec.GetSpace().GetMap(); m != nil {
		if _, err := sharding.ParseManifest(m.GetManifest()); err != nil {
			t.Errorf("the manifest does not parse: %v", err)
		}
	}
}
