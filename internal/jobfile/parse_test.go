// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volley-batch/volley/sharding"
)

func mustFail(t *testing.T, src string) []Diagnostic {
	t.Helper()
	_, err := Parse("job.yaml", []byte(src))
	var e *Error
	if !errors.As(err, &e) || len(e.Diagnostics) == 0 {
		t.Fatalf("Parse: %v, want an *Error", err)
	}
	return e.Diagnostics
}

func TestResolve(t *testing.T) {
	t.Parallel()
	ints := map[string]int64{
		"0": 0, "-0": 0, "+5": 5, "017": 17, "0x1f": 31, "0xFF": 255, "0o17": 15,
		"9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	}
	for word, want := range ints {
		var n node
		n.resolve(word)
		if got, ok := n.int64(); !ok || got != want {
			t.Errorf("%s: %d, %v, want %d", word, got, ok, want)
		}
	}
	floats := map[string]float64{
		"1e-4": 1e-4, "1E5": 1e5, "1e+5": 1e5, ".5": .5, "5.": 5, "-.5": -.5, "+1.5e3": 1500, "-1e1": -10,
		".inf": math.Inf(1), "-.Inf": math.Inf(-1), "1e999": math.Inf(1), "99999999999999999999": 1e20, "-99999999999999999999": -1e20,
		"0xfffffffffffffffff": math.Inf(1),
	}
	for word, want := range floats {
		var n node
		if n.resolve(word); n.kind != kindFloat || n.f != want {
			t.Errorf("%s: %v %v, want the number %v", word, n.kind, n.f, want)
		}
	}
	for _, word := range []string{".", "-", "+", "e5", "1e", "1e+", "1e--5", "1e+-5", "1_000", "0b11", "0x", "0o8", "-0x1", "--1", "1.2.3", "1e5x", "yes", "on", "nan", "inf", "tRUE", ".e5"} {
		var n node
		if n.resolve(word); n.kind != kindString {
			t.Errorf("%s is %v, want text", word, n.kind)
		}
	}
	var n node
	if n.resolve(".NaN"); n.kind != kindFloat || !math.IsNaN(n.f) {
		t.Errorf(".NaN is %v %v", n.kind, n.f)
	}
	if n.resolve("18446744073709551615"); n.kind != kindInt {
		t.Errorf("2^64-1 is %v", n.kind)
	}
	if v, ok := n.uint64(); !ok || v != math.MaxUint64 {
		t.Errorf("2^64-1 is %d, %v", v, ok)
	}
	if _, ok := n.int64(); ok {
		t.Error("2^64-1 fits in an int64")
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1ms": time.Millisecond, "90s": 90 * time.Second, "10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute,
		"2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "0.5s": 500 * time.Millisecond, "1 h": time.Hour, "1m1ms": time.Minute + time.Millisecond,
	} {
		f, err := Parse("x", fmt.Appendf(nil, "command: [a]\ntimeout: %s\n", text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.Spec.TimeoutMs; got != want.Milliseconds() {
			t.Errorf("%s is %d ms, want %d", text, got, want.Milliseconds())
		}
	}
	for _, text := range []string{"1", "s", "1s2", "1.2.3s", "0.5ms", "0ms", "-1s", "1us", "1S", "1e3s", "999999999999d", "[1s]", `""`, "1h-1m", strings.Repeat("1s", 40)} {
		ds := mustFail(t, fmt.Sprintf("command: [a]\ntimeout: %s\n", text))
		if ds[0].Line != 2 || ds[0].Column != 10 {
			t.Errorf("%s: at %d:%d, want 2:10", text, ds[0].Line, ds[0].Column)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1B": 1, "1kB": 1000, "2MB": 2e6, "3GB": 3e9, "4TB": 4e12, "1KiB": 1024, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "1TiB": 1 << 40, "0.5KiB": 512, "4 GB": 4e9,
	} {
		f, err := Parse("x", fmt.Appendf(nil, "command: [a]\nresources: {memory: %s}\n", text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.Spec.Resources.MemoryBytes; got != want {
			t.Errorf("%s is %d, want %d", text, got, want)
		}
	}
	for text, hint := range map[string]string{
		"512": "512MiB", "512M": "MiB", "512mb": "MiB", "1gib": "GiB", "1k": "KiB", "1.0001B": "", "9999999TiB": "", "-1GiB": "", "1GiB1GiB": "", "x": "", "{a: b}": "", "1e3MiB": "",
	} {
		ds := mustFail(t, fmt.Sprintf("command: [a]\nresources: {memory: %s}\n", text))
		if ds[0].Line != 2 || ds[0].Column != 21 || !strings.Contains(ds[0].Hint, hint) {
			t.Errorf("%s: %v, hint %q, want 2:21 and a hint with %q", text, ds[0], ds[0].Hint, hint)
		}
	}
}

func TestCPU(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1": 1000, "0.5": 500, "1e-3": 1, "+2": 2000, ".25": 250, "1000000": 1e9} {
		f, err := Parse("x", fmt.Appendf(nil, "command: [a]\nresources: {cpu: %s}\n", text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := f.Spec.Resources.CpuMilli; got != want {
			t.Errorf("%s is %d, want %d", text, got, want)
		}
	}
	for _, text := range []string{"0", "-1", "1e-4", ".inf", ".nan", "1e300", "1e-300", "1000001", "two", "[1]", "0x10", `"1"`, "true"} {
		mustFail(t, fmt.Sprintf("command: [a]\nresources: {cpu: %s}\n", text))
	}
}

func TestRangeIsPythons(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ start, stop, step int64 }{
		{0, 5, 1}, {0, 10, 3}, {-3, 3, 2}, {0, 1, 100}, {math.MinInt64, math.MinInt64 + 3, 1}, {math.MaxInt64 - 3, math.MaxInt64, 2}, {0, 9, 3},
	} {
		src := fmt.Sprintf("command: [p, \"{a}\"]\nsweep: {params: {a: {range: [%d, %d, %d]}}}\n", c.start, c.stop, c.step)
		f, err := Parse("x", []byte(src))
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		space, err := sharding.NewSpace(f.Spec.GetSpace().GetSweep())
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for v := c.start; v < c.stop && v >= c.start; v += c.step {
			want = append(want, fmt.Sprint(v))
		}
		for i := range space.Len() {
			p, err := space.At(i)
			if err != nil {
				t.Fatal(err)
			}
			v, _ := p.Get("a")
			got = append(got, v.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got)\n%s", c, diff)
		}
	}
}

// TestBraces takes text as people have it.
func TestBraces(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`${X} ${HOME:-none} "${a%.*}"`, `{ echo a; exit 3; }`, `awk '{print $1}' x`, `cp {a,b} {1..3}`, `{"a": {"b": 1}, "c": {}}`,
		`{{lr}} {{`, `}`, `cat <<E`, "cat > cfg.json <<EOF\n{\"lr\": {lr}, \"x\": {\"y\": {lr}}}\nEOF", "# {lr}", "echo $(( {lr} + 1 ))",
	} {
		quoted := strconv.Quote(text)
		f, err := Parse("x", fmt.Appendf(nil, "run: %s\nenv: {A: %s}\nsweep: {params: {lr: [1]}}\n", quoted, quoted))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if f.Spec.Run != text || f.Spec.Env[0].Value != text {
			t.Errorf("%q became %q and %q", text, f.Spec.Run, f.Spec.Env[0].Value)
		}
		if _, err := Parse("x", fmt.Appendf(nil, "command: [a, %s]\nsweep: {params: {lr: [1]}}\n", quoted)); err != nil {
			t.Errorf("command %s: %v", text, err)
		}
	}
}

func TestMistakenVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want string // in the only warning; empty: none
	}{
		{"run: echo ${lr}", "write {lr}, or $VOLLEY_PARAM_LR"},
		{"command: [a, '--lr=${lr}']", "write {lr}"},
		{"run: lr={lr}; echo ${lr}", ""},
		{"run: for lr in 1 2; do echo ${lr} {lr}; done", ""},
		{"run: while read -r a lr; do echo ${lr} {lr}; done", ""},
		{"run: echo ${HOME} {lr}", ""},
		{"run: echo ${{lr}} {lr}", ""},
	} {
		f, err := Parse("x", []byte(c.text+"\nsweep: {params: {lr: [1, 2]}}\n"))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		switch {
		case c.want == "" && len(f.Warnings) > 0, c.want != "" && (len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].Hint, c.want)):
			t.Errorf("%s: warnings %+v, want %q", c.text, f.Warnings, c.want)
		}
	}
}

// TestPlace finds a marker in every style of YAML scalar.
func TestPlace(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"run: aa {nope} b",
		"run: 'a''a {nope} b'",
		`run: "a\ta\u00e4\x41\U0001F600 \"{nope}\" b"`,
		"run: \"one \\\n   two {nope}\"",
		"run: \"one\n   two\n\n   three {nope}\"",
		"run: one\n   two\n   three {nope}",
		"run: 'one\n   two ''x'' {nope}'",
		"run: |\n  one\n\n    two {nope}\n  three",
		"run: |2-\n    one\n  two {nope}",
		"run: |+   # comment {\n  one {nope}\n\n\n",
		"run: >\n  one\n  two\n\n    three {nope}\n  four",
		"run: >-\n  日本語 {nope}",
		"run:\n  one {nope}",
		"run: !!str one {nope}",
		"run: &a one {nope}",
		"env: {A: 'x{nope}'}\nrun: a",
		"command: [a, \"é\", \"日本 {nope}\"]",
		"command:\n- a\n- x {nope}",
		"command:\n- a\n- \"{nope}\"",
		"command: &c [a, \"x{nope}\"]",
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			text := strings.ReplaceAll(src, "\n", eol)
			ds := mustFail(t, text)
			line, col := 1, 0
			before, _, _ := strings.Cut(src, "{nope}")
			line += strings.Count(before, "\n")
			col = len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
			if d := ds[0]; d.Line != line || d.Column != col || d.Length != len("{nope}") || !strings.Contains(d.Message, "{nope} is not defined") {
				t.Errorf("%q: %d:%d+%d %s, want %d:%d+6", text, d.Line, d.Column, d.Length, d.Message, line, col)
			}
		}
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	for name, c := range map[string]struct{ src, want string }{
		"brackets":  {"command: " + strings.Repeat("[", 1<<16), "nested more than"},
		"braces":    {"command: " + strings.Repeat("{a: ", 1<<16), "nested more than"},
		"dashes":    {strings.Repeat("- ", 1<<16), "nested more than"},
		"questions": {strings.Repeat("? ", 1<<16), "nested more than"},
		"anchors":   {"a: " + strings.Repeat("&a ", 1<<16), "nested more than"},
		"tags":      {"a: " + strings.Repeat("!!str ", 1<<16), "nested more than"},
		"laughs":    {laughs, "aliases expand to more than"},
		"large":     {"# " + strings.Repeat("x", MaxFileBytes), "more than the 4 MiB"},
		"zeros":     {strings.Repeat("\x00", 1000), "control character U+0000"},
		"spaces":    {strings.Repeat(" ", 1<<16) + "a", "indented by more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds := mustFail(t, c.src)
			if !strings.Contains(ds[0].Message, c.want) {
				t.Errorf("%s, want a message with %q", clip(ds[0].String(), 300), c.want)
			}
			if out := ds[0].Format(false); len(out) > 2000 {
				t.Errorf("the message has %d bytes", len(out))
			}
		})
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	t.Parallel()
	src := "command: [a]\n"
	for i := range 100 {
		src += fmt.Sprintf("key%d: 1\n", i)
	}
	_, err := Parse("job.yaml", []byte(src))
	var e *Error
	if !errors.As(err, &e) || len(e.Diagnostics) != 100 {
		t.Fatalf("%d diagnostics, want 100", len(e.Diagnostics))
	}
	out := err.Error()
	if n := strings.Count(out, "unknown key"); n != maxShown || !strings.HasSuffix(out, "… and 80 more") {
		t.Errorf("%d errors are printed, want %d and a count of the rest:\n%s", n, maxShown, out)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	d := Diagnostic{File: "a.yaml", Line: 7, Column: 4, Length: 2, Message: "wrong", Hint: "mend it", Source: "\tx: \x1b[31m日本"}
	want := "a.yaml:7:4: wrong\n   7 | \tx: \uFFFD[31m日本\n     | \t  ^^\n  hint: mend it"
	if diff := cmp.Diff(want, d.Format(false)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	coloured := d.Format(true)
	if !strings.Contains(coloured, red+"^^\x1b[0m") || !strings.HasPrefix(coloured, bold) {
		t.Errorf("no colours in %q", coloured)
	}
	if got := (&Error{[]Diagnostic{d}}).Error(); got != want {
		t.Errorf("Error is %q", got)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	keys := fieldKeys(jobFields)
	for word, want := range map[string]string{
		"comand": "command", "commnad": "command", "Name": "name", "namee": "name", "dependson": "dependsOn", "depends_on": "dependsOn",
		"resource": "resources", "timout": "timeout", "label": "labels", "xyz": "", "": "", "ru": "run", "concurency": "concurrency", "mpa": "map", "r": "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
