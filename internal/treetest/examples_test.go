// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// checkExamples wants of every example a README.md, and of every job file in it
// a test that names it: an example that nobody runs is wrong within a month.
func checkExamples(tree fs.FS, files []source) (jobs []string, bad []string, err error) {
	named := testStrings(files)
	entries, err := fs.ReadDir(tree, "examples")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := path.Join("examples", e.Name())
		if _, err := fs.Stat(tree, path.Join(dir, "README.md")); err != nil {
			bad = append(bad, dir+": no README.md")
		}
		found, err := fs.Glob(tree, path.Join(dir, "*.yaml"))
		if err != nil {
			return nil, nil, err
		}
		if len(found) == 0 {
			bad = append(bad, dir+": no job file (*.yaml)")
		}
		for _, job := range found {
			jobs = append(jobs, job)
			// "digits/sweep.yaml" or "examples/digits/sweep.yaml".
			short := strings.TrimPrefix(job, "examples/")
			if !slices.ContainsFunc(named, func(s string) bool { return s == short || strings.HasSuffix(s, job) }) {
				bad = append(bad, fmt.Sprintf("%s: no test names it", job))
			}
		}
	}
	return jobs, bad, nil
}

// testStrings lists the string literals of all tests but those of this package,
// which names files only to plant violations.
func testStrings(files []source) []string {
	var list []string
	for _, f := range files {
		if !f.test() || f.dir() == "internal/treetest" {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					list = append(list, s)
				}
			}
			return true
		})
	}
	return list
}

func TestExamples(t *testing.T) {
	t.Parallel()
	jobs, bad, err := checkExamples(os.DirFS(root(t)), realSources(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) == 0 {
		t.Error("no job file found in examples")
	}
	for _, b := range bad {
		t.Error(b)
	}
}

func TestExamplesFindViolations(t *testing.T) {
	t.Parallel()
	const runs = "package e2e\n\nvar job = \"examples/a/job.yaml\"\n"
	tests := []struct {
		name string
		tree fstest.MapFS
		want string
	}{
		{"good", fstest.MapFS{
			"examples/a/README.md": {}, "examples/a/job.yaml": {}, "cmd/a_test.go": {Data: []byte(runs)},
		}, ""},
		{"no README", fstest.MapFS{"examples/a/job.yaml": {}, "cmd/a_test.go": {Data: []byte(runs)}}, "no README.md"},
		{"no job file", fstest.MapFS{"examples/a/README.md": {}}, "no job file"},
		{"no test", fstest.MapFS{"examples/a/README.md": {}, "examples/a/job.yaml": {}}, "no test names it"},
		{"named outside tests", fstest.MapFS{
			"examples/a/README.md": {}, "examples/a/job.yaml": {}, "cmd/a.go": {Data: []byte(runs)},
		}, "no test names it"},
		{"second job file", fstest.MapFS{
			"examples/a/README.md": {}, "examples/a/job.yaml": {}, "examples/a/more.yaml": {}, "cmd/a_test.go": {Data: []byte(runs)},
		}, "more.yaml: no test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files, err := loadSources(tt.tree)
			if err != nil {
				t.Fatal(err)
			}
			_, bad, err := checkExamples(tt.tree, files)
			if err != nil {
				t.Fatal(err)
			}
			if (tt.want == "" && len(bad) > 0) || (tt.want != "" && (len(bad) != 1 || !strings.Contains(bad[0], tt.want))) {
				t.Errorf("found %q, want %q", bad, tt.want)
			}
		})
	}
}
