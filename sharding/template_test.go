// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func lookupIn(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	vars := lookupIn(map[string]string{"lr": "0.1", "brace": "{x}", "empty": ""})
	for _, tt := range []struct{ template, want string }{
		{"", ""},
		{"plain", "plain"},
		{"--lr={lr}", "--lr=0.1"},
		{"{lr}{lr}", "0.10.1"},
		{"{{lr}}", "{lr}"},
		{"{{{lr}}}", "{0.1}"},
		{"{{{{lr}}}}", "{{lr}}"},
		{"{{lr}", "{0.1"},
		{"{lr}}", "0.1}"},
		{"{{lr}}}", "{lr}}"},
		{"{{{lr}}", "{{lr}"},
		{"a{{b}}c{empty}d", "a{b}cd"},
		{"${lr} $${lr} ${{lr}} {{nope}} ${nope}", "${lr} $${lr} ${lr} {nope} ${nope}"},
		{"$lr{lr}", "$lr0.1"},
		{`{"a": {"lr": {lr}}, "b": [{}, {{}}]}`, `{"a": {"lr": 0.1}, "b": [{}, {{}}]}`},
		{"${HOME:-none} { echo a; exit 3; } {a,b} {1..3} { lr } {a-b} {é} {0} {{ x }} {", "${HOME:-none} { echo a; exit 3; } {a,b} {1..3} { lr } {a-b} {é} {0} {{ x }} {"},
		{"{{{ {lr {lr} }} } {lr", "{{{ {lr 0.1 }} } {lr"},
		{"{brace}", "{x}"}, // values are not expanded again
		{"é {lr} ü", "é 0.1 ü"},
	} {
		got, err := Expand(tt.template, vars)
		if err != nil || got != tt.want {
			t.Errorf("Expand(%q) = %q, %v; want %q", tt.template, got, err, tt.want)
		}
	}
	for _, tt := range []struct {
		template string
		offset   int
		msg      string
	}{
		{"a {nope}", 2, "no parameter nope"},
		{"a {{x}} é{_9}", 10, "for a literal {_9} write {{_9}}"},
		{"{{{nope}}}", 0, "no parameter nope"},
		{"a\x00{lr}", 1, "NUL"},
	} {
		_, err := Expand(tt.template, vars)
		var e *Error
		if !errors.As(err, &e) || e.Offset != tt.offset || !strings.Contains(e.Msg, tt.msg) || e.Value != tt.template {
			t.Errorf("Expand(%q) = %v (%+v), want %q at %d", tt.template, err, e, tt.msg, tt.offset)
		}
	}
	names, err := TemplateNames("{b} {a} {{c}} {b}")
	if diff := cmp.Diff([]string{"b", "a"}, names); err != nil || diff != "" {
		t.Errorf("TemplateNames: %v %s", err, diff)
	}
}

func TestTemplateAppendPoint(t *testing.T) {
	t.Parallel()
	s := mustSpace(t, sweep(gridSampler, choices("opt", "it's", "sgd"), when(choices("m", 0.5), `opt == "sgd"`)))
	tests := []struct {
		shell    bool
		template string
		want     [2]string
	}{
		{false, "{opt}/{m}/{index}", [2]string{"it's//0", "sgd/0.5/1"}},
		{true, "x {opt} {m} {index}", [2]string{`x 'it'\''s' '' 0`, "x sgd 0.5 1"}},
		{true, `x "{opt}"'{opt}'`, [2]string{`x "it's"'it'\''s'`, `x "sgd"'sgd'`}},
	}
	for _, tt := range tests {
		parse := ParseTemplate
		if tt.shell {
			parse = ParseShellTemplate
		}
		tmpl, err := parse(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range s.Points(0) {
			extra := func(dst []byte, name string) ([]byte, bool) {
				return append(dst, utoa(i)...), name == "index"
			}
			got, err := tmpl.AppendPoint(nil, p, extra)
			if err != nil || string(got) != tt.want[i] {
				t.Errorf("%s of %s = %s, %v; want %s", tt.template, p, got, err, tt.want[i])
			}
		}
	}
	tmpl, err := ParseTemplate("{nope}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.AppendPoint(nil, Point{}, nil); err == nil {
		t.Error("an unknown name is no error")
	}
}

func TestTemplateAllocations(t *testing.T) {
	s := mustSpace(t, sweep(gridSampler, logFloats("lr", 1e-4, 1e-1, 8), ints("seed", 0, 5, 1)))
	tmpl, err := ParseShellTemplate("python3 train.py --lr {lr} --seed {seed}")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.At(13)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := tmpl.AppendPoint(buf, p, nil); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AppendPoint allocates %v times", n)
	}
}

func TestExpandRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Every text can be written: one pair of braces becomes two.
		names := rapid.SampledFrom([]string{"a", "v", "_1", "{", "}", "$", " ", "é", ","})
		literal := strings.Join(rapid.SliceOf(names).Draw(t, "literal"), "")
		escaped, done := "", 0
		for _, p := range Placeholders(literal) {
			pairs := (p.To - p.From - len(p.Name)) / 2
			if p.Kind == PlaceholderVariable {
				continue
			}
			escaped += literal[done:p.From] + strings.Repeat("{", 2*pairs) + p.Name + strings.Repeat("}", 2*pairs)
			done = p.To
		}
		escaped += literal[done:]
		value := rapid.String().Draw(t, "value")
		got, err := Expand(escaped+" {v} "+escaped, lookupIn(map[string]string{"v": value}))
		if want := literal + " " + value + " " + literal; err != nil || got != want {
			t.Fatalf("%q gives %q, %v; want %q", escaped, got, err, want)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{a}", "{{", "a}}b{c}", "{", `"{a}"'{a}' $({a})`, "`{a}`", "${{a}} # {b}", "x <<E {a}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, err := TemplateNames(s)
		if err != nil {
			var e *Error
			if !strings.Contains(s, "\x00") || !errors.As(err, &e) || s[e.Offset] != 0 {
				t.Fatalf("error %v at %+v", err, e)
			}
			return
		}
		out, err := Expand(s, func(name string) (string, bool) { return "", ValidName(name) })
		if err != nil {
			t.Fatalf("%d names parse but do not expand: %v", len(names), err)
		}
		if len(out) > len(s) {
			t.Fatalf("%q grew to %q", s, out)
		}
		if tmpl, err := ParseShellTemplate(s); err == nil {
			for _, v := range []string{"", "it's \"$x\"", "\n\tE\nE\n", "-1"} {
				var e *Error
				if _, err := tmpl.Execute(func(string) (string, bool) { return v, true }); err != nil && !errors.As(err, &e) {
					t.Fatal(err)
				}
			}
		}
	})
}
