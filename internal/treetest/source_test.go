// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	spdxLine = "// SPDX-License-Identifier: Apache-2.0\n"
	// A file that holds something of others names their licence too.
	spdxMore = "// SPDX-License-Identifier: Apache-2.0 AND "
)

// Limits of house style; see CONTRIBUTING.md.
const (
	maxLines = 500
	minDoc   = 150
)

// longFiles may have more than maxLines lines, with the reason.
var longFiles = map[string]string{}

// sleepers are test files that may call time.Sleep outside a synctest bubble,
// with the reason. In a bubble time is virtual and sleeping is exact.
var sleepers = map[string]string{}

// source is one Go file of the tree, generated ones left out.
type source struct {
	name string // relative to the top, with slashes
	text []byte
	file *ast.File
	fset *token.FileSet
}

func (s source) test() bool  { return strings.HasSuffix(s.name, "_test.go") }
func (s source) lines() int  { return bytes.Count(s.text, []byte("\n")) }
func (s source) dir() string { return path.Dir(s.name) }

// at is the position of a node, for a message.
func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.fset.Position(n.Pos()).Line)
}

// skipDir names folders that hold no source of ours: what the tools build,
// state of the embedded server, and anything hidden.
func skipDir(name string) bool {
	base := path.Base(name)
	return name != "." && strings.HasPrefix(base, ".") && name != ".ci" || name == "bin" || base == "testdata"
}

// walk calls fn for every file of the tree with this ending.
func walk(tree fs.FS, ending string, fn func(name string, text []byte) error) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(name):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ending):
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return fn(name, text)
	})
}

// loadSources parses all Go files that people wrote.
func loadSources(tree fs.FS) ([]source, error) {
	var list []source
	fset := token.NewFileSet()
	err := walk(tree, ".go", func(name string, text []byte) error {
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(file) {
			list = append(list, source{name, text, file, fset})
		}
		return nil
	})
	return list, err
}

func checkSPDX(files []source) []string {
	var bad []string
	for _, f := range files {
		if !bytes.HasPrefix(f.text, []byte(spdxLine)) && !bytes.HasPrefix(f.text, []byte(spdxMore)) {
			bad = append(bad, f.name+": the first line is not "+strings.TrimSpace(spdxLine))
		}
	}
	return bad
}

// checkDocs wants one package comment for each package with code, in doc.go.
func checkDocs(files []source) []string {
	type facts struct {
		code  bool
		where []string
		text  string
		name  string
	}
	packages := make(map[string]*facts)
	for _, f := range files {
		p := packages[f.dir()]
		if p == nil {
			p = &facts{}
			packages[f.dir()] = p
		}
		if f.test() {
			// A folder with nothing but tests is nobody's import.
			if f.file.Doc != nil {
				p.where = append(p.where, path.Base(f.name))
			}
			continue
		}
		p.code, p.name = true, f.file.Name.Name
		if f.file.Doc != nil {
			p.where = append(p.where, path.Base(f.name))
			p.text = f.file.Doc.Text()
		}
	}
	var bad []string
	for dir, p := range packages {
		if !p.code {
			continue
		}
		synopsis := new(doc.Package).Synopsis(p.text)
		switch {
		case len(p.where) == 0:
			bad = append(bad, dir+": no package comment; write doc.go")
		case len(p.where) > 1 || p.where[0] != "doc.go":
			bad = append(bad, fmt.Sprintf("%s: the package comment is in %v, want it once, in doc.go", dir, p.where))
		case p.name != "main" && !strings.HasPrefix(p.text, "Package "+p.name+" "):
			bad = append(bad, fmt.Sprintf("%s: the package comment begins %q, want %q", dir, synopsis, "Package "+p.name+" …"))
		case len(p.text) < minDoc:
			bad = append(bad, fmt.Sprintf("%s: the package comment has %d characters; state time, order, durability, blocking", dir, len(p.text)))
		}
	}
	slices.Sort(bad)
	return bad
}

func checkLength(files []source, allowed map[string]string) []string {
	var bad []string
	long := make(map[string]bool)
	for _, f := range files {
		if f.lines() <= maxLines {
			continue
		}
		long[f.name] = true
		if allowed[f.name] == "" {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d: split it, or give a reason in longFiles", f.name, f.lines(), maxLines))
		}
	}
	for name := range allowed {
		if !long[name] {
			bad = append(bad, name+" is in longFiles and is not long: remove it")
		}
	}
	slices.Sort(bad)
	return bad
}

// realSources parses the real tree.
func realSources(t *testing.T) []source {
	t.Helper()
	files, err := loadSources(os.DirFS(root(t)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f source) bool { return f.name == "internal/treetest/source_test.go" }) {
		t.Fatal("the walk has not found this file")
	}
	return files
}

func TestSources(t *testing.T) {
	t.Parallel()
	files := realSources(t)
	for _, bad := range slices.Concat(
		checkSPDX(files), checkDocs(files), checkLength(files, longFiles), checkSleep(files, sleepers), checkPure(files),
	) {
		t.Error(bad)
	}
}

func TestSourcesFindViolations(t *testing.T) {
	t.Parallel()
	goodDoc := spdxLine + "\n// Package good is documented. " + strings.Repeat("It says much. ", 20) + "\npackage good\n"
	tests := []struct {
		name, file, text string
		want             string // part of the only message; empty: none
	}{
		{"good", "good/doc.go", goodDoc, ""},
		{"no licence", "good/doc.go", strings.TrimPrefix(goodDoc, spdxLine), "first line"},
		{"data of others", "good/doc.go", strings.Replace(goodDoc, "Apache-2.0", "Apache-2.0 AND BSD-3-Clause", 1), ""},
		{"other licence", "good/doc.go", strings.Replace(goodDoc, "Apache-2.0", "Apache-2.0 OR MIT", 1), "first line"},
		{"generated", "pb/x.pb.go", "// Code generated by hand. DO NOT EDIT.\n\npackage pb\n", ""},
		{"no comment", "a/a.go", spdxLine + "\npackage a\n", "a: no package comment"},
		{"licence as comment", "a/doc.go", spdxLine + "package a\n", "begins"},
		{"comment elsewhere", "good/good.go", goodDoc, "in [good.go]"},
		{"short comment", "a/doc.go", spdxLine + "\n// Package a is short.\npackage a\n", "has 20 characters"},
		{"other name", "a/doc.go", strings.Replace(goodDoc, "package good", "package a", 1), `want "Package a …"`},
		{"tests only", "a/a_test.go", spdxLine + "\npackage a\n", ""},
		{"long", "a/a_test.go", spdxLine + "\npackage a\n" + strings.Repeat("\n", maxLines), "503 lines"},
		{"skipped", "a/testdata/a.go", "package a\n", ""},
		{"sleep", "a/a_test.go", spdxLine + "\npackage a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "a/a_test.go:7: time.Sleep"},
		{"renamed sleep", "a/a_test.go", spdxLine + "\npackage a\n\nimport clock \"time\"\n\nvar f = clock.Sleep\n", "a/a_test.go:7: time.Sleep"},
		{"other sleep", "a/a_test.go", spdxLine + "\npackage a\n\nimport time \"x/time\"\n\nvar f = time.Sleep\n", ""},
		{
			"sleep in a bubble", "a/a_test.go",
			spdxLine + "\npackage a\n\nimport (\n\t\"testing\"\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }\n", "",
		},
		{"clock in the state's test", "coordinator/state/a_test.go", spdxLine + "\npackage state\n\nimport \"time\"\n\nvar now = time.Now\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files, err := loadSources(fstest.MapFS{tt.file: {Data: []byte(tt.text)}})
			if err != nil {
				t.Fatal(err)
			}
			bad := slices.Concat(checkSPDX(files), checkDocs(files), checkLength(files, nil), checkSleep(files, nil), checkPure(files))
			switch {
			case tt.want == "" && len(bad) > 0:
				t.Errorf("found %q in a good file", bad)
			case tt.want != "" && (len(bad) != 1 || !strings.Contains(bad[0], tt.want)):
				t.Errorf("found %q, want one message with %q", bad, tt.want)
			}
		})
	}
}

func TestAllowListsFindStaleEntries(t *testing.T) {
	t.Parallel()
	stale := map[string]string{"gone.go": "was long"}
	if bad := checkLength(nil, stale); len(bad) != 1 {
		t.Errorf("length: found %q, want one message", bad)
	}
	if bad := checkSleep(nil, stale); len(bad) != 1 {
		t.Errorf("sleep: found %q, want one message", bad)
	}
}
