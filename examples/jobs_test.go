// SPDX-License-Identifier: Apache-2.0

// Package examples tests the programs of the examples the way a task sees
// them: in a directory of their own, with the inputs that the job file names,
// with the command that it gives.
package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/internal/jobfile"
)

// job is what these tests need of a job file.
type job struct {
	dir     string
	Command []string `yaml:"command"`
	Inputs  []string `yaml:"inputs"`
	Workdir string   `yaml:"workdir"`
	Array   int      `yaml:"array"`
	Map     struct {
		Over  string `yaml:"over"`
		Shard struct {
			Rows int `yaml:"rows"`
		} `yaml:"shard"`
	} `yaml:"map"`
}

// stage copies an example to a folder of its own and builds its program there.
func stage(t *testing.T, file, program string) *job {
	t.Helper()
	from := filepath.Dir(file)
	j := &job{dir: t.TempDir()}
	if err := os.CopyFS(j.dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if program != "" {
		// A program from an earlier `make examples` would hide a broken build.
		target := filepath.Join(j.dir, program)
		if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		build := exec.CommandContext(t.Context(), "go", "build", "-o", target, "./"+from)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", from, err, out)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, j); err != nil {
		t.Fatal(err)
	}
	if len(j.Command) == 0 {
		t.Fatalf("%s has no command", file)
	}
	return j
}

// outcome is how a task ended.
type outcome struct {
	code    int
	output  string
	results map[string]any
	dir     string
}

// run runs one task with these parameters.
func (j *job) run(t *testing.T, index int, params map[string]string) outcome {
	t.Helper()
	o := outcome{dir: j.dir}
	if j.Workdir == "" {
		o.dir = t.TempDir()
		for _, name := range append(j.Inputs, j.Command...) {
			j.snapshot(t, o.dir, name)
		}
	}
	pairs := make([]string, 0, 2*len(params))
	env := append(os.Environ(), fmt.Sprintf("VOLLEY_INDEX=%d", index))
	for name, value := range params {
		pairs = append(pairs, "{"+name+"}", value)
	}
	words := make([]string, len(j.Command))
	for i, w := range j.Command {
		words[i] = strings.NewReplacer(pairs...).Replace(w)
		if strings.ContainsAny(words[i], "{}") {
			t.Fatalf("command word %q: the test gives no value for it", w)
		}
	}
	if strings.Contains(words[0], "/") {
		words[0] = filepath.Join(o.dir, words[0])
	}
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Dir, cmd.Env = o.dir, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		o.code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	o.output = out.String()
	text, err := os.ReadFile(filepath.Join(o.dir, "results.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return o
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &o.results); err != nil {
		t.Fatalf("results.json: %v: %s", err, text)
	}
	return o
}

// snapshot links a file that a job names, as a worker does; words that are not
// files stay words. A copy of a program, written by this process, could not be
// executed while another test's child still holds the descriptor.
func (j *job) snapshot(t *testing.T, dir, name string) {
	t.Helper()
	from, to := filepath.Join(j.dir, name), filepath.Join(dir, name)
	info, err := os.Stat(from)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}

// TestJobFiles reads the job files as volley does, data sets included.
func TestJobFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file, program string
		name          string
		size          uint64
		inputs        []string
	}{
		{"digits/sweep.yaml", "train", "digits-sweep", 36, []string{"digits.csv.gz", "train"}},
		{"images/label.yaml", "classify", "label-images", 30, []string{"classify", "model.json"}},
		{"images/corrupt.yaml", "classify", "label-corrupt", 3, []string{"classify", "model.json"}},
		{"slurm-array/array.yaml", "", "basel", 20, []string{"task.sh"}},
		{"words/count.yaml", "", "count-words", 8, []string{"count.sh"}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			j := stage(t, tt.file, tt.program)
			loaded, err := jobfile.Load(t.Context(), filepath.Join(j.dir, filepath.Base(tt.file)), jobfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var inputs []string
			for _, in := range loaded.Inputs {
				inputs = append(inputs, in.Name)
			}
			if diff := cmp.Diff(tt.inputs, inputs); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
			if loaded.Size != tt.size || loaded.Spec.GetName() != tt.name || !loaded.Array {
				t.Errorf("%s of %d indexes (array %v), want %s of %d", loaded.Spec.GetName(), loaded.Size, loaded.Array, tt.name, tt.size)
			}
			for _, w := range loaded.Warnings {
				t.Errorf("warning: %+v", w)
			}
		})
	}
}

func TestDigits(t *testing.T) {
	t.Parallel()
	j := stage(t, "digits/sweep.yaml", "train")
	o := j.run(t, 0, map[string]string{"lr": "0.01", "hidden": "16", "seed": "0"})
	if o.code != 0 {
		t.Fatalf("exit code %d:\n%s", o.code, o.output)
	}
	loss, _ := o.results["val_loss"].(float64)
	accuracy, _ := o.results["val_accuracy"].(float64)
	if !(loss > 0 && loss < 0.6) || !(accuracy > 0.85 && accuracy <= 1) {
		t.Errorf("results %v", o.results)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	j := stage(t, "images/label.yaml", "classify")
	files, err := filepath.Glob(filepath.Join(j.dir, j.Map.Over))
	if err != nil || len(files) != 30 {
		t.Fatalf("map over %q: %d files, %v", j.Map.Over, len(files), err)
	}
	labels := make(map[string]int)
	for i, file := range files {
		o := j.run(t, i, map[string]string{"path": file})
		if o.code != 0 {
			t.Fatalf("%s: exit code %d:\n%s", file, o.code, o.output)
		}
		labels[o.results["label"].(string)]++
	}
	if diff := cmp.Diff(map[string]int{"brick": 6, "grass": 4, "gravel": 8, "retina": 6, "stars": 6}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestCorruptImage(t *testing.T) {
	t.Parallel()
	j := stage(t, "images/corrupt.yaml", "classify")
	files, err := filepath.Glob(filepath.Join(j.dir, j.Map.Over))
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]int)
	for i, file := range files {
		o := j.run(t, i, map[string]string{"path": file})
		codes[filepath.Base(file)] = o.code
		if (o.results != nil) != (o.code == 0) {
			t.Errorf("%s: exit code %d with results %v", file, o.code, o.results)
		}
		if o.code != 0 && !strings.Contains(o.output, "truncated.png: not a readable image") {
			t.Errorf("%s: no reason in the output:\n%s", file, o.output)
		}
	}
	if diff := cmp.Diff(map[string]int{"gravel.png": 0, "stars.jpg": 0, "truncated.png": 65}, codes); diff != "" {
		t.Errorf("exit codes (-want +got):\n%s", diff)
	}
}

func TestSlurmArray(t *testing.T) {
	t.Parallel()
	j := stage(t, "slurm-array/array.yaml", "")
	if j.Workdir != "." || j.Array != 20 {
		t.Fatalf("workdir %q and array %d, want . and 20", j.Workdir, j.Array)
	}
	for index := range j.Array {
		if o := j.run(t, index, nil); o.code != 0 {
			t.Fatalf("index %d: exit code %d:\n%s", index, o.code, o.output)
		}
	}
	parts, err := filepath.Glob(filepath.Join(j.dir, "out", "*"))
	if err != nil || len(parts) != j.Array {
		t.Fatalf("%d parts in out, %v: want %d", len(parts), err, j.Array)
	}
	sum := 0.0
	for _, part := range parts {
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		var v float64
		if _, err := fmt.Sscan(string(text), &v); err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		sum += v
	}
	if got := math.Sqrt(6 * sum); math.Abs(got-math.Pi) > 1e-6 {
		t.Errorf("π is %.9f by the sum of the parts", got)
	}
}

func TestSlurmArrayFails(t *testing.T) {
	t.Parallel()
	j := stage(t, "slurm-array/array.yaml", "")
	// A file where the folder should be: the failure that is worth a retry.
	if err := os.WriteFile(filepath.Join(j.dir, "out"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := j.run(t, 0, nil); o.code != 75 {
		t.Errorf("exit code %d, want 75:\n%s", o.code, o.output)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	j := stage(t, "words/count.yaml", "")
	text, err := os.ReadFile(filepath.Join(j.dir, j.Map.Over))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	rows, words, tasks := 0.0, 0.0, 0
	for len(lines) > 0 {
		n := min(j.Map.Shard.Rows, len(lines))
		records := filepath.Join(t.TempDir(), "records.jsonl")
		if err := os.WriteFile(records, []byte(strings.Join(lines[:n], "")), 0o600); err != nil {
			t.Fatal(err)
		}
		lines = lines[n:]
		o := j.run(t, tasks, map[string]string{"records": records})
		if o.code != 0 || o.results["top"] != "the" {
			t.Fatalf("task %d: exit code %d, results %v:\n%s", tasks, o.code, o.results, o.output)
		}
		rows += o.results["rows"].(float64)
		words += o.results["words"].(float64)
		tasks++
		counts, err := os.ReadFile(filepath.Join(o.dir, "counts.tsv"))
		if err != nil || strings.Count(string(counts), "\n") != int(o.results["distinct"].(float64)) {
			t.Errorf("counts.tsv has %d lines (%v), want %v", strings.Count(string(counts), "\n"), err, o.results["distinct"])
		}
	}
	if rows != 2000 || words != 24014 || tasks != 8 {
		t.Errorf("%v rows, %v words in %d tasks, want 2000, 24014 in 8", rows, words, tasks)
	}
}

// TestWordsReadsJSON gives count.sh records that are not as tidy as ours.
func TestWordsReadsJSON(t *testing.T) {
	t.Parallel()
	j := stage(t, "words/count.yaml", "")
	records := filepath.Join(t.TempDir(), "records.jsonl")
	tests := []struct {
		name, text string
		code       int
		want       map[string]any
	}{
		{
			"escapes", `{"text":"a \"b\u00e9c\\\" B","line":1}` + "\n", 0,
			map[string]any{"rows": 1.0, "words": 4.0, "distinct": 3.0, "top": "b"},
		},
		{
			"no text", `{"line":2}` + "\n" + `{"line": 3, "text" : "z,y"}`, 0,
			map[string]any{"rows": 1.0, "words": 2.0, "distinct": 2.0, "top": "y"},
		},
		{"empty", "", 0, map[string]any{"rows": 0.0, "words": 0.0, "distinct": 0.0, "top": ""}},
	}
	for _, tt := range tests {
		if err := os.WriteFile(records, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := j.run(t, 0, map[string]string{"records": records})
		if diff := cmp.Diff(tt.want, o.results); diff != "" || o.code != tt.code {
			t.Errorf("%s: exit code %d, results (-want +got):\n%s%s", tt.name, o.code, diff, o.output)
		}
	}
	o := j.run(t, 0, map[string]string{"records": records + ".gone"})
	if o.code != 66 || o.results != nil {
		t.Errorf("missing records: exit code %d, results %v, want 66 and none", o.code, o.results)
	}
}
