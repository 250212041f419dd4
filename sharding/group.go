// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strings"
)

// unit is one factor of a grid: a single free parameter, or a group of
// parameters that expressions tie together, with its valid combinations
// listed.
type unit struct {
	n      uint64
	params []int // in the order of declaration
	// Of groups only: combination d is words[d*stride:(d+1)*stride], and
	// each parameter has a field in it: 0 absent, else 1 + its value number.
	// Invariant: ascending, so that the order is the one of declaration.
	words  []uint64
	stride int
	fields []field
}

type field struct {
	word  int
	shift uint
	mask  uint64
}

// decode writes the values of combination d.
func (u *unit) decode(axes []axis, d uint64, values []Value) {
	if u.fields == nil {
		p := u.params[0]
		values[p] = axes[p].value(d)
		return
	}
	combination := u.words[int(d)*u.stride:]
	for i, f := range u.fields {
		p := u.params[i]
		if digit := combination[f.word] >> f.shift & f.mask; digit == 0 {
			values[p] = Value{}
		} else {
			values[p] = axes[p].value(digit - 1)
		}
	}
}

// maxWork bounds the enumeration of one space in node evaluations, about
// nanoseconds times ten: expressions of 4 KiB over MaxCombinations would
// otherwise keep a coordinator busy for minutes.
const maxWork = 1 << 28

// maxWords bounds the memory of one group, 128 MiB: a combination of very
// many parameters takes more than one word.
const maxWords = 4 * MaxCombinations

// units splits the parameters into factors, ordered by their first member.
func (b *builder) units() ([]unit, error) {
	root := make([]int, len(b.axes))
	for p := range root {
		root[p] = p
	}
	var find func(p int) int
	find = func(p int) int {
		if root[p] != p {
			root[p] = find(root[p])
		}
		return root[p]
	}
	tie := func(p, q int) {
		p, q = find(p), find(q)
		root[max(p, q)] = min(p, q) // the first member stands for the group
	}
	tied := make([]bool, len(b.axes))
	for p, w := range b.whens {
		if w == nil {
			continue
		}
		tied[p] = true
		for _, q := range w.vars {
			tie(p, q)
		}
	}
	for _, e := range b.excludes {
		for _, q := range e.vars {
			tied[q] = true
			tie(e.vars[0], q)
		}
	}
	members := make([][]int, len(b.axes))
	for p := range b.axes {
		members[find(p)] = append(members[find(p)], p)
	}
	var list []unit
	for p, group := range members {
		switch {
		case len(group) == 0:
		case len(group) == 1 && !tied[p]:
			list = append(list, unit{n: b.axes[p].n, params: group})
		default:
			u, err := b.enumerate(group)
			if err != nil {
				return nil, err
			}
			list = append(list, u)
		}
	}
	return list, nil
}

// enumerator lists the valid combinations of one group.
type enumerator struct {
	*builder
	unit  unit
	order []int // the group, conditions before what they decide
	// checks[level] are the exclusions that are decided once order[level]
	// has a value.
	checks   [][]*expression
	place    []int // place[p]: position of p in unit.params
	env      []Value
	current  []uint64
	listed   int
	examined int
}

func (b *builder) enumerate(group []int) (unit, error) {
	e := enumerator{
		builder: b,
		unit:    unit{params: group},
		env:     make([]Value, len(b.axes)),
		place:   make([]int, len(b.axes)),
		checks:  make([][]*expression, len(group)),
	}
	if err := e.fits(); err != nil {
		return unit{}, err
	}
	level := make([]int, len(b.axes))
	for _, p := range b.order {
		if slices.Contains(group, p) {
			level[p] = len(e.order)
			e.order = append(e.order, p)
		}
	}
	for i, p := range group {
		e.place[p] = i
	}
	for _, x := range b.excludes {
		if len(x.vars) == 0 || !slices.Contains(group, x.vars[0]) {
			continue
		}
		last := 0
		for _, p := range x.vars {
			last = max(last, level[p])
		}
		e.checks[last] = append(e.checks[last], x)
	}
	e.layout()
	if err := e.walk(0); err != nil {
		return unit{}, err
	}
	if e.listed == 0 {
		return unit{}, errAt("sweep.exclude", b.exclude, "excludes every combination of %s: the sweep is empty", e.paramNames())
	}
	e.unit.n = uint64(e.listed)
	if w := e.unit.words; cap(w)-len(w) > len(w)/8 { // it lives as long as the job
		e.unit.words = slices.Clone(w)
	}
	if !slices.IsSorted(e.order) {
		e.sort()
	}
	return e.unit, nil
}

// fits refuses at once what is surely too large; with conditions only the
// walk can tell.
func (e *enumerator) fits() error {
	product, conditional := uint64(1), false
	for _, p := range e.unit.params {
		if e.whens[p] != nil {
			conditional = true
			continue
		}
		hi, lo := bits.Mul64(product, e.axes[p].n)
		if hi != 0 || lo > MaxCombinations && !conditional {
			return e.tooMany()
		}
		product = lo
	}
	if product > MaxCombinations {
		return e.tooMany()
	}
	return nil
}

// source is the expression to blame for the group.
func (e *enumerator) source() (path, src string) {
	for _, p := range e.unit.params {
		if e.exclude == "" && e.whens[p] != nil {
			return "sweep.params." + e.names[p] + ".when", e.whenSources[p]
		}
	}
	return "sweep.exclude", e.exclude
}

func (e *enumerator) tooMany() error {
	path, src := e.source()
	return errAt(path, src, "the expressions tie together %s, which is more than %d combinations to examine; compare fewer parameters, or ones with fewer values",
		e.paramNames(), MaxCombinations)
}

func (e *enumerator) paramNames() string {
	var list []string
	for _, p := range e.unit.params {
		if len(list) == 8 {
			list = append(list, "…")
			break
		}
		list = append(list, fmt.Sprintf("%s (%d)", e.names[p], e.axes[p].n))
	}
	return strings.Join(list, " × ")
}

// layout gives every parameter its bits, the first declared the highest.
func (e *enumerator) layout() {
	e.unit.fields = make([]field, len(e.unit.params))
	word, used := 0, 0
	for i, p := range e.unit.params {
		width := bits.Len64(e.axes[p].n)
		if used+width > 64 {
			word, used = word+1, 0
		}
		used += width
		e.unit.fields[i] = field{word: word, shift: uint(64 - used), mask: 1<<width - 1}
	}
	e.unit.stride = word + 1
	e.current = make([]uint64, e.unit.stride)
}

func (e *enumerator) set(p int, digit uint64) {
	f := e.unit.fields[e.place[p]]
	e.current[f.word] = e.current[f.word]&^(f.mask<<f.shift) | digit<<f.shift
}

// walk assigns order[level] and everything after it.
func (e *enumerator) walk(level int) error {
	if level == len(e.order) {
		e.listed++
		e.unit.words = append(e.unit.words, e.current...)
		return nil
	}
	p := e.order[level]
	if w := e.whens[p]; w != nil {
		if err := e.spend(w.nodes); err != nil {
			return err
		}
		if !w.holds(e.env) {
			e.set(p, 0)
			e.env[p] = Value{}
			return e.checked(level)
		}
	}
	for d := range e.axes[p].n {
		e.set(p, d+1)
		e.env[p] = e.axes[p].value(d)
		if err := e.checked(level); err != nil {
			return err
		}
	}
	e.env[p] = Value{}
	return nil
}

// checked goes on with the next level unless an exclusion holds.
func (e *enumerator) checked(level int) error {
	if err := e.spend(4); err != nil {
		return err
	}
	if level == len(e.order)-1 {
		if e.examined++; e.examined > MaxCombinations || len(e.unit.words) > maxWords {
			return e.tooMany()
		}
	}
	for _, x := range e.checks[level] {
		if err := e.spend(x.nodes); err != nil {
			return err
		}
		if x.holds(e.env) {
			return nil
		}
	}
	return e.walk(level + 1)
}

func (e *enumerator) spend(n int) error {
	if e.budget -= n; e.budget < 0 {
		path, src := e.source()
		return errAt(path, src, "is too costly for the combinations of %s; make it shorter, or compare fewer parameters", e.paramNames())
	}
	return nil
}

// sort restores the order of declaration when conditions made the walk leave
// it.
func (e *enumerator) sort() {
	if e.unit.stride == 1 {
		slices.Sort(e.unit.words)
		return
	}
	sort.Sort(&wideWords{words: e.unit.words, stride: e.unit.stride})
}

// wideWords sorts combinations of more than one word.
type wideWords struct {
	words  []uint64
	stride int
}

func (w *wideWords) at(i int) []uint64 { return w.words[i*w.stride : (i+1)*w.stride] }

func (w *wideWords) Len() int { return len(w.words) / w.stride }

func (w *wideWords) Less(i, j int) bool {
	return slices.CompareFunc(w.at(i), w.at(j), cmp.Compare[uint64]) < 0
}

func (w *wideWords) Swap(i, j int) {
	a, b := w.at(i), w.at(j)
	for k := range a {
		a[k], b[k] = b[k], a[k]
	}
}
