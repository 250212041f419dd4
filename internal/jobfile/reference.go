// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"strings"
)

// section is one mapping of the job file as the reference shows it.
type section struct {
	path, intro string
	rows        []row
}

type row struct{ key, typ, def, doc, example string }

func rowsOf[T any](fields []field[T]) []row {
	var rows []row
	for _, f := range fields {
		if !f.later {
			rows = append(rows, row{f.key, f.typ, f.def, f.doc, f.example})
		}
	}
	return rows
}

func sections() []section {
	return []section{
		{"", "Keys of the job file:", rowsOf(jobFields)},
		{"resources", "", rowsOf(resourceFields)},
		{"retry", "", rowsOf(retryFields)},
		{"retry.rules[]", "Every condition given must match; `*` ends a pattern.", rowsOf(ruleFields)},
		{"dependsOn[]", "", rowsOf(dependencyFields)},
		{"metric", "", rowsOf(metricFields)},
		{"sweep", "", rowsOf(sweepFields)},
		{"sweep.params.NAME", "A list of values, one value, or a mapping with one of the forms log, float, int, range, repeat, values.", rowsOf(axisFields)},
		{"map", "", rowsOf(mapFields)},
		{"map.shard", "", rowsOf(shardFields)},
	}
}

const referenceHead = `The job file is strict YAML: a key that is not listed here is an error. One
file is one job.

  name: digits-sweep
  command: [python3, train.py, --lr, "{lr}", --depth, "{depth}"]
  sweep:
    params:
      lr: {log: [1e-4, 1e-1], steps: 8}
      depth: [2, 4, 8]
    exclude: depth == 8 && lr > 0.05
  resources: {cpu: 1, memory: 512MiB}
  retry: {attempts: 3}
  metric: {name: val_loss, goal: min}
`

const referenceTail = `Values
  duration   10m, 90s, 1h30m, 2d, 500ms
  size       512MiB, 1.5GiB (powers of 1024), 4GB, 100kB (powers of 1000), 512B
  number     1, 0.5, 1e-4; integers have 64 bits

Placeholders in command, run and the values of env
  {NAME}     parameter of the sweep, or field of the map's record
  {index} {attempt} {job} {size}
  {records} {first} {count}   maps: the file with the records of the task, the
             number of its first record, and how many it has
  {{NAME}}   the text {NAME}
  ${NAME}    stays as it is; in run it is a variable of the shell
  Braces around anything but a name are text: { a; }, {a,b}, {"json": {"x": 1}}.
  In run, values are quoted for where they stand: alone, in "…" or '…', in
  $(…), in a here-document. In $((…)) they must be integers. In ${…}, backquotes
  and here-documents within $(…) they cannot stand: use $VOLLEY_PARAM_NAME.

What a task sees
  VOLLEY_JOB_ID, VOLLEY_JOB_NAME, VOLLEY_SIZE    the job; how many tasks it has
  VOLLEY_INDEX, VOLLEY_ATTEMPT                   index from 0, attempt from 1
  VOLLEY_PARAMS, VOLLEY_PARAM_NAME               the point: as JSON, one by one
  VOLLEY_RECORDS                                 maps with shards: the file of
                                                 {records}
  VOLLEY_SUBMIT_DIR, VOLLEY_WORKDIR              directory of the job file; of
                                                 the task
  VOLLEY_SOCKET                                  for metrics and results, below
  VOLLEY_LEASE, VOLLEY_NODE                      its lease; the name of its node
  AWS_BATCH_JOB_ID, AWS_BATCH_JOB_ATTEMPT, AWS_BATCH_JOB_ARRAY_INDEX,
  AWS_BATCH_JOB_ARRAY_SIZE, AWS_BATCH_JQ_NAME, AWS_BATCH_CE_NAME
                                                 the same, as in AWS Batch
  Of the worker's environment: PATH, HOME, LANG, LC_ALL, TZ, USER, LOGNAME and
  TMPDIR; nothing else. env adds more. A value above 96 KiB is left out.

Metrics and results
  A task reports a JSON object, at most 64 KiB. Its members become columns of
  volley results; metric ranks by the number of that name, at the top or within
  "metrics". There are two ways, and both may be used:
    echo '{"val_loss": 0.25}' > results.json
             in the working directory. With a workdir that the tasks of an
             array share it is not read.
    {"metrics": {"val_loss": 0.25}}
    {"result": {"model": "epoch-9.bin"}}
             lines written to the unix socket VOLLEY_SOCKET, as often as
             wanted: of the same name the last one counts.
  Python: json.dump({"val_loss": loss}, open("results.json", "w")); a NaN is no
  JSON. What cannot be read is a warning; the task has succeeded all the same.

Files
  A word of command that names a file beside the job file (also in --x=FILE)
  is an input by itself; so is a word of run that looks like a path. With
  workdir both are relative to it. Directories and globs of inputs leave out
  the job file, .git, .volley and __pycache__. A file above 64 MiB is used
  where it lies; snapshots have at most 256 MiB and 10,000 files.

Overrides
  --set sweep.points=64 sets a key as if the file said so; the value is YAML.
`

// Reference is the description of every key, for `volley help jobfile`. It is
// made of the tables that the decoder works by.
func Reference() string {
	const indent, width = 4, 80
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, s := range sections() {
		b.WriteString("\n")
		if s.path != "" {
			fmt.Fprintf(&b, "Keys of %s:\n", s.path)
		}
		if s.intro != "" {
			wrap(&b, s.intro, 0, width)
		}
		for _, r := range s.rows {
			fmt.Fprintf(&b, "  %s: %s", r.key, r.typ)
			if r.def != "" {
				if r.def == "required" || strings.HasPrefix(r.def, "required,") {
					fmt.Fprintf(&b, "  (%s)", r.def)
				} else {
					fmt.Fprintf(&b, "  (default: %s)", r.def)
				}
			}
			b.WriteString("\n")
			wrap(&b, r.doc, indent, width)
			fmt.Fprintf(&b, "%se.g.  %s\n", strings.Repeat(" ", indent), r.example)
		}
	}
	b.WriteString("\n")
	b.WriteString(referenceTail)
	return b.String()
}

// wrap writes text in lines of at most width columns.
func wrap(b *strings.Builder, text string, indent, width int) {
	col := 0
	for w := range strings.FieldsSeq(text) {
		n := len([]rune(w))
		switch {
		case col == 0:
			b.WriteString(strings.Repeat(" ", indent))
			col = indent
		case col+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			col = indent
		default:
			b.WriteString(" ")
			col++
		}
		b.WriteString(w)
		col += n
	}
	b.WriteString("\n")
}
