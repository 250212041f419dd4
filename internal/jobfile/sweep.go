// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"math"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

var (
	samplerWords  = []string{"grid", "zip", "random", "sobol", "lhs", "list", "file"}
	samplerValues = []volleyv1.Sampler{
		volleyv1.Sampler_SAMPLER_GRID, volleyv1.Sampler_SAMPLER_ZIP, volleyv1.Sampler_SAMPLER_RANDOM,
		volleyv1.Sampler_SAMPLER_SOBOL, volleyv1.Sampler_SAMPLER_LHS, volleyv1.Sampler_SAMPLER_LIST, volleyv1.Sampler_SAMPLER_FILE,
	}
)

var sweepFields = []field[*volleyv1.Sweep]{
	{
		key: "sampler", typ: "grid | zip | random | sobol | lhs | list | file", def: "grid",
		doc:     "grid: every combination, the last parameter fastest. zip: all parameters step together. random, sobol, lhs: `points` draws. list: `points` is a list of mappings. file: the rows of `file`.",
		example: "sampler: grid",
		read: func(d *decoder, n *node, path string, s *volleyv1.Sweep) {
			s.Sampler, _ = oneOf(d, n, path, false, samplerWords, samplerValues)
		},
	},
	{
		key: "params", typ: "mapping of name to values", doc: "The parameters, in order. See the forms below.", example: "params: {lr: [0.1, 0.2]}",
		read: (*decoder).params,
	},
	{
		key: "points", typ: "integer, or list of mappings", doc: "random, sobol, lhs: how many points. list: the points themselves.", example: "points: 64",
		read: (*decoder).points,
	},
	{
		key: "seed", typ: "integer", def: "0", doc: "Seed of random, sobol and lhs; 0 to 2^64-1.", example: "seed: 7",
		read: func(d *decoder, n *node, path string, s *volleyv1.Sweep) {
			v, ok := n.uint64()
			if !ok {
				d.err(n, path, "", "%s must be an integer from 0 to 2^64-1, not %s", path, n.describe())
			}
			s.Seed = v
		},
	},
	{
		key: "exclude", typ: "expression", doc: "Points for which it is true are left out.", example: "exclude: depth == 8 && lr > 0.05",
		read: func(d *decoder, n *node, path string, s *volleyv1.Sweep) { s.Exclude = d.expression(n, path) },
	},
	{
		key: "file", typ: "path", doc: "file: a CSV (.csv, .tsv) or JSON-lines (.jsonl, .ndjson) table, one point in each row, read at submit; at most 1,000,000 rows.", example: "file: points.csv",
		read: func(d *decoder, n *node, path string, _ *volleyv1.Sweep) {
			if s, ok := d.text(n, path); ok && s == "" {
				d.err(n, path, "", "%s is empty", path)
			}
		},
	},
}

func (d *decoder) expression(n *node, path string) string {
	s, ok := d.text(n, path)
	if ok && strings.TrimSpace(s) == "" {
		d.err(n, path, "", "%s is empty", path)
	}
	return s
}

func (d *decoder) sweep(n *node, path string, s jobSpec) {
	sw := &volleyv1.Sweep{}
	s.Space = &volleyv1.Space{Kind: &volleyv1.Space_Sweep{Sweep: sw}}
	if !readFields(d, n, path, sweepFields, sw) || d.unknown > 0 {
		return
	}
	if sw.Sampler == volleyv1.Sampler_SAMPLER_UNSPECIFIED {
		if n.get("sampler") != nil {
			return
		}
		sw.Sampler = volleyv1.Sampler_SAMPLER_GRID
	}
	word := samplerWords[sw.Sampler-volleyv1.Sampler_SAMPLER_GRID]
	refuse := func(key, hint string) {
		if e := n.entry(key); e != nil {
			d.err(e.key, join(path, key), hint, "%s.%s has no meaning with `sampler: %s`", path, key, word)
		}
	}
	need := func(key, hint string) {
		if n.entry(key) == nil {
			d.err(n, path, hint, "%s has no %s, which `sampler: %s` needs", path, key, word)
		}
	}
	points := n.get("points")
	switch sw.Sampler {
	case volleyv1.Sampler_SAMPLER_GRID, volleyv1.Sampler_SAMPLER_ZIP:
		need("params", "add `params: {lr: [0.1, 0.01]}`")
		if points != nil && points.kind == kindList {
			refuse("points", "write `sampler: list` for points of your own")
		} else {
			refuse("points", "remove it, or write `sampler: sobol`, `random` or `lhs`")
		}
		refuse("seed", "remove it")
		refuse("file", "write `sampler: file`")
	case volleyv1.Sampler_SAMPLER_RANDOM, volleyv1.Sampler_SAMPLER_SOBOL, volleyv1.Sampler_SAMPLER_LHS:
		need("params", "add `params: {lr: {log: [1e-4, 1e-1]}}`")
		need("points", "add `points: 64`")
		refuse("file", "write `sampler: file`")
		if points != nil && points.kind == kindList {
			d.err(points, join(path, "points"), "write `sampler: list` for points of your own", "%s.points must be an integer with `sampler: %s`, not a list", path, word)
		}
	case volleyv1.Sampler_SAMPLER_LIST:
		need("points", "add `points: [{lr: 0.1}, {lr: 0.2}]`")
		refuse("params", "remove it: the points name their parameters")
		refuse("seed", "remove it")
		refuse("file", "write `sampler: file`")
		if points != nil && points.kind != kindList {
			d.err(points, join(path, "points"), "such as [{lr: 0.1}, {lr: 0.2}]", "%s.points must be a list of mappings with `sampler: list`, not %s", path, points.describe())
		}
	case volleyv1.Sampler_SAMPLER_FILE:
		need("file", "add `file: points.csv`")
		refuse("params", "remove it: the columns of the table are the parameters")
		refuse("points", "remove it: every row is a point")
		refuse("seed", "remove it")
	default:
	}
}

// points reads both forms; sweep says afterwards which one the sampler takes.
func (d *decoder) points(n *node, path string, s *volleyv1.Sweep) {
	if n.kind != kindList {
		v, ok := d.integer(n, path, 1, math.MaxInt64)
		if ok {
			s.Points = uint64(v)
		}
		return
	}
	if len(n.items) == 0 {
		d.err(n, path, "", "%s is empty: an empty sweep does nothing", path)
		return
	}
	t := &tableBuilder{}
	for i, it := range n.items {
		at := elem(path, i)
		if it.kind != kindMap {
			d.err(it, at, "such as {lr: 0.1}", "%s must be a mapping of parameters to values, not %s", at, it.describe())
			continue
		}
		row := t.row()
		for _, e := range it.entries {
			if !d.paramName(e.key, join(at, e.key.text)) {
				continue
			}
			if e.val.kind == kindNull {
				continue // an absent cell
			}
			if v, ok := d.value(e.val, join(at, e.key.text)); ok && !t.set(row, e.key.text, v) {
				d.err(e.key, at, "", "the points have more than %d parameters together", sharding.MaxParams)
				return
			}
		}
	}
	if msg, bad := tooManyCells(len(t.rows), len(t.columns)); bad {
		d.err(n, path, "", "%s: %s", path, msg)
		return
	}
	s.Table = t.table()
}

func (d *decoder) params(n *node, path string, s *volleyv1.Sweep) {
	if n.kind != kindMap {
		d.err(n, path, "such as {lr: [0.1, 0.2]}", "%s must be a mapping of parameters to values, not %s", path, n.describe())
		return
	}
	if len(n.entries) == 0 {
		d.err(n, path, "such as {lr: [0.1, 0.2]}", "%s is empty", path)
		return
	}
	for _, e := range n.entries {
		at := join(path, e.key.text)
		if !d.paramName(e.key, at) {
			continue
		}
		p := &volleyv1.Param{Name: e.key.text}
		if e.val.kind == kindMap {
			d.axis(e.val, at, p)
		} else {
			d.choices(e.val, at, p)
		}
		s.Params = append(s.Params, p)
	}
}

// reserved are the placeholders that are not parameters.
var reserved = []string{"index", "attempt", "job", "size", "records", "first", "count"}

func (d *decoder) paramName(key *node, path string) bool {
	switch {
	case !sharding.ValidName(key.text):
		d.err(key, path, "a letter or '_', then letters, digits and '_'", "%q is not the name of a parameter", clip(key.text, 60))
	case len(key.text) > maxName:
		d.err(key, path, "", "the name of a parameter has at most %d characters, not %d", maxName, len(key.text))
	case indexOf(reserved, key.text) >= 0:
		d.err(key, path, "choose another name", "{%s} has a meaning of its own: it cannot be a parameter", key.text)
	default:
		return true
	}
	return false
}

func (d *decoder) value(n *node, path string) (*volleyv1.Value, bool) {
	switch n.kind {
	case kindString:
		if s, ok := d.text(n, path); ok {
			return &volleyv1.Value{Kind: &volleyv1.Value_StringValue{StringValue: s}}, true
		}
		return nil, false
	case kindBool:
		return &volleyv1.Value{Kind: &volleyv1.Value_BoolValue{BoolValue: n.b}}, true
	case kindInt:
		if v, ok := n.int64(); ok {
			return &volleyv1.Value{Kind: &volleyv1.Value_IntValue{IntValue: v}}, true
		}
		d.err(n, path, "quote it if it is text", "%s: %s does not fit in a signed 64-bit integer", path, n.describe())
	case kindFloat:
		if math.IsInf(n.f, 0) || math.IsNaN(n.f) {
			d.err(n, path, "", "%s: %s is not a finite number", path, n.describe())
			break
		}
		if math.Abs(n.f) >= 1<<63 && isInteger(strings.TrimLeft(n.text, "+-"), 10) {
			d.err(n, path, "quote it if it is text", "%s: %s does not fit in a signed 64-bit integer", path, n.describe())
			break
		}
		return &volleyv1.Value{Kind: &volleyv1.Value_DoubleValue{DoubleValue: n.f}}, true
	case kindNull:
		d.err(n, path, `write "" for empty text`, "%s is empty", path)
	default:
		hint := ""
		if n.kind == kindMap && len(n.entries) == 1 && n.entries[0].val.kind == kindNull {
			hint = "write text with braces in quotes"
		}
		d.err(n, path, hint, "%s must be a number, text, true or false, not %s", path, n.describe())
	}
	return nil, false
}

// choices reads a list of values, or one value.
func (d *decoder) choices(n *node, path string, p *volleyv1.Param) {
	items := []*node{n}
	if n.kind == kindList {
		items = n.items
		if len(items) == 0 {
			d.err(n, path, "", "%s has no values: an empty list makes an empty sweep", path)
			return
		}
	}
	c := &volleyv1.Choices{}
	for i, it := range items {
		at := path
		if n.kind == kindList {
			at = elem(path, i)
		}
		if v, ok := d.value(it, at); ok {
			c.Values = append(c.Values, v)
		}
	}
	p.Axis = &volleyv1.Param_Choices{Choices: c}
}

func (d *decoder) number(n *node, path string) (float64, bool) {
	v, ok := n.float64()
	if !ok {
		hint := ""
		if n.kind == kindString {
			var plain node
			if plain.resolve(n.text); plain.kind == kindFloat || plain.kind == kindInt {
				hint = "remove the quotes"
			}
		}
		d.err(n, path, hint, "%s must be a number, not %s", path, n.describe())
		return 0, false
	}
	if math.IsInf(v, 0) || math.IsNaN(v) {
		d.err(n, path, "", "%s: %s is not a finite number", path, n.describe())
		return 0, false
	}
	return v, true
}

// bounds2 checks that n is a list of lo to hi elements.
func (d *decoder) bounds2(n *node, path string, lo, hi int, example string) bool {
	if n.kind == kindList && len(n.items) >= lo && len(n.items) <= hi {
		return true
	}
	got := n.describe()
	if n.kind == kindList {
		got = fmt.Sprintf("%d", len(n.items))
	}
	count := fmt.Sprint(lo)
	if hi > lo {
		count = fmt.Sprintf("%d or %d", lo, hi)
	}
	d.err(n, path, "such as "+example, "%s must be a list of %s numbers, not %s", path, count, got)
	return false
}
