// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"math/bits"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// builder collects what NewSpace checks before there is a Space.
type builder struct {
	names       []string
	axes        []axis
	whens       []*expression // by parameter, nil without a condition
	whenSources []string
	order       []int // topological
	exclude     string
	excludes    []*expression // alternatives
	budget      int           // node evaluations left
}

func isSampled(s volleyv1.Sampler) bool {
	return s == volleyv1.Sampler_SAMPLER_RANDOM || s == volleyv1.Sampler_SAMPLER_SOBOL || s == volleyv1.Sampler_SAMPLER_LHS
}

func isTable(s volleyv1.Sampler) bool {
	return s == volleyv1.Sampler_SAMPLER_LIST || s == volleyv1.Sampler_SAMPLER_FILE
}

// NewSpace validates a sweep and prepares its points; an error is an *Error.
// It may enumerate up to MaxCombinations combinations, which takes up to a
// few seconds; without `when` and `exclude` it takes microseconds. The Space
// keeps no reference to sw.
func NewSpace(sw *volleyv1.Sweep) (*Space, error) {
	return newSpace(sw, maxWork)
}

func newSpace(sw *volleyv1.Sweep, budget int) (*Space, error) {
	if sw == nil {
		return nil, errAt("sweep", "", "there is no sweep")
	}
	if err := checkSampler(sw); err != nil {
		return nil, err
	}
	s := &Space{sampler: sw.GetSampler()}
	b := &builder{exclude: sw.GetExclude(), budget: budget}
	var err error
	if isTable(s.sampler) {
		err = b.readTable(s, sw)
	} else {
		err = b.readParams(sw)
	}
	if err != nil {
		return nil, err
	}
	if err := b.readExpressions(sw.GetParams()); err != nil {
		return nil, err
	}
	s.names, s.axes, s.whens, s.order = newNames(b.names), b.axes, b.whens, b.conditional()
	switch {
	case s.sampler == volleyv1.Sampler_SAMPLER_GRID:
		err = b.grid(s)
	case isSampled(s.sampler):
		err = b.sample(s, sw)
	default:
		err = b.rows(s)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func checkSampler(sw *volleyv1.Sweep) error {
	name := samplerName(sw.GetSampler())
	switch s := sw.GetSampler(); {
	case name == "":
		return errAt("sweep.sampler", s.String(), "not a sampler: grid, zip, random, sobol, lhs, list or file")
	case isSampled(s) && sw.GetPoints() == 0:
		return errAt("sweep.points", "", "%s needs points: how many to draw, at least 1", name)
	case !isSampled(s) && sw.GetPoints() != 0:
		return errAt("sweep.points", utoa(sw.GetPoints()), "%s takes no points: its values say how many there are", name)
	case isTable(s) && len(sw.GetParams()) > 0:
		return errAt("sweep.params", "", "%s takes its parameters from its rows, not from params", name)
	case !isTable(s) && sw.GetTable() != nil:
		return errAt("sweep", "", "%s takes params, not rows", name)
	case !isTable(s) && len(sw.GetParams()) == 0:
		return errAt("sweep.params", "", "there are no parameters; for plain indexes use array")
	case len(sw.GetParams()) > MaxParams:
		return errAt("sweep.params", "", "%d parameters; at most %d", len(sw.GetParams()), MaxParams)
	case s != volleyv1.Sampler_SAMPLER_RANDOM && sw.GetPoints() > MaxSequence:
		return errAt("sweep.points", utoa(sw.GetPoints()), "%s has at most 2^53 points", name)
	case sw.GetPoints() > MaxPoints:
		return errAt("sweep.points", utoa(sw.GetPoints()), "a sweep has at most 2^63-1 points")
	}
	return nil
}

// samplerName is the sampler as the job file writes it; empty when unknown.
func samplerName(s volleyv1.Sampler) string {
	if _, ok := volleyv1.Sampler_name[int32(s)]; !ok || s == volleyv1.Sampler_SAMPLER_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(s.String(), "SAMPLER_"))
}

func (b *builder) readParams(sw *volleyv1.Sweep) error {
	rules := axisRules{
		sampled:    isSampled(sw.GetSampler()),
		duplicates: sw.GetSampler() == volleyv1.Sampler_SAMPLER_ZIP,
	}
	seen := make(nameSet, len(sw.GetParams()))
	for _, p := range sw.GetParams() {
		path := "sweep.params." + clipText(p.GetName())
		if err := checkName(path, p.GetName()); err != nil {
			return err
		}
		switch other, ok := seen.add(p.GetName()); {
		case !ok && other == p.GetName():
			return errAt(path, p.GetName(), "this parameter is defined twice")
		case !ok:
			return errAt(path, p.GetName(), "%s", sameVariable(p.GetName(), other))
		}
		a, err := newAxis(p, rules)
		if err != nil {
			return err
		}
		b.names = append(b.names, p.GetName())
		b.axes = append(b.axes, a)
	}
	return nil
}

func (b *builder) scope() scope {
	sc := scope{names: b.names, index: make(map[string]int, len(b.names)), kinds: make([]kindSet, len(b.names))}
	for i, name := range b.names {
		sc.index[name] = i
		sc.kinds[i] = b.axes[i].kinds
	}
	return sc
}

// readExpressions compiles the conditions and the exclusion.
func (b *builder) readExpressions(params []*volleyv1.Param) error {
	sc := b.scope()
	b.whens = make([]*expression, len(b.names))
	b.whenSources = make([]string, len(b.names))
	for i, p := range params {
		if p.GetWhen() == "" {
			continue
		}
		list, err := compileExpression("sweep.params."+p.GetName()+".when", p.GetWhen(), sc, false)
		if err != nil {
			return err
		}
		b.whens[i], b.whenSources[i] = list[0], p.GetWhen()
	}
	var err error
	if b.order, err = topological(b.names, b.whens, b.whenSources); err != nil {
		return err
	}
	if b.exclude == "" {
		return nil
	}
	if b.excludes, err = compileExpression("sweep.exclude", b.exclude, sc, true); err != nil {
		return err
	}
	for _, e := range b.excludes {
		if len(e.vars) == 0 && e.holds(nil) {
			return errAt("sweep.exclude", b.exclude, "is always true: the sweep is empty")
		}
	}
	return nil
}

// conditional are the parameters with a `when`, in topological order.
func (b *builder) conditional() []int {
	var list []int
	for _, p := range b.order {
		if b.whens[p] != nil {
			list = append(list, p)
		}
	}
	return list
}

// excluded reports whether the point is not part of the space.
func (b *builder) excluded(values []Value) bool {
	for _, e := range b.excludes {
		if e.holds(values) {
			return true
		}
	}
	return false
}

// evaluationCost is the nodes of all expressions.
func (b *builder) evaluationCost() int {
	n := 0
	for _, e := range b.excludes {
		n += e.nodes
	}
	for _, w := range b.whens {
		if w != nil {
			n += w.nodes
		}
	}
	return n
}

func (b *builder) grid(s *Space) error {
	var err error
	if s.units, err = b.units(); err != nil {
		return err
	}
	s.size = 1
	for _, u := range s.units {
		hi, lo := bits.Mul64(s.size, u.n)
		if hi != 0 || lo > MaxPoints {
			return errAt("sweep.params", "", "the grid has more than 2^63-1 points: %s", b.sizes())
		}
		s.size = lo
	}
	return nil
}

// sizes is "lr (8) × depth (3)" of all parameters, shortened.
func (b *builder) sizes() string {
	var list []string
	for p, name := range b.names {
		if p == 8 {
			list = append(list, "…")
			break
		}
		list = append(list, fmt.Sprintf("%s (%d)", name, b.axes[p].n))
	}
	return strings.Join(list, " × ")
}
