// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocuments does what the documents tell a newcomer to do, each in an empty
// folder, and compares what is printed with what they show. Only times differ.
//
// A block whose first line is "# NAME" is a file; of a table, that line is left
// out. In a console block, lines after "$ " are commands and the others their
// output; "&" at the end starts a server, and a line "^C" is an interrupt.
func TestDocuments(t *testing.T) {
	t.Parallel()
	tests := []struct {
		path            string
		files, commands int // at least
	}{
		{"README.md", 7, 20},
		{"docs/jobfile.md", 6, 8},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			r := newReader(t, tt.path)
			for _, b := range readBlocks(t, filepath.Join("../..", tt.path)) {
				r.block(b)
			}
			r.checkState()
			if r.files < tt.files || r.commands < tt.commands {
				t.Errorf("%s has %d files and %d commands: is it still read right?", tt.path, r.files, r.commands)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the reference of the job file into docs/jobfile.md")

// TestReferenceOfTheJobFile holds docs/jobfile.md to the program.
func TestReferenceOfTheJobFile(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../docs/jobfile.md", "\n```text\n", "```\n"
	want, err := exec.Command(volley, "help", "jobfile").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, "\n"+end)
	if !ok || !closed {
		t.Fatal("docs/jobfile.md has no block of text with the reference")
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+string(want)+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got+"\n", string(want)); diff != "" {
		t.Errorf("go test ./internal/e2e -run %s -update writes it (-document +program):\n%s", t.Name(), diff)
	}
}

// checkState wants what is in .volley to be in the table of ARCHITECTURE.md.
func (r *reader) checkState() {
	r.t.Helper()
	var table string
	for _, b := range readBlocks(r.t, "../../ARCHITECTURE.md") {
		if b.text[0] == ".volley/" {
			table = strings.Join(b.text, "\n")
		}
	}
	state := os.DirFS(filepath.Join(r.dir, ".volley"))
	seen := 0
	for _, pattern := range []string{"*", "coordinator/*", "coordinator/journal/*", "worker/*"} {
		names, err := fs.Glob(state, pattern)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, name := range names {
			seen++
			if !regexp.MustCompile(`(?m)^ *([a-z]+, )?` + regexp.QuoteMeta(path.Base(name)) + `\b`).MatchString(table) {
				r.t.Errorf("ARCHITECTURE.md does not say what .volley/%s is", name)
			}
		}
	}
	if seen < 10 {
		r.t.Errorf("%d files in .volley: is the state still there?", seen)
	}
}

var (
	testName = regexp.MustCompile("`((?:Test|Benchmark)[A-Z]\\w*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)[A-Z]\w*)\(`)
)

// TestNamedTests wants the tests and benchmarks that documents name to exist:
// a promise that nothing holds any more is worse than none.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	err := filepath.WalkDir("../..", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		text, err := os.ReadFile(file)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			have[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		named := testName.FindAllSubmatch(text, -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", name)
		}
		for _, m := range named {
			if !have[string(m[1])] {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

var variable = regexp.MustCompile("`((?:VOLLEY|AWS_BATCH)_[A-Z_]+)")

// TestNamedVariables wants every variable in the README's table of what a task
// sees to be in the environment of a task.
func TestNamedVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What a task sees\n")
	section, _, _ = strings.Cut(section, "\n## ")
	named := variable.FindAllStringSubmatch(section, -1)
	if len(named) < 10 {
		t.Fatalf("the table names %d variables", len(named))
	}
	r := newReader(t, "README.md")
	for name, content := range map[string]string{
		"env.yaml": "run: \"env # {records}\"\nmap: {over: rows.csv, shard: {rows: 2}}\n",
		"one.yaml": "run: \"env # {city}\"\nmap: {over: rows.csv}\n",
		"rows.csv": "city\nOslo\nLima\n",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := r.command("volley run env.yaml >/dev/null && volley logs env:0 && volley run one.yaml -o name >/dev/null; volley logs one:0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range named {
		if !regexp.MustCompile(`(?m)^` + m[1] + `[A-Z]*=`).Match(out) {
			t.Errorf("no task sees %s:\n%s", m[1], out)
		}
	}
}
