// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPoint(t *testing.T) {
	t.Parallel()
	s := mustSpace(t, sweep(gridSampler, choices("opt", "adam", "sgd"), when(choices("m", 0.5, 0.9), `opt == "sgd"`)))
	if diff := cmp.Diff([]string{"opt", "m"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	adam, err := s.At(0)
	if err != nil {
		t.Fatal(err)
	}
	sgd, err := s.At(2)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := sgd.Get("m"); !ok || v.Kind() != KindFloat || v.Float() != 0.9 {
		t.Errorf("m = %v, %v", v, ok)
	}
	if _, ok := adam.Get("m"); ok || !adam.Declares("m") || adam.Declares("nope") {
		t.Error("m of adam must be declared and absent")
	}
	if _, ok := adam.Get("nope"); ok {
		t.Error("nope is there")
	}
	if diff := cmp.Diff([]string{"opt"}, adam.Names()); diff != "" || adam.Len() != 1 || sgd.Len() != 2 {
		t.Errorf("names of %s: %s", adam, diff)
	}
	for range sgd.All() {
		break // must stop
	}
	b, err := json.Marshal(struct{ P Point }{sgd})
	if err != nil || string(b) != `{"P":{"opt":"sgd","m":0.9}}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	var zero Point
	if _, ok := zero.Get("a"); ok || zero.Declares("a") || zero.Len() != 0 || zero.String() != "{}" {
		t.Error("the zero point has something")
	}
	var from []uint64
	for i := range s.Points(1) {
		from = append(from, i)
	}
	if diff := cmp.Diff([]uint64{1, 2}, from); diff != "" {
		t.Errorf("points from 1: %s", diff)
	}
	for range s.Points(0) {
		break
	}
	// A point that is used again follows its new space.
	other := mustSpace(t, sweep(gridSampler, choices("x", 1)))
	if err := other.Decode(0, &sgd); err != nil || sgd.String() != `{"x":1}` {
		t.Errorf("decoded %s, %v", sgd, err)
	}
}

func TestValueText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		v          Value
		text, json string
	}{
		{Value{}, "", "null"},
		{StringValue("a b"), "a b", `"a b"`},
		{StringValue("\"\n<é>"), "\"\n<é>", `"\"\n\u003cé\u003e"`},
		{IntValue(math.MinInt64), "-9223372036854775808", "-9223372036854775808"},
		{FloatValue(0.001), "0.001", "0.001"},
		{FloatValue(1e-5), "1e-05", "1e-05"},
		{FloatValue(0.0001), "0.0001", "0.0001"},
		{FloatValue(2), "2", "2"},
		{FloatValue(math.Copysign(0, -1)), "0", "0"},
		{FloatValue(-1234567.5), "-1234567.5", "-1234567.5"},
		{FloatValue(1e16), "1e+16", "1e+16"},
		{FloatValue(123456789012345680), "1.2345678901234568e+17", "1.2345678901234568e+17"},
		{BoolValue(true), "true", "true"},
		{BoolValue(false), "false", "false"},
	} {
		if tt.v.String() != tt.text || string(tt.v.AppendJSON(nil)) != tt.json {
			t.Errorf("%#v is %s and %s, want %s and %s", tt.v, tt.v, tt.v.AppendJSON(nil), tt.text, tt.json)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "f")
		var back float64
		if err := json.Unmarshal(FloatValue(f).AppendJSON(nil), &back); err != nil || back != f {
			t.Fatalf("%v comes back as %v, %v", f, back, err)
		}
		s := rapid.String().Draw(t, "s")
		var text string
		if err := json.Unmarshal(StringValue(s).AppendJSON(nil), &text); err != nil || text != strings.ToValidUTF8(s, "\ufffd") {
			t.Fatalf("%q comes back as %q, %v", s, text, err)
		}
	})
}

func TestCompareNumbers(t *testing.T) {
	t.Parallel()
	ascending := []Value{
		FloatValue(math.Inf(-1)), FloatValue(-1e300), IntValue(math.MinInt64), IntValue(-1), FloatValue(-0.5), IntValue(0), FloatValue(0.5),
		FloatValue(1 << 53), IntValue(1<<53 + 1), IntValue(math.MaxInt64), FloatValue(1 << 63), FloatValue(math.Inf(1)),
	}
	for i, a := range ascending {
		for j, b := range ascending {
			c, ok := compareNumbers(a, b)
			if !ok || (c < 0) != (i < j) || (c == 0) != (i == j) {
				t.Errorf("compare(%v, %v) = %d, %v", a, b, c, ok)
			}
		}
		if _, ok := compareNumbers(a, FloatValue(math.NaN())); ok {
			t.Errorf("%v compares with NaN", a)
		}
	}
}
