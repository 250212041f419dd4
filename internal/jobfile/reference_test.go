// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestReferenceExamples decodes every example of the reference where it
// belongs, so that none can be wrong.
func TestReferenceExamples(t *testing.T) {
	t.Parallel()
	const prog = "command: [prog]\n"
	for _, s := range sections() {
		for _, r := range s.rows {
			var src string
			switch s.path {
			case "":
				src = r.example + "\n"
				if r.key != "command" && r.key != "run" {
					src += prog
				}
				if r.key == "map" || r.key == "sweep" {
					src = strings.Replace(src, "[prog]", `[prog, "{index}"]`, 1)
				}
			case "resources", "metric", "retry":
				more := map[string]string{"name": ", goal: min", "goal": ", name: x", "rules": ", attempts: 2"}[r.key]
				src = fmt.Sprintf("%s%s: {%s%s}\n", prog, s.path, r.example, more)
			case "retry.rules[]":
				more := ", action: RETRY"
				if r.key == "action" {
					more = `, onReason: "*"`
				}
				src = fmt.Sprintf("%sretry: {attempts: 2, rules: [{%s%s}]}\n", prog, r.example, more)
			case "dependsOn[]":
				more := map[string]string{"type": ", job: prepare"}[r.key]
				src = fmt.Sprintf("%sarray: 3\ndependsOn: [{%s%s}]\n", prog, r.example, more)
			case "sweep":
				more := map[string]string{
					"sampler": ", params: {lr: [1], depth: [2]}", "points": ", sampler: sobol, params: {lr: {float: [0, 1]}}",
					"seed": ", sampler: lhs, points: 3, params: {lr: {float: [0, 1]}}", "exclude": ", params: {lr: [0.1], depth: [8, 9]}", "file": ", sampler: file",
				}[r.key]
				src = fmt.Sprintf("%ssweep: {%s%s}\n", prog, r.example, more)
			case "sweep.params.NAME":
				more := map[string]string{
					"log": ", steps: 2", "float": ", steps: 2", "steps": ", log: [1, 2]", "step": ", int: [2, 12]", "scale": ", steps: 2, float: [1, 2]", "when": ", values: [1]",
				}[r.key]
				src = fmt.Sprintf("%ssweep: {params: {opt: [sgd, adam], x: {%s%s}}}\n", prog, r.example, more)
			case "map":
				more := ", over: a.txt"
				if r.key == "over" {
					more = ""
				}
				src = fmt.Sprintf("%smap: {%s%s}\n", prog, r.example, more)
			case "map.shard":
				src = fmt.Sprintf("%smap: {over: a.txt, shard: {%s}}\n", prog, r.example)
			default:
				t.Fatalf("section %q has no frame for its examples", s.path)
			}
			if !strings.HasPrefix(r.example, r.key+":") {
				t.Errorf("%s.%s: the example is of another key: %s", s.path, r.key, r.example)
			}
			if r.typ == "" || !strings.HasSuffix(r.doc, ".") {
				t.Errorf("%s.%s: type %q, text %q", s.path, r.key, r.typ, r.doc)
			}
			if _, err := Parse("example", []byte(src)); err != nil {
				t.Errorf("%s.%s: %v", s.path, r.key, err)
			}
		}
	}
}

// TestReferenceText holds the text to its frame: every key, no long line, and
// a first example that is a whole job.
func TestReferenceText(t *testing.T) {
	t.Parallel()
	text := Reference()
	for _, key := range fieldKeys(jobFields) {
		if !strings.Contains(text, "\n  "+key+": ") {
			t.Errorf("no %s in the reference", key)
		}
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
		if strings.HasSuffix(line, " \n") {
			t.Errorf("space at the end of %q", line)
		}
	}
	if strings.Contains(text, "checkpoint") {
		t.Error("the reference names a key that is refused")
	}
	var example []string
	for line := range strings.Lines(referenceHead) {
		if rest, ok := strings.CutPrefix(line, "  "); ok {
			example = append(example, rest)
		}
	}
	f, err := Parse("head", []byte(strings.Join(example, "")))
	if err != nil {
		t.Fatal(err)
	}
	if f.doc.size != 23 {
		t.Errorf("the first example has %d points, want 8 × 3 without the one excluded", f.doc.size)
	}
	for _, name := range append(slices.Clone(everywhere), mapsOnly...) {
		if !strings.Contains(referenceTail, "{"+name+"}") {
			t.Errorf("{%s} is not in the reference", name)
		}
	}
}
