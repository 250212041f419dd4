// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"math"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// axisReader collects the keys of a parameter that is a mapping; which of
// them go together is decided when all are read.
type axisReader struct {
	p     *volleyv1.Param
	forms []string
	at    map[string]*node
	scale volleyv1.Scale
	steps uint64
	step  int64
}

// form is an axisField that gives the values; exactly one is wanted.
func form(key, typ, doc, example string, read func(d *decoder, n *node, path string, a *axisReader)) field[*axisReader] {
	return field[*axisReader]{
		key: key, typ: typ, doc: doc, example: example,
		read: func(d *decoder, n *node, path string, a *axisReader) {
			a.forms = append(a.forms, key)
			a.at[key] = n
			read(d, n, path, a)
		},
	}
}

var axisFields = []field[*axisReader]{
	form("log", "[min, max]", "Numbers on a log scale, both ends included.", "log: [1e-4, 1e-1]",
		func(d *decoder, n *node, path string, a *axisReader) {
			a.float(d, n, path, volleyv1.Scale_SCALE_LOG, "[1e-4, 1e-1]")
		}),
	form("float", "[min, max]", "Numbers on a linear scale, both ends included.", "float: [0.5, 0.99]",
		func(d *decoder, n *node, path string, a *axisReader) {
			a.float(d, n, path, volleyv1.Scale_SCALE_LINEAR, "[0.5, 0.99]")
		}),
	form("int", "[min, max]", "Integers, both ends included.", "int: [2, 12]",
		func(d *decoder, n *node, path string, a *axisReader) {
			if d.bounds2(n, path, 2, 2, "[2, 12]") {
				lo, ok1 := d.integer(n.items[0], elem(path, 0), math.MinInt64, math.MaxInt64)
				hi, ok2 := d.integer(n.items[1], elem(path, 1), math.MinInt64, math.MaxInt64)
				if ok1 && ok2 && lo > hi {
					d.err(n, path, "swap them", "%s: the minimum %d is above the maximum %d", path, lo, hi)
				}
				a.p.Axis = &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Min: lo, Max: hi, Scale: volleyv1.Scale_SCALE_LINEAR}}
			}
		}),
	form("range", "[start, stop] or [start, stop, step]", "Integers from start up to and without stop, as in Python.", "range: [0, 5]",
		func(d *decoder, n *node, path string, a *axisReader) { a.halfOpen(d, n, path) }),
	form("repeat", "integer", "The integers 0 to n-1: repetitions, seeds.", "repeat: 3",
		func(d *decoder, n *node, path string, a *axisReader) {
			v, _ := d.integer(n, path, 1, math.MaxInt64)
			a.p.Axis = &volleyv1.Param_Repeat{Repeat: uint64(v)}
		}),
	form("values", "list", "The values as they are; the same as a bare list.", "values: [adam, sgd]",
		func(d *decoder, n *node, path string, a *axisReader) { d.choices(n, path, a.p) }),
	form("choice", "list", "Another word for values.", "choice: [adam, sgd]",
		func(d *decoder, n *node, path string, a *axisReader) { d.choices(n, path, a.p) }),
	{
		key: "steps", typ: "integer", doc: "With log, float, or int on a log scale: so many values, evenly spaced. Grid and zip need it; the other samplers then draw from those values only.", example: "steps: 8",
		read: func(d *decoder, n *node, path string, a *axisReader) {
			v, _ := d.integer(n, path, 1, math.MaxInt64)
			a.steps, a.at["steps"] = uint64(v), n
		},
	},
	{
		key: "step", typ: "integer", def: "1", doc: "With int: distance of the values.", example: "step: 2",
		read: func(d *decoder, n *node, path string, a *axisReader) {
			a.step, _ = d.integer(n, path, 1, math.MaxInt64)
			a.at["step"] = n
		},
	},
	{
		key: "scale", typ: "linear | log", def: "linear", doc: "With float and int.", example: "scale: log",
		read: func(d *decoder, n *node, path string, a *axisReader) {
			a.scale, _ = oneOf(d, n, path, false, []string{"linear", "log"}, []volleyv1.Scale{volleyv1.Scale_SCALE_LINEAR, volleyv1.Scale_SCALE_LOG})
			a.at["scale"] = n
		},
	},
	{
		key: "when", typ: "expression", doc: "Where it is false the point does not have this parameter. Goes with every form.", example: `when: opt == "sgd"`,
		read: func(d *decoder, n *node, path string, a *axisReader) { a.p.When = d.expression(n, path) },
	},
}

func (d *decoder) axis(n *node, path string, p *volleyv1.Param) {
	a := &axisReader{p: p, at: map[string]*node{}}
	before := len(d.diags)
	if !readFields(d, n, path, axisFields, a) || len(d.diags) > before {
		return
	}
	const forms = "log, float, int, range, repeat, values"
	switch len(a.forms) {
	case 0:
		d.err(n, path, "such as {values: [1, 2]}", "%s has no values: give one of %s", path, forms)
		return
	case 1:
	default:
		second := n.entry(a.forms[1])
		d.err(second.key, join(path, second.key.text), "keep one of them", "%s: %s and %s exclude each other", path, a.forms[0], a.forms[1])
		return
	}
	is := a.forms[0]
	refuse := func(key string, allowed ...string) {
		if a.at[key] != nil && indexOf(allowed, is) < 0 {
			e := n.entry(key)
			d.err(e.key, join(path, key), "remove it", "%s.%s goes with %s, not with %s", path, key, strings.Join(allowed, " and "), is)
		}
	}
	refuse("scale", "float", "int")
	refuse("step", "int")
	refuse("steps", "log", "float", "int")
	if len(d.diags) > before {
		return
	}
	switch x := p.Axis.(type) {
	case *volleyv1.Param_FloatRange:
		x.FloatRange.Steps = a.steps
		if a.scale != volleyv1.Scale_SCALE_UNSPECIFIED {
			x.FloatRange.Scale = a.scale
		}
	case *volleyv1.Param_IntRange:
		if is != "int" {
			return
		}
		x.IntRange.Steps, x.IntRange.Step = a.steps, a.step
		if a.scale != volleyv1.Scale_SCALE_UNSPECIFIED {
			x.IntRange.Scale = a.scale
		}
		if a.steps > 0 && x.IntRange.Scale != volleyv1.Scale_SCALE_LOG {
			d.err(n.entry("steps").key, join(path, "steps"), "write `step:` for the distance of the values, or add `scale: log`", "%s.steps: integers on a linear scale take no steps", path)
		}
	}
}

func (a *axisReader) float(d *decoder, n *node, path string, scale volleyv1.Scale, example string) {
	if !d.bounds2(n, path, 2, 2, example) {
		return
	}
	lo, ok1 := d.number(n.items[0], elem(path, 0))
	hi, ok2 := d.number(n.items[1], elem(path, 1))
	if ok1 && ok2 && lo > hi {
		d.err(n, path, "swap them", "%s: the minimum %s is above the maximum %s", path, n.items[0].text, n.items[1].text)
	}
	if scale == volleyv1.Scale_SCALE_LOG && ok1 && lo <= 0 {
		d.err(n.items[0], elem(path, 0), "begin above 0, such as 1e-5", "%s: a log scale begins above 0, not at %s", elem(path, 0), n.items[0].text)
	}
	a.p.Axis = &volleyv1.Param_FloatRange{FloatRange: &volleyv1.FloatRange{Min: lo, Max: hi, Scale: scale}}
}

// halfOpen reads Python's range into the closed range of the API.
func (a *axisReader) halfOpen(d *decoder, n *node, path string) {
	if !d.bounds2(n, path, 2, 3, "[0, 5] or [0, 10, 2]") {
		return
	}
	v := []int64{0, 0, 1}
	for i, it := range n.items {
		lo := int64(math.MinInt64)
		if i == 2 {
			lo = 1
		}
		var ok bool
		if v[i], ok = d.integer(it, elem(path, i), lo, math.MaxInt64); !ok {
			return
		}
	}
	start, stop, step := v[0], v[1], v[2]
	if start >= stop {
		d.err(n, path, fmt.Sprintf("the stop is not part of the range: [%d, …] needs a stop above %d", start, start), "%s is empty", path)
		return
	}
	// The distance is computed unsigned: from MinInt64 to MaxInt64 it does
	// not fit in an int64.
	last := int64(uint64(start) + (uint64(stop)-uint64(start)-1)/uint64(step)*uint64(step))
	a.p.Axis = &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Min: start, Max: last, Step: step, Scale: volleyv1.Scale_SCALE_LINEAR}}
}
