// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"strings"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// testScope is what the expressions below may name: gone is never there, any
// may be a number or a string.
func testScope() (scope, []Value) {
	sc := scope{
		names: []string{"n", "x", "s", "b", "gone", "any", "count"},
		kinds: []kindSet{kindInt, kindFloat, kindString, kindBool, kindFloat, kindInt | kindString, kindInt},
		index: map[string]int{},
	}
	for i, name := range sc.names {
		sc.index[name] = i
	}
	return sc, []Value{IntValue(8), FloatValue(0.5), StringValue("sgd"), BoolValue(true), {}, StringValue("auto"), IntValue(3)}
}

func TestExpressionValues(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		`n == 8 && x > 0.05`:                     true,
		`n == 8.0`:                               true,
		`n != 8`:                                 false,
		`1 < n <= 8`:                             true,
		`1 < n < 8`:                              false,
		`s in ["adam", "sgd"]`:                   true,
		`s not in ["adam", "sgd"]`:               false,
		`not (s == "sgd")`:                       false,
		`!b or s startsWith "s"`:                 true,
		`s contains "g" and s endsWith "gd"`:     true,
		`s not contains "g"`:                     false,
		`s < "zeta"`:                             true,
		`n * x == 4`:                             true,
		`n / 16 == 0.5`:                          true,
		`n % 3 == 2`:                             true,
		`n % 0 == 0`:                             false,
		`n ** 2 == 64 and 2 ^ n == 256`:          true,
		`-n + 10 == 2 and +n == 8`:               true,
		`b`:                                      true,
		`b == true`:                              true,
		`gone == 1`:                              false,
		`gone != 1`:                              false,
		`not (gone == 1)`:                        false,
		`gone not in [1, 2]`:                     false,
		`gone > 1 or n == 8`:                     true,
		`not (gone > 1 and n == 8)`:              false,
		`not (gone > 1 and n == 9)`:              true,
		`gone == nil`:                            true,
		`gone != nil`:                            false,
		`nil != n`:                               true,
		`(gone ?? 3) == 3`:                       true,
		`(n ?? 3) == 8`:                          true,
		`gone + 1 > 0`:                           false,
		`any == "auto"`:                          true,
		`any == 3`:                               false,
		`any != 3`:                               true,
		`any > 3`:                                false,
		`not (any > 3)`:                          false,
		`count == 3`:                             true,
		`9007199254740993 == 9007199254740992.0`: false,
		`9223372036854775807 + 1 > 9.2e18`:       true,
		`9223372036854775807 * 9223372036854775807 > 8e37`: true,
		`-9223372036854775807 - 2 < 0`:                     true,
		`0 / 0 == 1`:                                       false,
		`not (0 / 0 == 1)`:                                 false,
		`(0 - 8) ** 0.5 > 0`:                               false,
		`n in [x, n]`:                                      true,
	}
	sc, env := testScope()
	for src, want := range tests {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			list, err := compileExpression("p", src, sc, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := list[0].holds(env); got != want {
				t.Errorf("%s is %v, want %v", src, got, want)
			}
			// Alternatives together say the same.
			list, err = compileExpression("p", src, sc, true)
			if err != nil {
				t.Fatal(err)
			}
			any := false
			for _, e := range list {
				any = any || e.holds(env)
			}
			if any != want {
				t.Errorf("alternatives of %s are %v, want %v", src, any, want)
			}
		})
	}
}

func TestExpressionErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		src    string
		offset int
		msg    string
	}{
		{`n === 8`, 4, "not an expression"},
		{`n == `, 5, "it ends too early"},
		{`(n == 8`, 7, "not an expression"},
		{`n == 8 §`, 7, "not an expression"},
		{`s == "é" && m == 1`, 13, "m is not a parameter"},
		{`s == sgd`, 5, "sgd is not a parameter of the sweep (n, x, s, b, gone, any, count); strings are written in quotes"},
		{`n`, 0, "must be true or false, but this is a number"},
		{`n + 1`, 2, "must be true or false"},
		{`s > 3`, 2, "compares two numbers or two strings, not a string and a number"},
		{`s == 3`, 2, "a string is never equal to a number"},
		{`s in [1, 2]`, 6, "never equal"},
		{`s in "sgd"`, 5, "needs a list"},
		{`s in []`, 5, "list is empty"},
		{`n and b`, 0, "and needs true or false"},
		{`not n`, 0, "not needs true or false"},
		{`-s == 1`, 0, "needs a number"},
		{`s + "x" == "sgdx"`, 0, "needs a number"},
		{`n contains "x"`, 0, "needs a string"},
		{`len(s) == 3`, 0, "functions"},
		{`env("HOME") == "x"`, 0, "functions"},
		{`s.x == 1`, -2, "only parameters"},
		{`[n][0] == 8`, -2, "only parameters"},
		{`n in 1..9`, -2, "needs a list"},
		{`s matches "a+"`, 2, "operator matches is not available"},
		{`n > 1 ? b : b`, -2, "only parameters"},
		{`let z = 1; z == 1`, -2, "only parameters"},
		{`n == 1; b`, -2, "only parameters"},
		{`{"a": 1} == 1`, -2, "only parameters"},
		{`n < nil`, -2, "nil is only compared"},
		{`[1] == [1]`, -2, "only stands to the right of in"},
		{`   `, -1, "is empty"},
		{`n == 99999999999999999999`, -2, "not an expression"},
		{"n == 1 or " + strings.Repeat("n == 1 or ", 500) + "b", -1, "at most 4096"},
		{"s == \"\xff\"", -1, "UTF-8"},
		{strings.Repeat("(", 4000), -2, "not an expression"},
		{strings.Repeat("-", 4000) + "n == 1", -2, ""},
	}
	sc, _ := testScope()
	for _, tt := range tests {
		t.Run(clipText(tt.src), func(t *testing.T) {
			t.Parallel()
			_, err := compileExpression("sweep.exclude", tt.src, sc, true)
			if tt.msg == "" {
				return // only must not panic
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("compile = %v, want an *Error", err)
			}
			if !strings.Contains(e.Msg, tt.msg) || e.Path != "sweep.exclude" {
				t.Errorf("error %q at %s, want %q", e.Msg, e.Path, tt.msg)
			}
			if tt.offset == -2 { // anywhere inside
				if e.Offset < 0 || e.Offset > len(tt.src) {
					t.Errorf("offset %d", e.Offset)
				}
			} else if e.Offset != tt.offset {
				t.Errorf("offset %d, want %d (%v)", e.Offset, tt.offset, e)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	_, err := NewSpace(excluding(sweep(gridSampler, choices("a", 1)), "a == 1 or\n  é == 2"))
	want := `sweep.exclude: "a == 1 or\n  é == 2": é is not a parameter of the sweep (a); strings are written in quotes (at 2:3)`
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	_, err = NewSpace(sweep(gridSampler, when(choices("a", 1), "b ="), choices("b", 1)))
	var e *Error
	if !errors.As(err, &e) || e.Path != "sweep.params.a.when" || e.Offset < 2 {
		t.Errorf("error %v", err)
	}
	if line, col := (&Error{Offset: -1}).LineColumn(); line != 0 || col != 0 {
		t.Errorf("no offset is at %d:%d", line, col)
	}
}

// Costly expressions over many combinations end in time.
func TestExpressionBudget(t *testing.T) {
	t.Parallel()
	costly := strings.Repeat("a * a + ", 500) + "b > 1"
	for _, sw := range []*volleyv1.Sweep{
		sweep(gridSampler, ints("a", 0, 1999, 1), ints("b", 0, 1999, 1)),
		sweep(zipSampler, ints("a", 0, 1<<21, 1), ints("b", 0, 1<<21, 1)),
		drawn(randomSampler, 1<<21, ints("a", 0, 1<<21, 1), ints("b", 0, 1<<21, 1)),
	} {
		_, err := newSpace(excluding(sw, costly), 1<<20)
		var e *Error
		if !errors.As(err, &e) || e.Path != "sweep.exclude" {
			t.Errorf("NewSpace = %v, want an *Error", err)
		}
	}
}
