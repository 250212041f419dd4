// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"iter"
	"slices"
)

// Point is the parameters of one index, in the order of declaration. A
// parameter that `when` leaves out, or an absent cell of a table, is not in
// it. The zero Point has no parameters.
type Point struct {
	names *names
	// Invariant: as long as names.list; absent parameters are KindNone.
	values []Value
}

// names is what all points of a space share.
type names struct {
	list []string
	// sorted holds positions in list by name: the order of identities.
	sorted []int
	index  map[string]int
}

func newNames(list []string) *names {
	n := &names{list: list, sorted: make([]int, len(list)), index: make(map[string]int, len(list))}
	for i, name := range list {
		n.sorted[i] = i
		n.index[name] = i
	}
	slices.SortFunc(n.sorted, func(a, b int) int {
		if list[a] < list[b] {
			return -1
		}
		return 1
	})
	return n
}

// NewPoint builds a point from names and values of equal number, for records
// of maps and for tests. Absent values are left out. It is an *Error when a
// name is not a valid parameter name or occurs twice.
func NewPoint(nameList []string, values []Value) (Point, error) {
	if len(nameList) != len(values) {
		return Point{}, errAt("", "", "%d names for %d values", len(nameList), len(values))
	}
	seen := make(map[string]bool, len(nameList))
	for _, name := range nameList {
		if err := checkName("", name); err != nil {
			return Point{}, err
		}
		if seen[name] {
			return Point{}, errAt("", name, "this parameter occurs twice")
		}
		seen[name] = true
	}
	return Point{names: newNames(slices.Clone(nameList)), values: slices.Clone(values)}, nil
}

// Get returns the value of a parameter; false when the point has none.
func (p Point) Get(name string) (Value, bool) {
	if p.names == nil {
		return Value{}, false
	}
	i, ok := p.names.index[name]
	if !ok || !p.values[i].Present() {
		return Value{}, false
	}
	return p.values[i], true
}

// Declares reports whether the space of the point has such a parameter, even
// one that this point lacks.
func (p Point) Declares(name string) bool {
	if p.names == nil {
		return false
	}
	_, ok := p.names.index[name]
	return ok
}

// Len is the number of parameters that the point has.
func (p Point) Len() int {
	n := 0
	for _, v := range p.values {
		if v.Present() {
			n++
		}
	}
	return n
}

// Names are the parameters that the point has, in the order of declaration.
func (p Point) Names() []string {
	list := make([]string, 0, len(p.values))
	for name := range p.All() {
		list = append(list, name)
	}
	return list
}

// All iterates over name and value in the order of declaration.
func (p Point) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i, v := range p.values {
			if v.Present() && !yield(p.names.list[i], v) {
				return
			}
		}
	}
}

// AppendJSON appends the point as one JSON object in the order of
// declaration.
func (p Point) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for i, v := range p.values {
		if !v.Present() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendJSONString(dst, p.names.list[i])
		dst = append(dst, ':')
		dst = v.AppendJSON(dst)
	}
	return append(dst, '}')
}

// MarshalJSON implements json.Marshaler.
func (p Point) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// String is the JSON of the point.
func (p Point) String() string { return string(p.AppendJSON(nil)) }
