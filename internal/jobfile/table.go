// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// tableBuilder makes a row-major table of rows with different columns.
// Columns stand in the order in which they first occur.
type tableBuilder struct {
	columns []string
	index   map[string]int
	rows    [][]*volleyv1.Value
}

func (t *tableBuilder) row() int {
	t.rows = append(t.rows, make([]*volleyv1.Value, 0, len(t.columns)))
	return len(t.rows) - 1
}

// column returns the number of the column name, made when it is new; false
// when there are too many.
func (t *tableBuilder) column(name string) (int, bool) {
	if i, ok := t.index[name]; ok {
		return i, true
	}
	if len(t.columns) == sharding.MaxParams {
		return 0, false
	}
	if t.index == nil {
		t.index = map[string]int{}
	}
	t.index[name] = len(t.columns)
	t.columns = append(t.columns, name)
	return len(t.columns) - 1, true
}

func (t *tableBuilder) set(row int, name string, v *volleyv1.Value) bool {
	c, ok := t.column(name)
	if !ok {
		return false
	}
	r := t.rows[row]
	for len(r) <= c {
		r = append(r, nil)
	}
	r[c] = v
	t.rows[row] = r
	return true
}

func (t *tableBuilder) table() *volleyv1.Table {
	out := &volleyv1.Table{Columns: t.columns}
	out.Cells = make([]*volleyv1.Value, 0, len(t.rows)*len(t.columns))
	absent := &volleyv1.Value{}
	for _, r := range t.rows {
		for c := range t.columns {
			v := absent
			if c < len(r) && r[c] != nil {
				v = r[c]
			}
			out.Cells = append(out.Cells, v)
		}
	}
	return out
}
