// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// tree writes files below a new directory and returns it. A name with a final
// `*` is executable, `name -> target` is a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		link, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(dir, strings.TrimSuffix(link, "*"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, "*") {
			mode = 0o755
		}
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(l *Loaded) []string {
	list := []string{}
	for _, in := range l.Spec.Inputs {
		list = append(list, in.Path)
	}
	return list
}

// loadErrors loads a file that must be refused with want in the message.
func loadErrors(t *testing.T, path string, o Options, want string) []Diagnostic {
	t.Helper()
	l, err := Load(t.Context(), path, o)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Load: %v, %v, want an *Error with %q", l, err, want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("Load: %v\nwant %q in it", err, want)
	}
	return e.Diagnostics
}

func TestInputs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files    map[string]string
		job      string
		want     []string
		warnings int
	}{
		"none": {nil, "command: [/bin/true]", []string{}, 0},
		"words": {
			map[string]string{"train.py": "", "conf/a.yaml": "", "train*": "", "sub": ""},
			`command: [./train, train.py, conf/a.yaml, conf, "{index}", nothing.py, /etc/passwd, sub]`,
			[]string{"conf/a.yaml", "sub", "train", "train.py"},
			0,
		},
		"same file twice": {
			map[string]string{"a.py": ""}, "command: [prog, a.py, ./a.py]\ninputs: [a.py, '*.py', .]", []string{"a.py"}, 0,
		},
		"braces": {map[string]string{"{a}.py": "", "a.py": ""}, `command: [prog, "{{a}}.py"]`, []string{"{a}.py"}, 0},
		"directory without what changes": {
			map[string]string{"a.py": "", "lib/b.py": "", "lib/deep/c.py": "", ".git/HEAD": "", ".volley/state": "", "lib/__pycache__/b.pyc": "", ".env": ""},
			"command: [/bin/true]\ninputs: [.]",
			[]string{".env", "a.py", "lib/b.py", "lib/deep/c.py"},
			0,
		},
		"option":         {map[string]string{"a.yaml": "", "b.yaml": ""}, "command: [prog, --conf=a.yaml, -x, --other=, --y=b, x=b.yaml]", []string{"a.yaml"}, 0},
		"named job file": {nil, "command: [cat, job.yaml]", []string{"job.yaml"}, 0},
		"glob": {
			map[string]string{"a.txt": "", "b.csv": "", "d/a.txt": "", "d/e/a.txt": "", "d/e/b.csv": "", "x.txt/y": ""},
			"command: [/bin/true]\ninputs: ['*.txt', 'd/**/*.csv']",
			[]string{"a.txt", "d/e/b.csv"},
			0,
		},
		"deep glob": {
			map[string]string{"a.txt": "", "d/a.txt": "", "d/e/a.txt": "", "d/e/b": ""},
			"command: [/bin/true]\ninputs: ['**/a.txt', 'd/e/**']",
			[]string{"a.txt", "d/a.txt", "d/e/a.txt", "d/e/b"},
			0,
		},
		"name with a bracket": {map[string]string{"a[1].txt": "", "a1.txt": ""}, "command: [/bin/true]\ninputs: ['a[1].txt']", []string{"a[1].txt"}, 0},
		"links inside": {
			map[string]string{"a.txt": "", "l.txt -> a.txt": "", "d -> real": "", "real/b": ""},
			"command: [cat, l.txt]\ninputs: [d]",
			[]string{"d/b", "l.txt"},
			0,
		},
		"links found by a walk": {
			map[string]string{"w/a.txt": "", "w/out -> /etc/passwd": "", "w/gone -> nowhere": "", "w/loop -> ../w": ""},
			"command: [/bin/true]\ninputs: [w]",
			[]string{"w/a.txt"},
			3,
		},
		"run": {
			map[string]string{"a.py": "", "b.txt": "", "out.txt": "", "test": "", "d/e": "", "c.py": ""},
			"run: 'test -f a.py && python \"a.py\" <b.txt >out.txt 2>d/e # c.py'",
			[]string{"a.py", "b.txt"},
			0,
		},
		"run path": {map[string]string{"d/e": "", "e": ""}, "run: cat d/e e $X/e d/$Y", []string{"d/e"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, c.files)
			path := filepath.Join(dir, "job.yaml")
			if err := os.WriteFile(path, []byte(c.job), 0o644); err != nil {
				t.Fatal(err)
			}
			l, err := Load(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkLoaded(t, l)
			if diff := cmp.Diff(c.want, names(l)); diff != "" {
				t.Errorf("inputs (-want +got)\n%s", diff)
			}
			if len(l.Warnings) != c.warnings {
				t.Errorf("%d warnings %v, want %d", len(l.Warnings), l.Warnings, c.warnings)
			}
		})
	}
}

func TestInputContent(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"train*": "#!/bin/sh\n", "large": strings.Repeat("x", 101), "small": strings.Repeat("x", 100), "job.yaml": "command: [./train, large, small]\n"})
	job := filepath.Join(dir, "job.yaml")
	o := Options{FileBytes: 100}
	l, err := Load(t.Context(), job, o)
	if err != nil {
		t.Fatal(err)
	}
	large, small, train := l.Spec.Inputs[0], l.Spec.Inputs[1], l.Spec.Inputs[2]
	if large.External != filepath.Join(dir, "large") || large.Size != 101 || !l.Inputs[0].External {
		t.Errorf("large: %v", large)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("x", 100)))
	if small.External != "" || string(small.Digest) != string(sum[:]) || small.Size != 100 || l.Inputs[1].External {
		t.Errorf("small: %v", small)
	}
	if train.Mode != 0o755 {
		t.Errorf("train has mode %o", train.Mode)
	}
	// A large file is known by its time, not by its content.
	info, err := os.Stat(large.External)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(large.External, info.ModTime(), info.ModTime().Add(1)); err != nil {
		t.Fatal(err)
	}
	again, err := Load(t.Context(), job, o)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.Spec.Inputs[0].Digest) == string(large.Digest) || string(again.Spec.Inputs[1].Digest) != string(small.Digest) {
		t.Error("after a new modification time: the digest of large must differ, that of small must not")
	}
}

func TestInputLimits(t *testing.T) {
	t.Parallel()
	files := map[string]string{"big/x": strings.Repeat("x", 3<<20), "job.yaml": "command: [/bin/true]\ninputs: [many, big]\n"}
	for i := range 20 {
		files[fmt.Sprintf("many/f%02d", i)] = "x"
	}
	dir := tree(t, files)
	job := filepath.Join(dir, "job.yaml")
	ds := loadErrors(t, job, Options{SnapshotFiles: 10}, "more than 10 files")
	if d := ds[0]; len(ds) != 1 || d.Line != 2 || d.Column != 10 {
		t.Errorf("diagnostics %v, want one at 2:10", ds)
	}
	ds = loadErrors(t, job, Options{SnapshotBytes: 2 << 20}, "the largest is big/x with 3 MiB")
	if d := ds[0]; d.Column != 16 || !strings.Contains(d.Hint, "workdir: .") {
		t.Errorf("%v, hint %q, want 2:16 and workdir", d, d.Hint)
	}
	if _, err := Load(t.Context(), job, Options{SnapshotBytes: 4 << 20, SnapshotFiles: 21}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
	if _, err := Load(t.Context(), job, Options{SnapshotBytes: 1 << 20, FileBytes: 1 << 20}); err != nil {
		t.Errorf("an external file must not count: %v", err)
	}
	if err := os.WriteFile(job, []byte("command: [/bin/true]\nworkdir: .\ninputs: [many, big]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := Load(t.Context(), job, Options{SnapshotBytes: 1 << 20})
	if err != nil {
		t.Fatalf("in place: %v", err)
	}
	for _, in := range l.Spec.Inputs {
		if in.External == "" {
			t.Errorf("in place: %s is to be uploaded", in.Path)
		}
	}
}

func TestWorkdir(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"job/x": "", "job/sub/a.py": "", "job/a.py": "", "other/prog*": "", "other/b.py": "", "b.py": ""})
	for name, c := range map[string]struct {
		job, workdir string
		want         []string
		warnings     int
	}{
		"here":         {"command: [python, a.py]\nworkdir: .", "job", []string{"a.py"}, 0},
		"below":        {"command: [python, a.py]\nworkdir: sub/", "job/sub", []string{"sub/a.py"}, 0},
		"beside":       {"command: [./prog, b.py]\nworkdir: ../other", "other", []string{"b.py", "prog"}, 0},
		"absolute":     {"command: [./prog]\nworkdir: " + dir + "/other", "other", []string{"prog"}, 0},
		"word outside": {"command: [cat, ../b.py, a.py]\nworkdir: .", "job", []string{"a.py"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, "job", strings.ReplaceAll(name, " ", "-")+".yaml")
			if err := os.WriteFile(path, []byte(c.job), 0o644); err != nil {
				t.Fatal(err)
			}
			l, err := Load(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(dir, c.workdir); l.Spec.Workdir != want {
				t.Errorf("workdir %s, want %s", l.Spec.Workdir, want)
			}
			if diff := cmp.Diff(c.want, names(l)); diff != "" {
				t.Errorf("inputs (-want +got)\n%s", diff)
			}
			if len(l.Warnings) != c.warnings {
				t.Errorf("%d warnings %v, want %d", len(l.Warnings), l.Warnings, c.warnings)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"digits.yaml": "command: [/bin/true]", "out.yaml": "command: [cat, l]", "l -> /etc/passwd": "", "in.yaml": "command: [/bin/true]\ninputs: [l, d]", "d -> /etc": "",
		"placeholder.yaml": "command: [/bin/true]\nworkdir: '{index}'", "empty/.git/x": "", "nothing.yaml": "command: [/bin/true]\ninputs: [empty]",
		"locked.yaml": "command: [/bin/true]\ninputs: ['**/**/**/**/**/**/**/**/**/x']",
	})
	_ = loadErrors(t, filepath.Join(dir, "digit.yaml"), Options{}, "no such file\n  hint: did you mean "+filepath.Join(dir, "digits.yaml"))
	_ = loadErrors(t, dir, Options{}, "a directory")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = loadErrors(t, fifo, Options{}, "not a regular file")
	_ = loadErrors(t, filepath.Join(dir, "out.yaml"), Options{}, "input l leads out")
	ds := loadErrors(t, filepath.Join(dir, "in.yaml"), Options{}, "input l leads out")
	if len(ds) != 2 {
		t.Errorf("%v, want two errors", ds)
	}
	_ = loadErrors(t, filepath.Join(dir, "placeholder.yaml"), Options{}, "no placeholders")
	_ = loadErrors(t, filepath.Join(dir, "nothing.yaml"), Options{}, "there are no files in")
	_ = loadErrors(t, filepath.Join(dir, "locked.yaml"), Options{}, "more than 8 `**`")
}

func TestLoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"a": "", "points.csv": "a\n1\n", "data.txt": "1\n",
		"inputs.yaml": "command: [/bin/true]\ninputs: [.]",
		"table.yaml":  "command: [p, '{a}']\nsweep: {sampler: file, file: points.csv}",
		"map.yaml":    "command: [p, '{line}']\nmap: {over: data.txt}",
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, job := range []string{"inputs.yaml", "table.yaml", "map.yaml"} {
		if _, err := Load(ctx, filepath.Join(dir, job), Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want the context's error", job, err)
		}
	}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"job.yaml": "command: [p, '{lr}']\nsweep:\n  sampler: random\n  points: 4\n  params: {lr: {float: [0, 1]}}\ngrace:\n"})
	job := filepath.Join(dir, "job.yaml")
	l, err := Load(t.Context(), job, Options{Set: []string{"sweep.points=64", "resources.cpu=2", "resources.memory=1GiB", "sweep.params.lr={log: [1e-4, 1]}", "name=a b=c", "name=x", "labels.team=a=b", "grace=5s", `env.E=""`}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Size != 64 || l.Spec.Resources.CpuMilli != 2000 || l.Spec.Resources.MemoryBytes != 1<<30 || l.Spec.Name != "x" || l.Spec.GraceMs != 5000 {
		t.Errorf("spec %v", l.Spec)
	}
	if r := l.Spec.GetSpace().GetSweep().Params[0].GetFloatRange(); r.GetScale() != volleyv1.Scale_SCALE_LOG || r.GetMin() != 1e-4 {
		t.Errorf("lr is %v", r)
	}
	for set, want := range map[string]string{
		"points":           "--set:1:1: not key=value",
		"=5":               "--set:1:1: not key=value",
		"sweep..points=5":  "--set:1:7: an empty key",
		"sweep.points.x=5": "--set:1:14: sweep.points is 4 in the file, not a mapping",
		"sweep.pionts=5":   "--set:1:7: unknown key \"pionts\" in sweep\n   1 | sweep.pionts=5\n     |       ^^^^^^\n  hint: did you mean \"points\"?",
		"sweep.points=-5":  "--set:1:14: sweep.points must be an integer of 1 or more, not -5\n   1 | sweep.points=-5\n     |              ^^",
		"sweep.points=":    "--set:1:14: no value",
		"sweep.params=[1":  "--set:1:14: this `[` is not closed",
		"name=\x1b":        "control character",
		"run=x":            "command and run exclude each other",
	} {
		_ = loadErrors(t, job, Options{Set: []string{"grace=1s", set}}, want)
	}
}

func TestDefaultName(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"digits.yaml": "digits", "my job (2).yml": "my-job-2", "_x.yaml": "x", ".yaml": "job", "日本.yaml": "job", "a.b.yaml": "a.b", "a--b.yaml": "a--b", "é-a.yaml": "a",
		strings.Repeat("a", 200) + ".yaml": strings.Repeat("a", 128), "noext": "noext", "trailing-.yaml": "trailing",
	} {
		got := defaultName(filepath.Join("dir", file))
		if got != want {
			t.Errorf("%s is named %q, want %q", file, got, want)
		}
		if !nameRE.MatchString(got) {
			t.Errorf("%s is named %q, which is no name", file, got)
		}
	}
}

func TestShellWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`a b  c`:                     {"a", "b", "c"},
		`'a b' "c d"`:                {"a b", "c d"},
		`a'b'"c"\ d`:                 {"abc d"},
		`a;b&&c|d&`:                  {"a", "b", "c", "d"},
		`a <b >c >>d 2>e f`:          {"a", "b", "2", "f"},
		`a > "b c" d`:                {"a", "d"},
		`a >b; c`:                    {"a", "c"},
		`a $b c/$d "$e" "f\$" *.txt`: {"a", "f$"},
		"a # b\nc#d":                 {"a", "c#d"},
		"a \\\n b":                   {"a", "b"},
		`$(cat x.txt)`:               {"cat", "x.txt"},
		`'open`:                      {"open"},
		`a\`:                         {`a\`},
	} {
		if diff := cmp.Diff(want, shellWords(line)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", line, diff)
		}
	}
}
