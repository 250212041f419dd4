// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestSpacePoints(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sw   *volleyv1.Sweep
		want []string
	}{
		{
			"grid, last fastest", sweep(gridSampler, choices("a", 1, 2), choices("b", "x", true)),
			[]string{`{"a":1,"b":"x"}`, `{"a":1,"b":true}`, `{"a":2,"b":"x"}`, `{"a":2,"b":true}`},
		},
		{
			"float steps are decimal", sweep(gridSampler, floats("x", 0, 1, 11)),
			[]string{
				`{"x":0}`, `{"x":0.1}`, `{"x":0.2}`, `{"x":0.3}`, `{"x":0.4}`, `{"x":0.5}`,
				`{"x":0.6}`, `{"x":0.7}`, `{"x":0.8}`, `{"x":0.9}`, `{"x":1}`,
			},
		},
		{
			"symmetric floats pass through zero", sweep(gridSampler, floats("x", -0.1, 0.3, 5)),
			[]string{`{"x":-0.1}`, `{"x":0}`, `{"x":0.1}`, `{"x":0.2}`, `{"x":0.3}`},
		},
		{
			"log decades", sweep(gridSampler, logFloats("lr", 1e-5, 1e-1, 5)),
			[]string{`{"lr":1e-05}`, `{"lr":0.0001}`, `{"lr":0.001}`, `{"lr":0.01}`, `{"lr":0.1}`},
		},
		{
			"log values compare as they are written", excluding(sweep(gridSampler, logFloats("lr", 1e-5, 1e-1, 5)), "lr in [1e-5, 0.001, 0.01]"),
			[]string{`{"lr":0.0001}`, `{"lr":0.1}`},
		},
		{
			"int step stops below max", sweep(gridSampler, ints("n", 0, 10, 4)),
			[]string{`{"n":0}`, `{"n":4}`, `{"n":8}`},
		},
		{
			"log ints without repetition", sweep(gridSampler, logInts2("n", 1, 8, 8)),
			[]string{`{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`, `{"n":6}`, `{"n":8}`},
		},
		{
			"log ints powers of two", sweep(gridSampler, logInts2("n", 1, 1024, 6)),
			[]string{`{"n":1}`, `{"n":4}`, `{"n":16}`, `{"n":64}`, `{"n":256}`, `{"n":1024}`},
		},
		{"repeat counts", sweep(gridSampler, repeats("seed", 2)), []string{`{"seed":0}`, `{"seed":1}`}},
		{"one step", sweep(gridSampler, floats("x", 2, 2, 1)), []string{`{"x":2}`}},
		{
			"zip may repeat values", sweep(zipSampler, choices("a", 1, 1, 2), ints("b", 5, 7, 1)),
			[]string{`{"a":1,"b":5}`, `{"a":1,"b":6}`, `{"a":2,"b":7}`},
		},
		{
			"zip with exclude and when", excluding(sweep(zipSampler, choices("a", 1, 2, 3), when(ints("b", 5, 7, 1), "a != 1")), "b == 6"),
			[]string{`{"a":1}`, `{"a":3,"b":7}`},
		},
		{
			"list with absent cells", table(listSampler, []string{"a", "b"}, 1, nil, "x", 2.5),
			[]string{`{"a":1}`, `{"a":"x","b":2.5}`},
		},
		{
			"file with exclude", excluding(table(fileSampler, []string{"a", "b"}, 1, 2, 3, 4, 5, 6), "a == 3"),
			[]string{`{"a":1,"b":2}`, `{"a":5,"b":6}`},
		},
		{
			"when leaves no duplicates",
			sweep(gridSampler, choices("opt", "adam", "sgd"), when(choices("momentum", 0.5, 0.9), `opt == "sgd"`)),
			[]string{`{"opt":"adam"}`, `{"opt":"sgd","momentum":0.5}`, `{"opt":"sgd","momentum":0.9}`},
		},
		{
			"when before what it needs keeps the order of declaration",
			sweep(gridSampler, when(choices("momentum", 0.5, 0.9), `opt == "sgd"`), choices("opt", "adam", "sgd")),
			[]string{`{"opt":"adam"}`, `{"momentum":0.5,"opt":"sgd"}`, `{"momentum":0.9,"opt":"sgd"}`},
		},
		{
			"chain of conditions",
			sweep(gridSampler, choices("a", true, false), when(choices("b", 1, 2), "a"), when(choices("c", 8, 9), "b == 2")),
			[]string{`{"a":true,"b":1}`, `{"a":true,"b":2,"c":8}`, `{"a":true,"b":2,"c":9}`, `{"a":false}`},
		},
		{
			"a group takes the place of its first member",
			excluding(sweep(gridSampler, choices("a", 1, 2), choices("b", 1, 2), choices("c", 1, 2)), "a == c"),
			[]string{`{"a":1,"b":1,"c":2}`, `{"a":1,"b":2,"c":2}`, `{"a":2,"b":1,"c":1}`, `{"a":2,"b":2,"c":1}`},
		},
		{
			"a constant exclude that is false", excluding(sweep(gridSampler, choices("a", 1, 2)), "1 > 2"),
			[]string{`{"a":1}`, `{"a":2}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := allPoints(t, mustSpace(t, tt.sw))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("points (-want +got):\n%s", diff)
			}
			for _, p := range got {
				if !json.Valid([]byte(p)) {
					t.Errorf("not JSON: %s", p)
				}
			}
		})
	}
}

func TestSpaceHuge(t *testing.T) {
	t.Parallel()
	params := []*volleyv1.Param{
		choices("opt", "adam", "sgd", "lion"), choices("depth", 2, 4, 8),
		ints("a", 0, 999_999, 1), ints("b", 0, 999_999, 1), floats("c", 0, 1, 1_000_000),
	}
	s := mustSpace(t, excluding(sweep(gridSampler, params...), `opt == "lion" and depth >= 4`))
	if want := uint64(7e18); s.Len() != want {
		t.Fatalf("Len = %d, want %d", s.Len(), want)
	}
	p, err := s.At(s.Len() - 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"opt":"lion","depth":2,"a":999999,"b":999999,"c":1}`; p.String() != want {
		t.Errorf("last point %s, want %s", p, want)
	}
	if _, err := s.At(s.Len()); !errors.Is(err, ErrIndex) {
		t.Errorf("At(Len) = %v, want ErrIndex", err)
	}
	// `or` at the top does not tie its sides together.
	s = mustSpace(t, excluding(sweep(gridSampler, ints("a", 0, 99_999, 1), ints("b", 0, 99_999, 1)), "a == 3 or b > 10"))
	if want := uint64(99_999 * 11); s.Len() != want {
		t.Errorf("Len = %d, want %d", s.Len(), want)
	}
}

func TestSpaceWideGroup(t *testing.T) {
	t.Parallel()
	// More than 64 bits of fields, and conditions that go against the order
	// of declaration: the combinations must still come out in order.
	var params []*volleyv1.Param
	for i := range 30 {
		params = append(params, when(ints("p"+string(rune('a'+i%26))+strings.Repeat("_", i/26), 0, 1<<20, 1), "mode == \"never\""))
	}
	params = append(params, when(choices("x", 1, 2), `mode == "b"`), choices("mode", "b", "a"))
	got := allPoints(t, mustSpace(t, sweep(gridSampler, params...)))
	want := []string{`{"mode":"a"}`, `{"x":1,"mode":"b"}`, `{"x":2,"mode":"b"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("points (-want +got):\n%s", diff)
	}
}

func TestSpaceErrors(t *testing.T) {
	t.Parallel()
	inf, nan := math.Inf(1), math.NaN()
	g := func(params ...*volleyv1.Param) *volleyv1.Sweep { return sweep(gridSampler, params...) }
	many := make([]*volleyv1.Param, MaxParams+1)
	for i := range many {
		many[i] = choices("p"+utoa(uint64(i)), 1, 2)
	}
	tests := []struct {
		name string
		sw   *volleyv1.Sweep
		path string
		msg  string
	}{
		{"nil", nil, "sweep", "no sweep"},
		{"no sampler", &volleyv1.Sweep{}, "sweep.sampler", "not a sampler"},
		{"unknown sampler", &volleyv1.Sweep{Sampler: 99}, "sweep.sampler", "not a sampler"},
		{"no params", g(), "sweep.params", "no parameters"},
		{"too many params", g(many...), "sweep.params", "257 parameters"},
		{"overflow", g(many[:MaxParams]...), "sweep.params", "more than 2^63-1"},
		{"empty choices", g(choices("a")), "sweep.params.a", "no values"},
		{"no axis", g(&volleyv1.Param{Name: "a"}), "sweep.params.a", "no values"},
		{"absent choice", g(choices("a", 1, nil)), "sweep.params.a[1]", "is empty"},
		{"duplicate choice", g(choices("a", 1, 2, 1.0)), "sweep.params.a[2]", "same value as [0]"},
		{"nan choice", g(choices("a", nan)), "sweep.params.a[0]", "finite"},
		{"nul byte", g(choices("a", "x\x00y")), "sweep.params.a[0]", "NUL"},
		{"not utf-8", g(choices("a", "\xff")), "sweep.params.a[0]", "UTF-8"},
		{"nan range", g(floats("a", nan, 1, 3)), "sweep.params.a.range[0]", "finite"},
		{"inf log", g(logFloats("a", 1, inf, 3)), "sweep.params.a.log[1]", "finite"},
		{"min above max", g(floats("a", 2, 1, 3)), "sweep.params.a.range", "above the maximum"},
		{"log from 0", g(logFloats("a", 0, 1, 3)), "sweep.params.a.log[0]", "above 0"},
		{"no steps", g(floats("a", 0, 1, 0)), "sweep.params.a.steps", "needs steps"},
		{"one step of two ends", g(floats("a", 0, 1, 1)), "sweep.params.a.steps", "at least 2"},
		{"steps of one value", g(floats("a", 1, 1, 3)), "sweep.params.a.steps", "one value only"},
		{"hostile steps", g(floats("a", 0, 1, math.MaxUint64)), "sweep.params.a.steps", "2^63-1"},
		{"too fine", g(floats("a", 1, 1+1e-15, 100)), "sweep.params.a.steps", "too narrow"},
		{"too fine log", g(logFloats("a", 1, 1.0000001, 1000000)), "sweep.params.a.steps", "too narrow"},
		{"int min above max", g(ints("a", 2, 1, 1)), "sweep.params.a.range", "above"},
		{"negative step", g(ints("a", 0, 9, -1)), "sweep.params.a.step", "1 or more"},
		{"int overflow", g(ints("a", math.MinInt64, math.MaxInt64, 1)), "sweep.params.a.range", "2^63-1"},
		{"int log from 0", g(logInts2("a", 0, 9, 3)), "sweep.params.a.log[0]", "1 or more"},
		{"int log without steps", g(logInts2("a", 1, 9, 0)), "sweep.params.a.steps", "needs steps"},
		{"int log hostile steps", g(logInts2("a", 1, 9, 1<<40)), "sweep.params.a.steps", "at most"},
		{"int steps", g(&volleyv1.Param{Name: "a", Axis: &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Max: 3, Steps: 2}}}), "sweep.params.a.steps", "use step"},
		{"unknown scale", g(&volleyv1.Param{Name: "a", Axis: &volleyv1.Param_FloatRange{FloatRange: &volleyv1.FloatRange{Max: 3, Steps: 2, Scale: 9}}}), "sweep.params.a", "not a scale"},
		{"unknown int scale", g(&volleyv1.Param{Name: "a", Axis: &volleyv1.Param_IntRange{IntRange: &volleyv1.IntRange{Max: 3, Scale: 9}}}), "sweep.params.a", "not a scale"},
		{"nil range", g(&volleyv1.Param{Name: "a", Axis: &volleyv1.Param_FloatRange{}}), "sweep.params.a.steps", "needs steps"},
		{"nil param", g(nil), "sweep.params.", "empty name"},
		{"repeat 0", g(repeats("a", 0)), "sweep.params.a.repeat", "repeat"},
		{"repeat 2^64", g(repeats("a", math.MaxUint64)), "sweep.params.a.repeat", "repeat"},
		{"duplicate name", g(choices("a", 1), choices("a", 2)), "sweep.params.a", "twice"},
		{"bad name", g(choices("a-b", 1)), "sweep.params.a-b", "not a parameter name"},
		{"long value", g(choices("a", strings.Repeat("x", 1<<20))), "sweep.params.a[0]", "1048576 bytes"},
		{"long name", g(choices(strings.Repeat("x", 300), 1)), "sweep.params." + clipText(strings.Repeat("x", 300)), "300 bytes"},
		{"empty name", g(choices("", 1)), "sweep.params.", "empty name"},
		{"reserved name", g(choices("index", 1)), "sweep.params.index", "reserved"},
		{"grid with points", &volleyv1.Sweep{Sampler: gridSampler, Points: 3, Params: many[:1]}, "sweep.points", "takes no points"},
		{"random without points", sweep(randomSampler, choices("a", 1)), "sweep.points", "needs points"},
		{"sobol too long", drawn(sobolSampler, 1<<53+1, floats("a", 0, 1, 0)), "sweep.points", "2^53"},
		{"random 2^64", drawn(randomSampler, math.MaxUint64, floats("a", 0, 1, 0)), "sweep.points", "2^63-1"},
		{"random times repeat", drawn(randomSampler, 1<<62, floats("a", 0, 1, 0), repeats("r", 4)), "sweep.points", "2^63-1"},
		{"zip lengths", sweep(zipSampler, choices("a", 1, 2), choices("b", 1, 2, 3)), "sweep.params.b", "a has 2 values and b has 3"},
		{"list with params", &volleyv1.Sweep{Sampler: listSampler, Params: many[:1]}, "sweep.params", "from its rows"},
		{"grid with table", &volleyv1.Sweep{Sampler: gridSampler, Params: many[:1], Table: &volleyv1.Table{}}, "sweep", "not rows"},
		{"list without table", &volleyv1.Sweep{Sampler: listSampler}, "sweep.points", "no columns"},
		{"list without rows", table(listSampler, []string{"a"}), "sweep.points", "no rows"},
		{"ragged", table(fileSampler, []string{"a", "b"}, 1, 2, 3), "sweep.file", "do not fill"},
		{"column in capitals", table(listSampler, []string{"lr", "LR"}, 1, 2), "sweep.points", "\"lr\" and \"LR\" differ only in case"},
		{"parameter in capitals", sweep(gridSampler, choices("lr", 1), choices("x", 1), choices("Lr", 1)), "sweep.params.Lr", "\"lr\" and \"Lr\" differ only in case"},
		{"duplicate column", table(listSampler, []string{"a", "a"}, 1, 2), "sweep.points", "two columns"},
		{"nan cell", table(listSampler, []string{"a"}, 1, nan), "sweep.points[1].a", "finite"},
		{"everything excluded", excluding(g(choices("a", 1, 2)), "a > 0"), "sweep.exclude", "excludes every combination of a (2)"},
		{"always true", excluding(g(choices("a", 1, 2)), "1 < 2"), "sweep.exclude", "always true"},
		{"every row excluded", excluding(sweep(zipSampler, choices("a", 1, 2)), "a > 0"), "sweep.exclude", "every row"},
		{"every draw excluded", excluding(drawn(randomSampler, 10, choices("a", 1, 2)), "a > 0"), "sweep.exclude", "only 0 of the first"},
		{"every stratum excluded", excluding(drawn(lhsSampler, 10, choices("a", 1, 2)), "a > 0"), "sweep.exclude", "every point"},
		{"too many combinations", excluding(g(ints("a", 0, 9999, 1), ints("b", 0, 9999, 1)), "a == b"), "sweep.exclude", "a (10000) × b (10000)"},
		{"too many conditional", g(ints("a", 0, 9999, 1), when(ints("b", 0, 9999, 1), "a > 1")), "sweep.params.b.when", "a (10000) × b (10000)"},
		{"exclude of a huge sample", excluding(drawn(randomSampler, 1<<40, floats("a", 0, 1, 0)), "a > 0.5"), "sweep.exclude", "at most"},
		{"cycle", g(when(choices("a", 1), "b == 1"), when(choices("b", 1), "a == 1")), "sweep.params.a.when", "a -> b -> a"},
		{"self", g(when(choices("a", 1), "a == 1")), "sweep.params.a.when", "a -> a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewSpace(tt.sw)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("NewSpace = %v, want an *Error", err)
			}
			if e.Path != tt.path || !strings.Contains(e.Msg, tt.msg) {
				t.Errorf("error %q at %q, want %q at %q", e.Msg, e.Path, tt.msg, tt.path)
			}
			if len(e.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(e.Error()))
			}
			if e.Offset != -1 {
				t.Errorf("offset %d outside an expression", e.Offset)
			}
		})
	}
}

func TestSpaceConcurrent(t *testing.T) {
	t.Parallel()
	s := mustSpace(t, excluding(drawn(sobolSampler, 64, floats("a", 0, 1, 0), when(floats("b", 0, 1, 0), "a > 0.5"), repeats("r", 2)), "a > 0.9"))
	want := allPoints(t, s)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, w := range want {
				if p, err := s.At(uint64(i)); err != nil || p.String() != w {
					t.Errorf("At(%d) = %s, %v; want %s", i, p, err, w)
				}
			}
		})
	}
	wg.Wait()
}

func TestSpaceRepeatUnderWhen(t *testing.T) {
	t.Parallel()
	s := mustSpace(t, drawn(randomSampler, 8, choices("opt", "adam", "sgd"), when(repeats("seed", 3), `opt == "sgd"`)))
	adam, sgd := 0, 0
	for _, p := range allPoints(t, s) {
		if strings.Contains(p, "adam") {
			adam++
			if strings.Contains(p, "seed") {
				t.Errorf("%s has a seed", p)
			}
		} else {
			sgd++
		}
	}
	if adam+sgd/3 != 8 || sgd%3 != 0 || adam == 0 || sgd == 0 {
		t.Errorf("%d adam and %d sgd points of 8 draws", adam, sgd)
	}
}

func TestDecodeAllocations(t *testing.T) {
	s := mustSpace(t, sweep(gridSampler, logFloats("lr", 1e-4, 1e-1, 8), choices("depth", 2, 4, 8), ints("seed", 0, 5, 1)))
	var p Point
	var i uint64
	if n := testing.AllocsPerRun(200, func() {
		i = (i + 1) % s.Len()
		if err := s.Decode(i, &p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Decode of a grid allocates %v times", n)
	}
	if n := testing.AllocsPerRun(200, func() {
		if _, err := s.At(3); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("At of a grid allocates %v times, want 1", n)
	}
}
