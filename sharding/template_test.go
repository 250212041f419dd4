// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"os/exec"
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
		{"a{{b}}c{empty}d", "a{b}cd"},
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
		{"a {lr", 2, "not closed"},
		{"a {lr {lr}", 2, "not closed"},
		{"a } b", 2, "a } without {"},
		{"{}", 0, "not a parameter name"},
		{"é{a-b}", 2, "{a-b} is not a parameter name"},
		{"{ lr }", 0, "not a parameter name"},
		{"{{{", 2, "not closed"},
		{"}}}", 2, "a } without {"},
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

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "''", "a": "a", "0.1": "0.1", "-3": "-3", "a/b.c:d=e,f@g%h+i": "a/b.c:d=e,f@g%h+i",
		"a b": "'a b'", "$(x)": "'$(x)'", "it's": `'it'\''s'`, "~": "'~'", "a\nb": "'a\nb'", "é": "'é'", "*": "'*'", "#": "'#'",
	} {
		if got := ShellQuote(in); got != want {
			t.Errorf("ShellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestShellTemplateRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ template, msg string }{
		{"echo `ls {x}`", "backquotes"},
		{"echo \"`ls \"{x}\"`\"", "backquotes"},
		{"echo ${{y:-{x}}}", "${…}"},
		{"echo $'{x}'", "$'…'"},
		{"echo ok # {x}", "a comment"},
		{"cat <<END\n{x}\nEND", "here-document"},
		{`echo \{x}`, "backslash"},
		{"echo ${x}", "after $"},
		{`echo "$(case a in a) echo "{x}";; esac)"`, "case"},
		{`echo "${{y:-'}}" {x}`, "quotes inside"},
	} {
		_, err := ParseShellTemplate(tt.template)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, tt.msg) || e.Offset != strings.Index(tt.template, "{x}") {
			t.Errorf("ParseShellTemplate(%q) = %v, want %q", tt.template, err, tt.msg)
		}
	}
}

// Whatever the value and wherever the placeholder stands, a real shell
// passes the value on as one word, unchanged.
func TestShellTemplateInAShell(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatalf("the runner needs a shell: %v", err)
	}
	templates := []string{
		`printf '<%s>' {x}`,
		`printf '<%s>' "{x}"`,
		`printf '<%s>' '{x}'`,
		`printf '<%s>' pre{x}post | sed '1s/^<pre/</;$s/post>$/>/'`,
		`: it\'s "q'" 'q"'; printf '<%s>' {x}`,
		`printf '<%s>' "$(printf %s. "{x}")" | sed '$s/\.>$/>/'`,
		`printf '<%s>' "$(printf %s. '{x}' # don't
		)" | sed '$s/\.>$/>/'`,
		`y=${{HOME:-x}}; z="${{y}}"; printf '<%s>' {x}`,
		`(a=1; b=$((a + 1)); printf '<%s>' "{x}")`,
	}
	values := []string{
		"", "a", "it's", `"`, `\`, `\\"`, "$HOME", "$(echo no)", "`echo no`", "a b  c", "*", "~", "; echo no", "'; echo no; '",
		`"; echo no; "`, "{x}", "a\nb", "# no", "-n", "!x", "é", "&& echo no", `\'`, `$`, `\$x`, "'\"'\"'",
	}
	for _, template := range templates {
		tmpl, err := ParseShellTemplate(template)
		if err != nil {
			t.Fatalf("%s: %v", template, err)
		}
		var script strings.Builder
		for _, v := range values {
			line, err := tmpl.Execute(lookupIn(map[string]string{"x": v}))
			if err != nil {
				t.Fatal(err)
			}
			script.WriteString(line + "\n")
		}
		out, err := exec.CommandContext(t.Context(), sh, "-c", script.String()).CombinedOutput()
		want := "<" + strings.Join(values, "><") + ">"
		got := strings.ReplaceAll(string(out), ">\n<", "><")
		if err != nil || strings.TrimSuffix(got, "\n") != want {
			t.Errorf("%s: %v\n got %q\nwant %q", template, err, got, want)
		}
	}
}

func TestExpandRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		literal := rapid.String().Draw(t, "literal")
		escaped := strings.NewReplacer("{", "{{", "}", "}}").Replace(literal)
		value := rapid.String().Draw(t, "value")
		got, err := Expand(escaped+"{v}"+escaped, lookupIn(map[string]string{"v": value}))
		if err != nil || got != literal+value+literal {
			t.Fatalf("got %q, %v", got, err)
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
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset >= len(s) {
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
			if _, err := tmpl.Execute(func(string) (string, bool) { return "it's \"$x\"", true }); err != nil {
				t.Fatal(err)
			}
		}
	})
}
