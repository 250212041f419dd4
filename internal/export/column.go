// SPDX-License-Identifier: Apache-2.0

package export

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// maxColumns bounds what tasks can make of the header by reporting under ever
// new names.
const maxColumns = 10_000

// kind is the type of a column.
type kind uint8

const (
	kindNone kind = iota // no value seen
	kindInt
	kindFloat
	kindBool
	kindText
	kindTime
)

// column is one column of the result.
type column struct {
	name string
	kind kind
	// wide is set when an integer was seen that a float cannot hold.
	wide bool
}

// value is a cell: nil, int64, float64, bool, string, or time.Time. Until it is
// converted to the type of its column it may be a json.Number that fits no
// 64-bit number, or a []any or empty render.Object of what was reported.
type value any

// fixedBefore and fixedAfter are the columns that every job has.
var (
	fixedBefore = []*column{{name: "index", kind: kindInt}}
	fixedAfter  = []*column{
		{name: "state", kind: kindText},
		{name: "exitCode", kind: kindInt},
		{name: "attempts", kind: kindInt},
		{name: "durationMs", kind: kindFloat},
		{name: "peakMemory", kind: kindInt},
		{name: "startedAt", kind: kindTime},
		{name: "node", kind: kindText},
		{name: "reason", kind: kindText},
		{name: "reusedFrom", kind: kindText},
	}
)

// schema is all columns. It grows in the first pass and is fixed afterwards.
type schema struct {
	params, outputs []*column
	byParam, byOut  map[string]int
}

func newSchema() *schema { return &schema{byParam: map[string]int{}, byOut: map[string]int{}} }

// observe takes the columns and types of a row.
func (s *schema) observe(c *volleyv1.Child) error {
	see := func(list *[]*column, by map[string]int) func(string, value) {
		return func(name string, v value) {
			i, ok := by[name]
			if !ok {
				if len(s.params)+len(s.outputs) >= maxColumns {
					return
				}
				i = len(*list)
				by[name] = i
				*list = append(*list, &column{name: name})
			}
			(*list)[i].take(v)
		}
	}
	flatten("", c.Params, see(&s.params, s.byParam))
	flatten("", c.Output, see(&s.outputs, s.byOut))
	if len(s.params)+len(s.outputs) >= maxColumns {
		return fmt.Errorf("the tasks report under more than %d different names: that is no table; `volley show JOB:INDEX` prints what one task reported", maxColumns)
	}
	return nil
}

// take widens the type so that it holds the value.
func (c *column) take(v value) {
	var k kind
	switch v := v.(type) {
	case nil:
		return
	case int64:
		k = kindInt
		const exact = 1 << 53
		c.wide = c.wide || v > exact || v < -exact
	case float64:
		k = kindFloat
	case bool:
		k = kindBool
	default:
		k = kindText
	}
	switch {
	case c.kind == kindNone || c.kind == k:
		c.kind = k
	case c.kind == kindInt && k == kindFloat, c.kind == kindFloat && k == kindInt:
		c.kind = kindFloat
	default:
		c.kind = kindText
	}
}

// finish settles types and names, and answers with all columns in order.
func (s *schema) finish() []*column {
	taken := map[string]bool{}
	for _, c := range fixedBefore {
		taken[c.name] = true
	}
	for _, c := range fixedAfter {
		taken[c.name] = true
	}
	settle := func(list []*column, prefix string) {
		for _, c := range list {
			// A float column would round the large integers: text keeps them.
			if c.kind == kindNone || c.kind == kindFloat && c.wide {
				c.kind = kindText
			}
			if taken[c.name] || c.name == "" {
				c.name = prefix + c.name
			}
			for taken[c.name] {
				c.name += "_"
			}
			taken[c.name] = true
		}
	}
	settle(s.params, "param.")
	settle(s.outputs, "output.")
	all := append([]*column{}, fixedBefore...)
	all = append(all, s.params...)
	all = append(all, s.outputs...)
	return append(all, fixedAfter...)
}

// row fills the cells of a child, converted to the types of the columns; with
// own set a column of text keeps what each value was.
func (s *schema) row(cells []value, c *volleyv1.Child, own bool) {
	clear(cells)
	cells[0] = int64(c.Index)
	fill := func(cells []value, list []*column, by map[string]int) func(string, value) {
		return func(name string, v value) {
			if i, ok := by[name]; ok {
				cells[i] = list[i].convert(v, own)
			}
		}
	}
	at := 1
	flatten("", c.Params, fill(cells[at:], s.params, s.byParam))
	at += len(s.params)
	flatten("", c.Output, fill(cells[at:], s.outputs, s.byOut))
	at += len(s.outputs)
	f := cells[at:]
	f[0] = render.Enum(c.State)
	f[2] = int64(0)
	if n := len(c.Attempts); n > 0 {
		a := c.Attempts[n-1]
		if a.ExitCode != nil {
			f[1] = int64(*a.ExitCode)
		}
		f[2] = int64(a.Attempt)
		f[3] = float64(a.DurationUs) / 1000
		if a.PeakMemoryBytes > 0 {
			f[4] = a.PeakMemoryBytes
		}
		if a.StartedAt > 0 {
			f[5] = time.UnixMilli(a.StartedAt).UTC()
		}
		f[6] = text(a.Node)
	}
	f[7] = reason(c)
	f[8] = text(c.ReusedFrom)
}

// reason says why a row failed, most specific first.
func reason(c *volleyv1.Child) value {
	if c.State != volleyv1.JobState_JOB_STATE_FAILED {
		return nil
	}
	if n := len(c.Attempts); n > 0 {
		a := c.Attempts[n-1]
		if a.Reason != "" || a.StatusReason != "" {
			return cmp.Or(a.Reason, a.StatusReason)
		}
	}
	return text(c.StatusReason)
}

func text(s string) value {
	if s == "" {
		return nil
	}
	return s
}

func (c *column) convert(v value, own bool) value {
	if own && c.kind == kindText {
		return v
	}
	switch v := v.(type) {
	case nil:
		return nil
	case int64:
		switch c.kind {
		case kindFloat:
			return float64(v)
		case kindText:
			return strconv.FormatInt(v, 10)
		}
	case float64:
		if c.kind == kindText {
			return formatFloat(v)
		}
	case bool:
		if c.kind == kindText {
			return strconv.FormatBool(v)
		}
	case json.Number:
		return v.String()
	case []any, render.Object:
		b, err := render.Object{{Value: v}}.Compact()
		if err != nil {
			return nil
		}
		return string(b[len(`{"":`) : len(b)-1])
	}
	return v
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// flatten hands out the scalars of a JSON object under dotted names. A
// document that is not an object is handed out whole, under the empty name.
func flatten(prefix, doc string, emit func(string, value)) {
	if doc == "" {
		return
	}
	v, err := render.ParseJSON([]byte(doc))
	if err != nil {
		emit(prefix, doc)
		return
	}
	flattenValue(prefix, v, emit)
}

func flattenValue(name string, v any, emit func(string, value)) {
	switch v := v.(type) {
	case render.Object:
		if len(v) == 0 && name != "" {
			emit(name, v)
		}
		for _, f := range v {
			n := f.Name
			if name != "" {
				n = name + "." + n
			}
			flattenValue(n, f.Value, emit)
		}
	case json.Number:
		emit(name, number(v))
	case string:
		emit(name, strings.ToValidUTF8(v, "\ufffd"))
	default:
		emit(name, v)
	}
}

// number keeps integers exact, and what fits no 64-bit number as it was written.
func number(n json.Number) value {
	s := n.String()
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !strings.ContainsAny(s, ".eE") {
		return n
	}
	return f
}
