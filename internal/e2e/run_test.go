// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// folder is a place where a user works with the embedded coordinator.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) folder { return folder{t, t.TempDir()} }

func (f folder) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) volley(args ...string) (stdout, stderr string, code int) {
	f.t.Helper()
	cmd := exec.Command(volley, args...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(f.dir, "config"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// summary is the last JSON object of `volley run -o json`.
type summary struct {
	JobID                             string
	State                             string
	Total, Succeeded, Failed, Skipped uint64
	DurationMS                        float64
}

func lastObject(t *testing.T, stdout string) (s summary) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("the last line is not a JSON object: %v\n%s", err, stdout)
	}
	return s
}

// TestTenThousand: 10,000 processes finish, each index is recorded once, and
// their output lies in few files.
func TestTenThousand(t *testing.T) {
	t.Parallel()
	const n = 10_000
	f := newFolder(t)
	f.write("job.yaml", fmt.Sprintf("name: many\narray: %d\ncommand: [/bin/echo, \"{index}\"]\n", n))
	out, errs, code := f.volley("run", "-o", "json", "job.yaml")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	s := lastObject(t, out)
	if want := (summary{JobID: "1", State: "SUCCEEDED", Total: n, Succeeded: n, DurationMS: s.DurationMS}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	out, errs, code = f.volley("results", "1", "-o", "jsonl")
	if code != 0 {
		t.Fatalf("results: exit %d\n%s", code, errs)
	}
	seen := map[int]int{}
	for line := range strings.Lines(out) {
		var row struct {
			Index    int
			State    string
			Attempts int
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if row.State != "SUCCEEDED" || row.Attempts != 1 {
			t.Errorf("%+v", row)
		}
		seen[row.Index]++
	}
	for i := range n {
		if seen[i] != 1 {
			t.Errorf("index %d has %d rows", i, seen[i])
		}
	}
	for _, i := range []int{0, 1, 4_999, n - 1} {
		if out, errs, code = f.volley("logs", fmt.Sprintf("1:%d", i)); out != fmt.Sprintf("%d\n", i) || code != 0 {
			t.Errorf("logs 1:%d: exit %d, %q, %q", i, code, out, errs)
		}
	}
	var files []string
	if err := filepath.WalkDir(filepath.Join(f.dir, ".volley"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) >= 20 {
		t.Errorf("%d files: %v", len(files), files)
	}
}

// TestBadFiles: what a user gets for a wrong file is exit 2 and the place.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file  string
		place string // line:column
		text  string
	}{
		"unknown key":           {"name: a\ncomand: [/bin/true]\n", "2:1", "command"},
		"wrong type":            {"name: a\ncommand: [/bin/true]\narray: many\n", "3:8", "many"},
		"unclosed bracket":      {"name: a\ncommand: [/bin/true\n", "2:10", "["},
		"tab":                   {"name: a\n\tcommand: [/bin/true]\n", "2:1", "tab"},
		"duplicate key":         {"name: a\nname: b\ncommand: [/bin/true]\n", "2:1", "name"},
		"no command":            {"name: a\n", "1:1", "command"},
		"two commands":          {"name: a\ncommand: [/bin/true]\nrun: ls\n", "3:1", "run"},
		"undefined parameter":   {"name: a\ncommand: [echo, \"{lr}\"]\n", "2:18", "lr"},
		"negative memory":       {"name: a\ncommand: [/bin/true]\nresources: {memory: -5MiB}\n", "3:21", "-5MiB"},
		"negative cpu":          {"name: a\ncommand: [/bin/true]\nresources: {cpu: -1}\n", "3:18", "-1"},
		"array too small":       {"name: a\ncommand: [/bin/true]\narray: 0\n", "3:8", "0"},
		"missing map file":      {"name: a\ncommand: [echo, \"{line}\"]\nmap: {over: nowhere.txt}\n", "3:13", "nowhere.txt"},
		"empty glob":            {"name: a\ncommand: [echo, \"{path}\"]\nmap: {over: \"*.nope\"}\n", "3:13", "*.nope"},
		"missing local command": {"name: a\ncommand: [./nowhere]\n", "2:11", "nowhere"},
		"empty choices":         {"name: a\ncommand: [echo, \"{x}\"]\nsweep: {params: {x: []}}\n", "3:21", "x"},
		"log from zero":         {"name: a\ncommand: [echo, \"{x}\"]\nsweep: {params: {x: {log: [0, 1], steps: 3}}}\n", "3:28", "0"},
		"zip of unequal":        {"name: a\ncommand: [echo, \"{x}{y}\"]\nsweep: {sampler: zip, params: {x: [1, 2], y: [1]}}\n", "3:", "zip"},
		"cycle in when":         {"name: a\ncommand: [echo, \"{x}{y}\"]\nsweep: {params: {x: {values: [1], when: y == 1}, y: {values: [1], when: x == 1}}}\n", "3:", "cycle"},
		"bad expression":        {"name: a\ncommand: [echo, \"{x}\"]\nsweep: {params: {x: [1, 2]}, exclude: \"x >\"}\n", "3:", "exclude"},
		"exclude everything":    {"name: a\ncommand: [echo, \"{x}\"]\nsweep: {params: {x: [1, 2]}, exclude: \"x > 0\"}\n", "3:", "exclude"},
		"bad duration":          {"name: a\ncommand: [/bin/true]\ntimeout: soon\n", "3:10", "soon"},
		"bad retry rule":        {"name: a\ncommand: [/bin/true]\nretry: {attempts: 2, rules: [{onExitCode: \"1*2\", action: RETRY}]}\n", "3:", "1*2"},
		"unknown goal":          {"name: a\ncommand: [/bin/true]\nmetric: {name: x, goal: best}\n", "3:25", "best"},
		"input that is not":     {"name: a\ncommand: [/bin/true]\ninputs: [nowhere.py]\n", "3:10", "nowhere.py"},
		"two documents":         {"name: a\ncommand: [/bin/true]\n---\nname: b\n", "3:", "document"},
		"not a mapping":         {"- a\n", "1:1", "mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			f.write("job.yaml", c.file)
			out, errs, code := f.volley("run", "job.yaml")
			if code != 2 || out != "" {
				t.Errorf("exit %d, stdout %q", code, out)
			}
			if !strings.Contains(errs, "job.yaml:"+c.place) || !strings.Contains(errs, "^") || !strings.Contains(errs, c.text) {
				t.Errorf("want job.yaml:%s, a caret and %q in:\n%s", c.place, c.text, errs)
			}
			if _, err := os.Stat(filepath.Join(f.dir, ".volley")); err == nil {
				t.Error("a wrong file left a .volley behind")
			}
		})
	}
}

// TestRunTimeErrors: what only the run can show becomes a failed task with the
// reason.
func TestRunTimeErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, reason string }{
		"no such program":    {"name: a\ncommand: [no-such-program]\n", "no-such-program"},
		"not executable":     {"name: a\ncommand: [/etc/hostname]\n", "/etc/hostname"},
		"exit code":          {"name: a\nrun: exit 7\n", "exit code 7"},
		"signal":             {"name: a\nrun: kill -SEGV $$\n", "SIGSEGV"},
		"timeout":            {"name: a\nrun: sleep 60\ntimeout: 200ms\n", "timeout"},
		"needs a large node": {"name: a\ncommand: [/bin/true]\nresources: {cpu: 100000}\n", "100000 CPUs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			f.write("job.yaml", c.file)
			out, errs, code := f.volley("run", "job.yaml")
			if code != 1 || !strings.Contains(out+errs, c.reason) {
				t.Errorf("exit %d, want 1 and %q in:\n%s%s", code, c.reason, out, errs)
			}
		})
	}
}

// TestUnequalNToN is refused by the coordinator, which alone knows the other
// job.
func TestUnequalNToN(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("first.yaml", "name: first\narray: 3\ncommand: [/bin/true]\n")
	f.write("second.yaml", "name: second\narray: 4\ncommand: [/bin/true]\ndependsOn: [{job: first, type: N_TO_N}]\n")
	if _, errs, code := f.volley("run", "first.yaml"); code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	_, errs, code := f.volley("run", "second.yaml")
	if code != 2 || !strings.Contains(errs, "second.yaml:4:") || !strings.Contains(errs, "^") || !strings.Contains(errs, "same size") {
		t.Errorf("exit %d\n%s", code, errs)
	}
	f.write("third.yaml", "name: third\ncommand: [/bin/true]\ndependsOn: [{job: nowhere}]\n")
	_, errs, code = f.volley("run", "third.yaml")
	if code != 2 || !strings.Contains(errs, "third.yaml:3:") || !strings.Contains(errs, "^") || !strings.Contains(errs, "nowhere") {
		t.Errorf("exit %d\n%s", code, errs)
	}
}
