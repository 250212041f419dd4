// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"math"
	"slices"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// decoder walks the tree and collects what is wrong with it.
type decoder struct {
	spec  *volleyv1.JobSpec
	diags []Diagnostic
	warns []Diagnostic
	// unknown are the keys that no table has. What is missing beside one of
	// them is probably that key, misspelt: it is not reported as well.
	unknown int
}

func (d *decoder) err(n *node, path, hint, format string, args ...any) {
	d.diags = append(d.diags, n.diag(path, fmt.Sprintf(format, args...), hint))
}

// field is one key of a mapping: how it is read, and what the reference says
// about it. There is no second list of keys anywhere.
type field[T any] struct {
	key string
	// typ, def, doc and example are printed by Reference; a test decodes
	// every example.
	typ, def, doc, example string
	read                   func(d *decoder, n *node, path string, into T)
	// later marks a key of a later version.
	later bool
}

// readFields decodes the mapping n by its fields. It reports whether n is a
// mapping at all.
func readFields[T any](d *decoder, n *node, path string, fields []field[T], into T) bool {
	if n.kind != kindMap {
		d.err(n, path, "", "%s must be a mapping (%s), not %s", orFile(path), sketch(fields), n.describe())
		return false
	}
	for _, e := range n.entries {
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.key == e.key.text })
		if i < 0 {
			d.unknownKey(e.key, path, fieldKeys(fields))
			continue
		}
		f := fields[i]
		at := join(path, f.key)
		switch {
		case f.later:
			d.err(e.key, at, "remove it", "%s is not supported by this version", at)
		case e.val.kind == kindNull:
			d.err(e.key, at, "give it a value ("+f.typ+"), or remove the line", "%s has no value", at)
		default:
			f.read(d, e.val, at, into)
		}
	}
	return true
}

// require reports keys that n must have and does not; the hint is the example
// of the key.
func require[T any](d *decoder, n *node, path string, fields []field[T], keys ...string) {
	for _, f := range fields {
		if slices.Contains(keys, f.key) && n.entry(f.key) == nil && d.unknown == 0 {
			d.err(n, path, fmt.Sprintf("add `%s`", f.example), "%s has no %s", orFile(path), f.key)
		}
	}
}

func (d *decoder) unknownKey(key *node, path string, keys []string) {
	d.unknown++
	hint := "keys here: " + strings.Join(keys, ", ")
	if near := nearest(key.text, keys); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if near, ok := otherNames[strings.ToLower(key.text)]; ok && path == "" {
		hint = near
	}
	where := ""
	if path != "" {
		where = " in " + path
	}
	d.err(key, join(path, key.text), hint, "unknown key %q%s", clip(key.text, 60), where)
}

// otherNames are what neighbouring systems call a key of ours.
var otherNames = map[string]string{
	"script":     "write `run:` for a shell line",
	"program":    "write `command: [program, argument, …]`",
	"cmd":        "write `command: [program, argument, …]`",
	"parameters": "write `sweep: {params: {…}}`",
	"params":     "write `sweep: {params: {…}}`",
	"matrix":     "write `sweep: {params: {…}}`",
	"cpu":        "write `resources: {cpu: 1}`",
	"cpus":       "write `resources: {cpu: 1}`",
	"gpu":        "write `resources: {gpu: 1}`",
	"gpus":       "write `resources: {gpu: 1}`",
	"memory":     "write `resources: {memory: 1GiB}`",
	"mem":        "write `resources: {memory: 1GiB}`",
	"attempts":   "write `retry: {attempts: 3}`",
	"retries":    "write `retry: {attempts: 3}`",
	"needs":      "write `dependsOn: [{job: name}]`",
	"parallel":   "write `concurrency:`",
	"cwd":        "write `workdir:`",
	"files":      "write `inputs:`",
}

func fieldKeys[T any](fields []field[T]) []string {
	keys := make([]string, 0, len(fields))
	for _, f := range fields {
		if !f.later {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// sketch shows what a mapping looks like, by its first keys.
func sketch[T any](fields []field[T]) string {
	keys := fieldKeys(fields)
	more := ""
	if len(keys) > 3 {
		keys, more = keys[:3], ", …"
	}
	return "{" + strings.Join(keys, ": …, ") + ": …" + more + "}"
}

func join(path, key string) string {
	key = clip(key, 60)
	if path == "" {
		return key
	}
	return path + "." + key
}

func elem(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func orFile(path string) string {
	if path == "" {
		return "the job file"
	}
	return path
}

// text reads a scalar as the word that the file shows: `1.10` stays 1.10.
func (d *decoder) text(n *node, path string) (string, bool) {
	if !n.scalar() {
		hint := ""
		if n.kind == kindMap && len(n.entries) == 1 && n.entries[0].val.kind == kindNull {
			hint = fmt.Sprintf(`braces make a mapping in YAML: write "{%s}" in quotes`, clip(n.entries[0].key.text, 60))
		}
		d.err(n, path, hint, "%s must be text, not %s", path, n.describe())
		return "", false
	}
	if n.kind == kindNull {
		d.err(n, path, `write "" for empty text`, "%s has no value", path)
		return "", false
	}
	if i := strings.IndexByte(n.text, 0); i >= 0 {
		d.diags = append(d.diags, n.diagIn(i, i+1, path, path+" holds a zero byte", "remove it: no program can be given one"))
		return "", false
	}
	return n.text, true
}

// integer reads a whole number from lo to hi.
func (d *decoder) integer(n *node, path string, lo, hi int64) (int64, bool) {
	v, ok := n.int64()
	if !ok || v < lo || v > hi {
		hint := ""
		f, isNumber := n.float64()
		switch {
		case n.kind == kindString:
			var plain node
			if plain.resolve(n.text); plain.kind == kindInt && n.style != stylePlain {
				hint = "remove the quotes"
			}
		case n.kind == kindFloat && f == math.Trunc(f) && math.Abs(f) < 1<<53 && int64(f) >= lo && int64(f) <= hi:
			hint = fmt.Sprintf("write %d", int64(f))
		}
		d.err(n, path, hint, "%s must be an integer %s, not %s", path, bounds(lo, hi, isNumber && math.Abs(f) >= 1<<63), n.describe())
		return 0, false
	}
	return v, true
}

// bounds words a range; its far ends are named only to who went beyond them.
func bounds(lo, hi int64, beyond bool) string {
	const most = math.MaxInt64
	switch {
	case lo == math.MinInt64 && hi == most && beyond:
		return "from -2^63 to 2^63-1"
	case lo == math.MinInt64 && hi == most:
		return "of 64 bits"
	case hi == most && beyond:
		return fmt.Sprintf("from %d to 2^63-1", lo)
	case hi == most && lo == 0:
		return "of 0 or more"
	case hi == most:
		return fmt.Sprintf("of %d or more", lo)
	}
	return fmt.Sprintf("from %d to %d", lo, hi)
}

// list reads the elements of a list.
func (d *decoder) list(n *node, path, want string) ([]*node, bool) {
	if n.kind != kindList {
		hint := ""
		if n.scalar() {
			hint = "write it as a list: [" + clip(n.text, 60) + "]"
		}
		d.err(n, path, hint, "%s must be a list of %s, not %s", path, want, n.describe())
		return nil, false
	}
	return n.items, true
}

// oneOf reads one of a few words, without case when fold is set.
func oneOf[E any](d *decoder, n *node, path string, fold bool, words []string, values []E) (E, bool) {
	var zero E
	for i, w := range words {
		if n.scalar() && (n.text == w || fold && strings.EqualFold(n.text, w)) {
			return values[i], true
		}
	}
	hint := ""
	if n.kind == kindString {
		if near := nearest(n.text, words); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
	}
	d.err(n, path, hint, "%s must be one of %s, not %s", path, strings.Join(words, ", "), n.describe())
	return zero, false
}
