// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// example is a copy of one example, in which its job files are run.
type example struct {
	t   *testing.T
	dir string
}

// newExample copies the folder examples/NAME and builds its program there.
func newExample(t *testing.T, name, program string) *example {
	t.Helper()
	e := &example{t: t, dir: filepath.Join(t.TempDir(), name)}
	source := filepath.Join("../../examples", name)
	if err := os.CopyFS(e.dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	// What an earlier run left would pass for what this one makes.
	for _, left := range []string{".volley", "out"} {
		if err := os.RemoveAll(filepath.Join(e.dir, left)); err != nil {
			t.Fatal(err)
		}
	}
	if program != "" {
		build := exec.Command("go", "build", "-o", filepath.Join(e.dir, program), "github.com/volley-batch/volley/examples/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	return e
}

// volley runs a command in the folder and wants an exit status.
func (e *example) volley(code int, args ...string) string {
	e.t.Helper()
	cmd := exec.Command(volley, args...)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(e.dir, "config"), "VOLLEY_ADDR=")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		e.t.Fatalf("volley %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs.String())
	}
	return string(out)
}

// counts is what `volley run -o json` ends with.
type counts struct {
	State                             string
	Total, Succeeded, Failed, Skipped int
}

// run runs a job file, named as from the top of the repository.
func (e *example) run(code int, file string) counts {
	e.t.Helper()
	lines := strings.Split(strings.TrimSpace(e.volley(code, "run", path.Base(file), "-o", "json")), "\n")
	var c counts
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &c); err != nil {
		e.t.Fatalf("run %s: the last line of JSON: %v: %q", file, err, lines[len(lines)-1])
	}
	return c
}

type row map[string]any

func (r row) number(t *testing.T, key string) float64 {
	t.Helper()
	v, ok := r[key].(float64)
	if !ok {
		t.Fatalf("%s is %v in row %v", key, r[key], r)
	}
	return v
}

func (e *example) results(args ...string) []row {
	e.t.Helper()
	var rows []row
	out := e.volley(0, append([]string{"results", "-o", "jsonl"}, args...)...)
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		var r row
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			e.t.Fatalf("results: %v: %q", err, s.Text())
		}
		rows = append(rows, r)
	}
	return rows
}

func (e *example) want(file string, got, want counts) {
	e.t.Helper()
	if got != want {
		e.t.Errorf("%s: %+v, want %+v", file, got, want)
	}
}

// TestDigits trains all networks of the sweep, and the best one once more
// without volley: what is ranked is what training gives.
func TestDigits(t *testing.T) {
	t.Parallel()
	const file = "examples/digits/sweep.yaml"
	e := newExample(t, "digits", "train")
	e.want(file, e.run(0, file), counts{State: "SUCCEEDED", Total: 36, Succeeded: 36})

	rows := e.results("digits-sweep", "--sort", "metric")
	if len(rows) != 36 {
		t.Fatalf("%d rows are ranked, want 36", len(rows))
	}
	losses := make([]float64, len(rows))
	for i, r := range rows {
		losses[i] = r.number(t, "val_loss")
		if a := r.number(t, "val_accuracy"); a <= 0.5 || a > 1 {
			t.Errorf("val_accuracy %v of index %v", a, r["index"])
		}
		if r.number(t, "hidden") == 64 && r.number(t, "lr") > 0.05 {
			t.Errorf("index %v should be excluded: %v", r["index"], r)
		}
	}
	if !slices.IsSorted(losses) || losses[0] <= 0 || losses[0] >= losses[35] {
		t.Errorf("val_loss is ranked %v", losses)
	}

	best := rows[0]
	arg := func(key string) string { return strconv.FormatFloat(best.number(t, key), 'g', -1, 64) }
	alone := t.TempDir()
	train := exec.Command(filepath.Join(e.dir, "train"), "--lr", arg("lr"), "--hidden", arg("hidden"), "--seed", arg("seed"),
		"--epochs", "60", "--data", filepath.Join(e.dir, "digits.csv.gz"))
	train.Dir = alone
	if out, err := train.CombinedOutput(); err != nil {
		t.Fatalf("train: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(alone, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var again row
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if got := again.number(t, "val_loss"); got != losses[0] {
		t.Errorf("training the best point again gives val_loss %v, volley has %v", got, losses[0])
	}
	e.want(file, e.run(0, file), counts{State: "SUCCEEDED", Total: 36, Succeeded: 36, Skipped: 36})
}

// TestImages labels all images; the folder of an image says what it shows.
func TestImages(t *testing.T) {
	t.Parallel()
	e := newExample(t, "images", "classify")
	const file = "examples/images/label.yaml"
	e.want(file, e.run(0, file), counts{State: "SUCCEEDED", Total: 30, Succeeded: 30})
	rows := e.results("label-images")
	right := 0
	for _, r := range rows {
		if r["label"] == path.Base(path.Dir(fmt.Sprint(r["file"]))) {
			right++
		}
		if r.number(t, "width") != 96 || r.number(t, "height") != 96 {
			t.Errorf("%v has %v × %v pixels", r["file"], r["width"], r["height"])
		}
	}
	// The README of the example says 28.
	if len(rows) != 30 || right != 28 {
		t.Errorf("%d of %d labels are right, want 28 of 30", right, len(rows))
	}

	const broken = "examples/images/corrupt.yaml"
	want := counts{State: "FAILED", Total: 3, Succeeded: 2, Failed: 1}
	e.want(broken, e.run(1, broken), want)
	failed := e.results("label-corrupt", "--failed")
	if len(failed) != 1 || failed[0]["file"] != "corrupt/truncated.png" || failed[0].number(t, "exitCode") != 65 || failed[0].number(t, "attempts") != 1 {
		t.Errorf("the failed rows are %v", failed)
	}
	if why := e.volley(0, "why", "label-corrupt"); !strings.Contains(why, "1 of 3 tasks failed") || !strings.Contains(why, "exit code 65") {
		t.Errorf("why: %s", why)
	}
	logs := exec.Command(volley, "logs", "label-corrupt:2")
	logs.Dir = e.dir
	if out, err := logs.CombinedOutput(); err != nil || !strings.Contains(string(out), "not a readable image") {
		t.Errorf("logs: %v: %s", err, out)
	}
	// As its README goes on: the same again, for the file is still broken.
	e.volley(0, "rerun", "--failed", "label-corrupt")
	e.volley(1, "wait", "label-corrupt")
	if again := e.results("label-corrupt", "--failed"); len(again) != 1 || again[0].number(t, "attempts") != 2 {
		t.Errorf("the failed rows after a rerun are %v", again)
	}
}

// TestSlurmArray adds up what the tasks leave in their common folder.
func TestSlurmArray(t *testing.T) {
	t.Parallel()
	const file = "examples/slurm-array/array.yaml"
	e := newExample(t, "slurm-array", "")
	e.want(file, e.run(0, file), counts{State: "SUCCEEDED", Total: 20, Succeeded: 20})
	parts, err := filepath.Glob(filepath.Join(e.dir, "out", "part-*.txt"))
	if err != nil || len(parts) != 20 {
		t.Fatalf("%d parts (%v), want 20", len(parts), err)
	}
	sum := 0.0
	for _, name := range parts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum += v
	}
	if pi := strconv.FormatFloat(math.Sqrt(6*sum), 'f', 5, 64); pi != "3.14159" {
		t.Errorf("the parts give %s", pi)
	}
}

// TestWords compares the counts of the tasks with the text: every record is in
// exactly one of them.
func TestWords(t *testing.T) {
	t.Parallel()
	const file = "examples/words/count.yaml"
	e := newExample(t, "words", "")
	e.want(file, e.run(0, file), counts{State: "SUCCEEDED", Total: 8, Succeeded: 8})
	text, err := os.Open(filepath.Join(e.dir, "opticks.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var words [8]int
	lines := 0
	for s := bufio.NewScanner(text); s.Scan(); lines++ {
		var record struct{ Text string }
		if err := json.Unmarshal(s.Bytes(), &record); err != nil {
			t.Fatal(err)
		}
		letters := func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }
		words[lines/256] += len(strings.FieldsFunc(record.Text, letters))
	}
	rows, total := e.results("count-words"), 0.0
	if len(rows) != 8 {
		t.Fatalf("%d rows, want 8", len(rows))
	}
	for i, r := range rows {
		total += r.number(t, "rows")
		if got := r.number(t, "words"); got != float64(words[i]) {
			t.Errorf("task %d counts %v words, want %d", i, got, words[i])
		}
	}
	if lines != 2000 || total != 2000 {
		t.Errorf("%v of %d records were counted", total, lines)
	}
}
