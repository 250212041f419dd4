// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// readTable takes the rows of LIST and FILE.
func (b *builder) readTable(s *Space, sw *volleyv1.Sweep) error {
	root := "sweep.points" // where the job file has the rows of a list
	if s.sampler == volleyv1.Sampler_SAMPLER_FILE {
		root = "sweep.file"
	}
	columns, cells := sw.GetTable().GetColumns(), sw.GetTable().GetCells()
	switch {
	case len(columns) == 0:
		return errAt(root, "", "the table has no columns")
	case len(columns) > MaxParams:
		return errAt(root, "", "the table has %d columns; at most %d", len(columns), MaxParams)
	case len(cells)%len(columns) != 0:
		return errAt(root, "", "%d cells do not fill rows of %d columns", len(cells), len(columns))
	case len(cells) == 0:
		return errAt(root, "", "the table has no rows: the sweep is empty")
	}
	seen := make(nameSet, len(columns))
	for _, name := range columns {
		if err := checkName(root, name); err != nil {
			return err
		}
		switch other, ok := seen.add(name); {
		case !ok && other == name:
			return errAt(root, name, "two columns have this name")
		case !ok:
			return errAt(root, name, "%s", sameVariable(name, other))
		}
	}
	b.names = append(b.names, columns...)
	b.axes = make([]axis, len(columns))
	s.table = make([]Value, len(cells))
	for i, cell := range cells {
		v := ValueOf(cell)
		row, col := i/len(columns), i%len(columns)
		if v.Present() {
			if err := checkValue(fmt.Sprintf("%s[%d].%s", root, row, columns[col]), v); err != nil {
				return err
			}
		}
		s.table[i] = v
		b.axes[col].kinds |= kindSetOf(v)
	}
	for p := range b.axes {
		b.axes[p].n = uint64(len(cells) / len(columns))
	}
	return nil
}

// rows finishes ZIP, LIST and FILE: one point per row, without the excluded
// ones.
func (b *builder) rows(s *Space) error {
	n := b.axes[0].n
	for p, a := range b.axes {
		if a.n != n {
			return errAt("sweep.params."+b.names[p], "", "zip steps all parameters together, but %s has %d values and %s has %d",
				b.names[0], n, b.names[p], a.n)
		}
	}
	s.size = n
	if len(b.excludes) == 0 {
		return nil
	}
	if n > MaxCombinations {
		return errAt("sweep.exclude", b.exclude, "there are %d rows; exclude examines at most %d", n, MaxCombinations)
	}
	values := make([]Value, len(b.axes))
	cost := b.evaluationCost() + 4*len(b.axes)
	for i := range n {
		if b.budget -= cost; b.budget < 0 {
			return errAt("sweep.exclude", b.exclude, "is too costly for %d rows; make it shorter", n)
		}
		s.row(i, values)
		s.applyWhen(values)
		if !b.excluded(values) {
			s.kept = append(s.kept, uint32(i))
		}
	}
	if len(s.kept) == 0 {
		return errAt("sweep.exclude", b.exclude, "excludes every row: the sweep is empty")
	}
	s.filtered, s.size = true, uint64(len(s.kept))
	return nil
}

// row writes row i before conditions.
func (s *Space) row(i uint64, values []Value) {
	if s.table != nil {
		copy(values, s.table[int(i)*len(values):])
		return
	}
	for p := range s.axes {
		values[p] = s.axes[p].value(i)
	}
}
