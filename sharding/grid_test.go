// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// drawGrid draws up to five parameters of every kind of axis, v0, v1, …
func drawGrid(t *rapid.T) []*volleyv1.Param {
	var params []*volleyv1.Param
	for i := range rapid.IntRange(1, 5).Draw(t, "params") {
		name := fmt.Sprintf("v%d", i)
		n := rapid.IntRange(1, 4).Draw(t, "values")
		switch rapid.IntRange(0, 4).Draw(t, "axis") {
		case 0:
			params = append(params, choices(name, []any{1, 2.5, 3, 0}[:n]...))
		case 1:
			params = append(params, ints(name, 0, int64(n-1), 1))
		case 2:
			params = append(params, floats(name, 0, float64(n), uint64(n+1)))
		case 3:
			params = append(params, logFloats(name, 1, 8, uint64(n+1)))
		default:
			params = append(params, repeats(name, uint64(n)))
		}
	}
	return params
}

// drawCondition draws an expression over some of the parameters.
func drawCondition(t *rapid.T, names []string) string {
	atom := func() string {
		a := rapid.SampledFrom(names).Draw(t, "a")
		switch rapid.IntRange(0, 4).Draw(t, "atom") {
		case 0:
			return a + " in [1, 2, 2.5]"
		case 1:
			return a + " == " + rapid.SampledFrom(names).Draw(t, "b")
		case 2:
			return "not (" + a + " >= 2)"
		case 3:
			return a + " != nil and " + a + " * 2 > 1"
		}
		return a + " + " + rapid.SampledFrom(names).Draw(t, "b") + " < 3"
	}
	s := atom()
	for range rapid.IntRange(0, 2).Draw(t, "atoms") {
		s += rapid.SampledFrom([]string{" and ", " or "}).Draw(t, "op") + atom()
	}
	return s
}

// bruteForce lists the points of a grid by definition: the full product,
// conditions applied, duplicates and exclusions dropped.
func bruteForce(t *rapid.T, sw *volleyv1.Sweep) map[string]bool {
	var names []string
	var axes []axis
	index := map[string]int{}
	for i, p := range sw.GetParams() {
		a, err := newAxis(p, axisRules{})
		if err != nil {
			t.Fatal(err)
		}
		names, axes = append(names, p.GetName()), append(axes, a)
		index[p.GetName()] = i
	}
	sc := scope{names: names, index: index, kinds: slices.Repeat([]kindSet{kindNumber}, len(names))}
	compiled := map[string]*expression{}
	compile := func(src string) *expression {
		if e := compiled[src]; e != nil {
			return e
		}
		list, err := compileExpression("", src, sc, false)
		if err != nil {
			t.Fatal(err)
		}
		compiled[src] = list[0]
		return list[0]
	}
	shared := newNames(names)
	set := map[string]bool{}
	values := make([]Value, len(axes))
	var walk func(p int)
	walk = func(p int) {
		if p < len(axes) {
			for d := range axes[p].n {
				values[p] = axes[p].value(d)
				walk(p + 1)
			}
			return
		}
		// Conditions mention earlier and later parameters; apply them until
		// nothing changes: they are acyclic.
		point := slices.Clone(values)
		for range axes {
			next := slices.Clone(values)
			for i, param := range sw.GetParams() {
				if param.GetWhen() != "" && !compile(param.GetWhen()).holds(point) {
					next[i] = Value{}
				}
			}
			point = next
		}
		if sw.GetExclude() == "" || !compile(sw.GetExclude()).holds(point) {
			set[Point{names: shared, values: point}.String()] = true
		}
	}
	walk(0)
	return set
}

func TestGridIsTheProduct(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sw := sweep(gridSampler, drawGrid(t)...)
		checkGrid(t, sw, bruteForce(t, sw))
	})
}

// checkGrid compares a space with the points that it should have: each once,
// each reachable.
func checkGrid(t *rapid.T, sw *volleyv1.Sweep, want map[string]bool) {
	s, err := NewSpace(sw)
	if len(want) == 0 {
		if err == nil || !strings.Contains(err.Error(), "sweep is empty") {
			t.Fatalf("NewSpace = %v for an empty sweep", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	ids := map[ID]string{}
	for i := range s.Len() {
		p, err := s.At(i)
		if err != nil {
			t.Fatal(err)
		}
		if got[p.String()] {
			t.Fatalf("point %s twice", p)
		}
		got[p.String()] = true
		id := ParamsIdentity(p)
		if other, dup := ids[id]; dup {
			t.Fatalf("%s and %s have one identity", p, other)
		}
		ids[id] = p.String()
	}
	if !maps.Equal(got, want) {
		t.Fatalf("got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestGridExcludeBruteForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sw := sweep(gridSampler, drawGrid(t)...)
		sw.Exclude = drawCondition(t, paramNames(sw))
		checkGrid(t, sw, bruteForce(t, sw))
	})
}

func TestGridWhenBruteForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sw := sweep(gridSampler, drawGrid(t)...)
		names := paramNames(sw)
		if len(names) < 2 {
			return
		}
		// A random order without cycles: each may depend on those before it.
		order := rapid.Permutation(names).Draw(t, "order")
		for i, name := range order[1:] {
			if rapid.Bool().Draw(t, "conditional") {
				p := sw.Params[slices.Index(names, name)]
				p.When = drawCondition(t, order[:i+1])
			}
		}
		if rapid.Bool().Draw(t, "excluded") {
			sw.Exclude = drawCondition(t, names)
		}
		checkGrid(t, sw, bruteForce(t, sw))
	})
}

func paramNames(sw *volleyv1.Sweep) []string {
	var names []string
	for _, p := range sw.GetParams() {
		names = append(names, p.GetName())
	}
	return names
}

// Without conditions index and digits are the same thing.
func TestGridOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var params []*volleyv1.Param
		var sizes []uint64
		for i := range rapid.IntRange(1, 6).Draw(t, "params") {
			n := rapid.Uint64Range(1, 1000).Draw(t, "n")
			sizes = append(sizes, n)
			params = append(params, repeats(fmt.Sprintf("v%d", i), n))
		}
		s, err := NewSpace(sweep(gridSampler, params...))
		if err != nil {
			t.Fatal(err)
		}
		i := rapid.Uint64Range(0, s.Len()-1).Draw(t, "i")
		p, err := s.At(i)
		if err != nil {
			t.Fatal(err)
		}
		back := uint64(0)
		for k, n := range sizes {
			back = back*n + uint64(p.values[k].Int())
		}
		if back != i {
			t.Fatalf("point %d is %s, which is %d", i, p, back)
		}
	})
}

// Longer axes, and more values of a choice, keep every earlier identity.
func TestGridExtension(t *testing.T) {
	t.Parallel()
	spec := &volleyv1.JobSpec{Command: []string{"train", "{a}"}}
	ids := func(sw *volleyv1.Sweep) map[ID]bool {
		set := map[ID]bool{}
		h := NewHasher(spec)
		for _, p := range mustSpace(t, sw).Points(0) {
			set[h.Point(p)] = true
		}
		return set
	}
	before := ids(sweep(gridSampler, ints("a", 0, 9, 1), choices("b", "x", "y"), repeats("seed", 3)))
	after := ids(excluding(sweep(gridSampler, repeats("seed", 5), choices("b", "w", "y", "x"), ints("a", 0, 12, 1)), `b == "w" and a > 3`))
	if len(before) != 60 || len(after) != 5*(13*2+4) {
		t.Fatalf("%d and %d identities", len(before), len(after))
	}
	for id := range before {
		if !after[id] {
			t.Errorf("identity %s is lost", id)
		}
	}
}
