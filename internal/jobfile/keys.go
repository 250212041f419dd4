// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

type jobSpec = *volleyv1.JobSpec

// jobFields are the keys at the top of a job file, in the order of the
// reference.
var jobFields = []field[jobSpec]{
	{
		key: "name", typ: "word", def: "name of the file",
		doc:     "Name of the job: 1 to 128 letters, digits, '-', '_' and '.', the first a letter or digit.",
		example: "name: digits-sweep",
		read:    func(d *decoder, n *node, path string, s jobSpec) { s.Name = d.name(n, path) },
	},
	{
		key: "queue", typ: "word", def: "default", doc: "Queue that the job waits in.", example: "queue: gpu",
		read: func(d *decoder, n *node, path string, s jobSpec) { s.Queue = d.name(n, path) },
	},
	{
		key: "command", typ: "list of words",
		doc:     "Program and arguments, started without a shell. `{name}` is replaced by the parameter of that name; `{{name}}` is a literal {name}, and all other braces are what they are. Exactly one of command and run.",
		example: `command: [python3, train.py, --lr, "0.1"]`, read: (*decoder).command,
	},
	{
		key: "run", typ: "text", doc: "A line or script for /bin/sh -c. Parameters are quoted for the place where they stand, so that none can run anything: put `{name}` where a word, a part of a word or of a string belongs. `${name}` is the shell's own.",
		example: "run: sort big.txt | head", read: (*decoder).run,
	},
	{
		key: "env", typ: "mapping of name to value", doc: "Environment of the tasks; `{name}` is replaced in values. No shell reads them: `$HOME` and `${HOME}` stay as they are.",
		example: `env: {OMP_NUM_THREADS: 4, MODE: "fast"}`, read: (*decoder).env,
	},
	{
		key: "sweep", typ: "mapping", doc: "The points of a parameter space, one task each. At most one of sweep, map and array.",
		example: "sweep: {params: {lr: [0.1, 0.2]}}", read: (*decoder).sweep,
	},
	{
		key: "map", typ: "mapping", doc: "The records or files of a data set, one task for each shard.",
		example: "map: {over: data/*.jpg}", read: (*decoder).mapOver,
	},
	{
		key: "array", typ: "integer", doc: "So many tasks that differ in their index alone: 1 to 2^63-1.", example: "array: 1000",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			if v, ok := d.integer(n, path, 1, math.MaxInt64); ok {
				s.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: uint64(v)}}
			}
		},
	},
	{
		key: "resources", typ: "mapping", doc: "What one task needs.", example: "resources: {cpu: 1, memory: 512MiB}",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			s.Resources = &volleyv1.Resources{}
			readFields(d, n, path, resourceFields, s.Resources)
		},
	},
	{
		key: "concurrency", typ: "integer", def: "0", doc: "At most so many tasks of the job at once. 0: no limit.", example: "concurrency: 50",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			v, _ := d.integer(n, path, 0, math.MaxInt64)
			s.Concurrency = uint64(v)
		},
	},
	{
		key: "retry", typ: "mapping", doc: "When and how often a failed task runs again.", example: "retry: {attempts: 3}",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			s.Retry = &volleyv1.Retry{}
			if readFields(d, n, path, retryFields, s.Retry) && n.get("attempts") == nil && n.get("rules") != nil {
				d.err(n, path, "add `attempts: 3`", "%s.rules without %s.attempts has no effect", path, path)
			}
		},
	},
	{
		key: "timeout", typ: "duration", doc: "Longest time of one attempt, from the start of its process.", example: "timeout: 10m",
		read: func(d *decoder, n *node, path string, s jobSpec) { s.TimeoutMs, _ = d.duration(n, path) },
	},
	{
		key: "grace", typ: "duration", def: "30s", doc: "Time between SIGTERM and SIGKILL.", example: "grace: 5s",
		read: func(d *decoder, n *node, path string, s jobSpec) { s.GraceMs, _ = d.duration(n, path) },
	},
	{
		key: "dependsOn", typ: "list of mappings", doc: "Jobs that must succeed first.", example: "dependsOn: [{job: prepare}]",
		read: (*decoder).dependencies,
	},
	{
		key: "metric", typ: "mapping", doc: "The number, reported by the tasks, that results are ranked by.", example: "metric: {name: val_loss, goal: min}",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			s.Metric = &volleyv1.Metric{}
			if readFields(d, n, path, metricFields, s.Metric) {
				require(d, n, path, metricFields, "name", "goal")
			}
		},
	},
	{
		key: "priority", typ: "integer", def: "0", doc: "0 to 9999; higher goes first within a queue.", example: "priority: 10",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			v, _ := d.integer(n, path, 0, 9999)
			s.Priority = int32(v)
		},
	},
	{
		key: "workdir", typ: "directory", def: "a directory of its own for every attempt",
		doc:     "Directory that all tasks run in, relative to the job file. Inputs are then used where they lie instead of being snapshotted.",
		example: "workdir: .",
		read: func(d *decoder, n *node, path string, s jobSpec) {
			var ok bool
			if s.Workdir, ok = d.text(n, path); ok && s.Workdir == "" {
				d.err(n, path, "write `workdir: .` for the directory of the job file", "%s is empty", path)
			}
		},
	},
	{
		key: "inputs", typ: "list of paths",
		doc:     "Files, directories and globs (`**` crosses directories) beside the job file that the tasks read. They are snapshotted at submit and are part of the identity of every point. Files that `command` or `run` names are added by themselves.",
		example: "inputs: [conf.yaml, lib, \"data/*.csv\"]", read: (*decoder).inputs,
	},
	{
		key: "labels", typ: "mapping of key to value", doc: "Free labels, for filters.", example: "labels: {team: vision}",
		read: (*decoder).labels,
	},
	{key: "checkpoint", later: true},
	{key: "limits", later: true},
}

var resourceFields = []field[*volleyv1.Resources]{
	{
		key: "cpu", typ: "number", def: "1", doc: "CPUs, in thousandths at the finest.", example: "cpu: 0.5",
		read: func(d *decoder, n *node, path string, r *volleyv1.Resources) { r.CpuMilli, _ = d.cpu(n, path) },
	},
	{
		key: "memory", typ: "size", def: "no limit", doc: "Memory; a task that takes more is killed.", example: "memory: 512MiB",
		read: func(d *decoder, n *node, path string, r *volleyv1.Resources) { r.MemoryBytes, _ = d.size(n, path) },
	},
	{
		key: "gpu", typ: "integer", def: "0", doc: "Whole GPUs.", example: "gpu: 1",
		read: func(d *decoder, n *node, path string, r *volleyv1.Resources) { r.Gpu, _ = d.integer(n, path, 0, 4096) },
	},
}

var metricFields = []field[*volleyv1.Metric]{
	{
		key: "name", typ: "word", def: "required", doc: "Name of the number.", example: "name: val_loss",
		read: func(d *decoder, n *node, path string, m *volleyv1.Metric) {
			var ok bool
			if m.Name, ok = d.text(n, path); ok && (m.Name == "" || len(m.Name) > 128) {
				d.err(n, path, "", "%s must have 1 to 128 bytes, not %d", path, len(m.Name))
			}
		},
	},
	{
		key: "goal", typ: "min | max", def: "required", doc: "Which end is the best.", example: "goal: min",
		read: func(d *decoder, n *node, path string, m *volleyv1.Metric) {
			m.Goal, _ = oneOf(d, n, path, false, []string{"min", "max"}, []volleyv1.Goal{volleyv1.Goal_GOAL_MIN, volleyv1.Goal_GOAL_MAX})
		},
	},
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

const maxName = 128

func (d *decoder) name(n *node, path string) string {
	s, ok := d.text(n, path)
	if !ok {
		return ""
	}
	if len(s) > maxName {
		d.err(n, path, "", "%s has %d characters; at most %d", path, len(s), maxName)
		return ""
	}
	if !nameRE.MatchString(s) {
		d.err(n, path, "letters, digits, '-', '_' and '.', the first a letter or digit", "%s: %q is not a name", path, clip(s, 60))
		return ""
	}
	return s
}

func (d *decoder) command(n *node, path string, s jobSpec) {
	if n.kind == kindString {
		d.err(n, path, "write it as a list, [program, argument, …], or use `run:` for a shell line", "%s must be a list of words, not text", path)
		return
	}
	items, ok := d.list(n, path, "words")
	if !ok {
		return
	}
	if len(items) == 0 {
		d.err(n, path, "write the program to run, such as [/bin/true]", "%s is empty", path)
		return
	}
	for i, it := range items {
		if w, ok := d.text(it, elem(path, i)); ok {
			if i == 0 && strings.TrimSpace(w) == "" {
				d.err(it, elem(path, i), "", "the program in %s is empty", path)
				continue
			}
			s.Command = append(s.Command, w)
		}
	}
}

func (d *decoder) run(n *node, path string, s jobSpec) {
	if n.kind == kindList {
		d.err(n, path, "write `command:` for a list of words", "%s must be text, not a list", path)
		return
	}
	w, ok := d.text(n, path)
	if ok && strings.TrimSpace(w) == "" {
		d.err(n, path, "", "%s is empty", path)
		return
	}
	s.Run = w
}

var envRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (d *decoder) env(n *node, path string, s jobSpec) {
	if n.kind != kindMap {
		d.err(n, path, "write `NAME: value`", "%s must be a mapping of names to values, not %s", path, n.describe())
		return
	}
	for _, e := range n.entries {
		at := join(path, e.key.text)
		switch up := strings.ToUpper(e.key.text); {
		case !envRE.MatchString(e.key.text):
			d.err(e.key, at, "a letter or '_', then letters, digits and '_'", "%q is not the name of an environment variable", clip(e.key.text, 60))
			continue
		case strings.HasPrefix(up, "VOLLEY_"), strings.HasPrefix(up, "AWS_BATCH_"):
			d.err(e.key, at, "choose another name", "%s is set by volley itself", e.key.text)
			continue
		}
		if v, ok := d.text(e.val, at); ok {
			s.Env = append(s.Env, &volleyv1.EnvVar{Name: e.key.text, Value: v})
		}
	}
}

func (d *decoder) labels(n *node, path string, s jobSpec) {
	if n.kind != kindMap {
		d.err(n, path, "write `key: value`", "%s must be a mapping of keys to values, not %s", path, n.describe())
		return
	}
	const most, longest = 64, 256
	if len(n.entries) > most {
		d.err(n, path, "", "%s has %d entries; at most %d", path, len(n.entries), most)
		return
	}
	for _, e := range n.entries {
		at := join(path, e.key.text)
		v, ok := d.text(e.val, at)
		switch {
		case !ok:
		case e.key.text == "" || len(e.key.text) > maxName:
			d.err(e.key, at, "", "the key of a label must have 1 to %d bytes, not %d", maxName, len(e.key.text))
		case strings.ContainsRune(e.key.text, '='):
			d.err(e.key, at, "filters are written key=value", "the key of a label must not hold '='")
		case len(v) > longest:
			d.err(e.val, at, "", "%s has %d bytes; at most %d", at, len(v), longest)
		default:
			s.Labels = append(s.Labels, &volleyv1.Label{Key: e.key.text, Value: v})
		}
	}
}

func (d *decoder) inputs(n *node, path string, _ jobSpec) {
	items, ok := d.list(n, path, "paths")
	if !ok {
		return
	}
	for i, it := range items {
		at := elem(path, i)
		w, ok := d.text(it, at)
		switch {
		case !ok:
		case w == "":
			d.err(it, at, "", "%s is empty", at)
		case holdsValue(w):
			d.err(it, at, "inputs are the same for every point; name a directory or use a glob", "%s: %q holds a placeholder", at, clip(w, 60))
		case strings.Contains(w, "://"):
			d.err(it, at, "name files beside the job file", "%s: %q: remote inputs are not supported by this version", at, clip(w, 60))
		case strings.HasPrefix(w, "/"), escapes(w):
			d.err(it, at, "copy or link it beside the job file, or set `workdir:` and let the tasks open it themselves",
				"%s: %q leads out of the directory of the job file", at, clip(w, 60))
		}
	}
}

// crossCheck is about keys that exclude or need each other.
func (d *decoder) crossCheck(root *node) {
	run, command := root.entry("run"), root.entry("command")
	switch {
	case run != nil && command != nil:
		second := run
		if command.key.line > run.key.line || command.key.line == run.key.line && command.key.col > run.key.col {
			second = command
		}
		d.err(second.key, second.key.text, "keep one of them", "command and run exclude each other")
	case run == nil && command == nil && d.unknown == 0:
		d.err(root, "", "add `command: [program, argument, …]` or `run: a shell line`", "the job file has neither command nor run")
	}
	var first *entry
	for i, e := range root.entries {
		switch e.key.text {
		case "sweep", "map", "array":
			if first != nil {
				d.err(e.key, e.key.text, "keep one of them", "%s and %s exclude each other", first.key.text, e.key.text)
			}
			first = &root.entries[i]
		}
	}
	if first == nil {
		for i, it := range listItems(root.get("dependsOn")) {
			if t := it.get("type"); t != nil && t.scalar() && !strings.EqualFold(t.text, "WHOLE") {
				d.err(t, elem("dependsOn", i)+".type", "it needs `array:`, `sweep:` or `map:`", "%s is for array jobs, and this is a single job", fmt.Sprintf("%q", t.text))
			}
		}
	}
}

func listItems(n *node) []*node {
	if n == nil {
		return nil
	}
	return n.items
}
