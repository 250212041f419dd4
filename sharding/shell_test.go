// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

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
		{"echo `ls {x}`", "backquotes (write $(…) for them); use $VOLLEY_PARAM_X there"},
		{"echo \"`ls \"{x}\"`\"", "backquotes"},
		{"echo `# {x}`", "backquotes"},
		{"echo ${y:-{x}}", "${…}; use $VOLLEY_PARAM_X there"},
		{"echo ${{{x}}}", "${…}"},
		{"echo $'{x}'", "$'…'"},
		{`echo $'\'' {x}`, "differently"},
		{"echo $[{x}]", "$[…]"},
		{`echo \{x}`, "backslash"},
		{"echo $\\\n{x}", "after $"},
		{`echo "$(case a in a) echo "{x}";; esac)"`, "case"},
		{`echo "${y:-'}" {x}`, "quotes inside"},
		{"((a); b) {x}", "nested subshells"},
		{"((# )\na)) {x}", "comments"},
		{"$(('1')) {x}", "quotes"},
		{"$((1<<x)) {x}", "bits"},
		{"cat <<{x}\n", "delimiter"},
		{"cat <<E$a\nE\n{x}", "here-document"},
		{"cat <<\nE\n{x}", "here-document"},
		{"cat <<\\\nE\n{x}", "here-document"},
		{"cat <<\"a\\b\"\n{x}", "here-document"},
		{"cat <<'a\nb'\n{x}", "here-document"},
		{"echo `cat <<E\nE\n`\n{x}", "here-document in backquotes"},
		{"(cat <<E)\n{x}", "here-document"},
		{"cat <<E $(\n{x}", "here-document"},
		{"$(cat {x} <<E\n)", "$(…) that holds"},
		{"$(cat <<E\n{x}\nE\n)", "$(…) that holds"},
		{"cat <(cat <<E\nE\n) {x}", "$(…) that holds"},
		{"cat <<E\n$(\nE\n{x}", "here-document"},
		{"cat <<E\n$(echo {x})\nE", "an expansion in a here-document"},
		{"cat <<E\n${a:-{x}}\nE", "${…}"},
		{"cat <<E\n`{x}`\nE", "backquotes"},
		{"cat <<E\n\\{x}\nE", "backslash"},
		{"cat <<E\na\\\nE\n{x}", "here-document"},
		{"cat <<E\n{y}\\\nE\n{x}", "here-document"},
	} {
		_, err := ParseShellTemplate(tt.template)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, tt.msg) || e.Offset != strings.LastIndex(tt.template, "{x}") && e.Offset != strings.Index(tt.template, "{{{x}}}") {
			t.Errorf("ParseShellTemplate(%q) = %v, want %q", tt.template, err, tt.msg)
		}
	}
}

// What each place makes of a value.
func TestShellTemplateText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ template, x, want string }{
		{"${x} ${x:-{}} {a,b} { echo {x}; }", "a b", "${x} ${x:-{}} {a,b} { echo 'a b'; }"},
		{"awk '{print $1}' {x}", "f", "awk '{print $1}' f"},
		{"# x: {x}\n: {x}", "a'\nb", "# x: a__b\n: 'a'\\''\nb'"},
		{"a\\\n# {x}", "b\nc", "a\\\n# 'b\nc'"}, // a# is a word
		{"a \\\n# {x}", "b\nc", "a \\\n# b_c"},
		{"echo $$ {x}", "'", `echo $$ ''\'''`},
		{"$((3-{x}))", "-1", "$((3-(-1)))"},
		{"$((3*{x}<<2))", "12", "$((3*12<<2))"},
		{"$(( $(echo {x}) ))", "a b", "$(( $(echo 'a b') ))"},
		{"$( (echo {x}) )", "a b", "$( (echo 'a b') )"},
		{"cat <<E\nx: {x}\nE\n: {x}", "$a\nE", "cat <<E\nx: \\$a\n${0+}E\nE\n: '$a\nE'"},
		{"cat <<E\n{x}", "E", "cat <<E\n${0+}E"},
		{"cat <<E1 <<\\E2\n{x}\nE1\n{x}\nE2\n{x}", "$a", "cat <<E1 <<\\E2\n${0+}\\$a\nE1\n$a\nE2\n'$a'"},
		{"cat <<'E' # it's\n\"{x}\"\nE", "$a\\", "cat <<'E' # it's\n\"$a\\\"\nE"},
		{"(cat <<-E\n\tit's {x}\n\tE\n) {x}", "'", "(cat <<-E\n\tit's '\n\tE\n) ''\\'''"},
		{"cat <<<{x}", "a b", "cat <<<'a b'"},
		{"cat <<E | sed s/a/b/ {x}\nE", "'", "cat <<E | sed s/a/b/ ''\\'''\nE"},
	} {
		tmpl, err := ParseShellTemplate(tt.template)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := tmpl.Execute(lookupIn(map[string]string{"x": tt.x}))
		if err != nil || got != tt.want {
			t.Errorf("%q of %q = %q, %v; want %q", tt.template, tt.x, got, err, tt.want)
		}
	}
}

func TestShellTemplateValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ template, x, msg string }{
		{"$((1+{x}))", "a[$(id)]", "not an integer"},
		{"$((1+{x}))", "", "not an integer"},
		{"$((1+{x}))", "-", "not an integer"},
		{"((1+\"{x}\"))", "0.5", "not an integer"},
		{"cat <<'E'\n{x}\nE", "a\nE", "end the here-document"},
		{"cat <<'EOF'\n{x}\nEOF", "EOé", "not ASCII"},
		{"cat <<'E'\n{x}\nE", "E", "end the here-document"},
		{"cat <<'EOF'\nE{x}F\nEOF", "O", "end the here-document"},
		{"cat <<-'E'\na{x}\nE", "\n\tb", "tab"},
		{"cat <<-'E'\n\t{x}\nE", "\tb", "tab"},
		{"cat <<'E'\n{x}", "E\nE", "end the here-document"},
	} {
		tmpl, err := ParseShellTemplate(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tmpl.Execute(lookupIn(map[string]string{"x": tt.x}))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, tt.msg) || e.Offset != strings.Index(tt.template, "{x}") {
			t.Errorf("%q of %q: %v, want %q", tt.template, tt.x, err, tt.msg)
		}
	}
}

// shells are those that /bin/sh is on the systems that tasks run on, as far
// as they are here.
func shells(t *testing.T) (list [][]string) {
	t.Helper()
	for _, sh := range [][]string{{"sh"}, {"dash"}, {"bash", "--posix"}, {"bash"}, {"busybox", "sh"}} {
		if path, err := exec.LookPath(sh[0]); err == nil {
			list = append(list, append([]string{path}, sh[1:]...))
		}
	}
	if len(list) == 0 {
		t.Fatal("there is no shell, and nothing runs without")
	}
	return list
}

// hostile values: what shells give a meaning to, in every order.
func hostile(rng *rand.Rand, n int) []string {
	list := []string{
		"", "a", "it's", `"`, `\`, `\\"`, "$HOME", "$(echo no)", "`echo no`", "a b  c", "*", "~", "; echo no", "'; echo no; '",
		`"; echo no; "`, "{x}", "a\nb", "# no", "-n", "!x", "é", "&& echo no", `\'`, `$`, `\$x`, "'\"'\"'", "E", "\nE\necho no\n", "\tE", "\n\tE\n", "\n",
	}
	bits := []string{"'", `"`, `\`, "$", "`", "(", ")", "{", "}", "echo no", "\n", "E", "\t", " ", "#", ";", "&", "|", "<", ">", "*", "a", "é", "\r"}
	for range n {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			b.WriteString(bits[rng.IntN(len(bits))])
		}
		list = append(list, b.String())
	}
	return list
}

// Whatever the value and wherever the placeholder stands, a real shell
// passes the value on unchanged.
func TestShellTemplateInAShell(t *testing.T) {
	t.Parallel()
	same := func(v string) string { return v }
	line := func(v string) string { return v + "\n" }
	tests := []struct {
		template string
		want     func(string) string
	}{
		{`printf %s {x}`, same},
		{`printf %s "{x}"`, same},
		{`printf %s '{x}'`, same},
		{`printf %s pre{x}post`, func(v string) string { return "pre" + v + "post" }},
		{`: it\'s "q'" 'q"'; printf %s {x}`, same},
		{`printf %s "$(printf %s. "{x}")"`, func(v string) string { return v + "." }},
		{"printf %s \"$(printf %s. '{x}' # don't {x}\n)\"", func(v string) string { return v + "." }},
		{`y=${HOME:-x}; z="${y}"; printf %s {x}`, same},
		{`(a=1; b=$((a + 1)); printf %s "{x}")`, same},
		{"# not {x}'\nprintf %s {x}", same},
		{"{ : {a,b}; : '{print $1}'; printf %s {x}; }", same},
		{"cat <<E\n{x}\nE", line},
		{"cat <<E\na {x}\"'{x}'\nE", func(v string) string { return "a " + v + `"'` + v + "'\n" }},
		{"cat <<-E\n\t\t{x}\n\tE", line},
		{"cat <<-EE\n\tE{x}\n\tEE", func(v string) string { return "E" + v + "\n" }},
		{"cat <<E\na\\\n{x}\nE", func(v string) string { return "a" + v + "\n" }},
		{"cat <<'E'\n{x}\nE", line},
		{"cat <<-\\E\n\t{x}\n\tE", line},
		{"cat <<E; printf %s '{x}'\n$((1<<2)) $(echo \"it's\")\nE", func(v string) string { return "4 it's\n" + v }},
		{"(cat <<E\n{x}.\nE\n)", func(v string) string { return v + ".\n" }},
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, tt := range tests {
		tmpl, err := ParseShellTemplate(tt.template)
		if err != nil {
			t.Fatalf("%s: %v", tt.template, err)
		}
		var script strings.Builder
		var values []string
		for _, v := range hostile(rng, 40) {
			text, err := tmpl.Execute(lookupIn(map[string]string{"x": v}))
			if err != nil {
				if !strings.Contains(tt.template, "<<'E'") && !strings.Contains(tt.template, `<<-\E`) {
					t.Fatal(err)
				}
				continue
			}
			values = append(values, v)
			script.WriteString(text + "\nprintf '\\000'\n")
		}
		if len(values) < 25 {
			t.Fatalf("%s admits only %d values", tt.template, len(values))
		}
		for _, sh := range shells(t) {
			out, err := exec.CommandContext(t.Context(), sh[0], append(sh[1:], "-c", script.String())...).CombinedOutput()
			got := strings.Split(string(out), "\x00")
			if err != nil || len(got) != len(values)+1 {
				t.Errorf("seed %d, %v, %q: %v, %d outputs of %d", seed, sh, tt.template, err, len(got)-1, len(values))
				continue
			}
			for i, v := range values {
				if got[i] != tt.want(v) {
					t.Errorf("seed %d, %v, %q of %q gives %q", seed, sh, tt.template, v, got[i])
				}
			}
		}
	}
}

// writeShell writes a random script that does nothing: a sequence of `:`.
func writeShell(rng *rand.Rand, b *strings.Builder, depth int) {
	inside := func() {
		if depth > 0 {
			writeShell(rng, b, depth-1)
		} else {
			b.WriteString(": {x}")
		}
	}
	text := func() {
		b.WriteString([]string{"", "a", "it's", " ", "#", "{x}", "\\", "\"", "$", ")", "E"}[rng.IntN(11)])
	}
	switch rng.IntN(16) {
	case 0:
		b.WriteString(": {x} ")
	case 1:
		b.WriteString(": \"")
		text()
		b.WriteString("{x}$(")
		inside()
		b.WriteString(")\"")
	case 2:
		b.WriteString(": 'a\"{x}' ")
	case 3:
		b.WriteString("(")
		inside()
		b.WriteString(")")
	case 4:
		b.WriteString(": $((")
		b.WriteString([]string{"1", "{x}", "1<<2", "(1+{x})", "$(: {x})1", "a<<E"}[rng.IntN(6)])
		b.WriteString("))")
	case 5, 6:
		head := []string{"<<E", "<<-E", "<<'E'", "<<\\E", "<<\"E\"", "<< E"}[rng.IntN(6)]
		b.WriteString(": " + head + " {x}")
		if rng.IntN(4) == 0 {
			inside()
		}
		b.WriteString("\n")
		for range rng.IntN(4) {
			text()
			if rng.IntN(3) > 0 {
				b.WriteString("{x}")
			}
			text()
			b.WriteString([]string{"\n", "\n", "\n\t", "\\\n", "$(: 'a')\n", "`:`\n"}[rng.IntN(6)])
		}
		b.WriteString("\nE\n")
	case 7:
		b.WriteString("# ")
		text()
		b.WriteString("{x}\n")
	case 8:
		b.WriteString(": ${y:-")
		text()
		b.WriteString("}")
	case 9:
		b.WriteString(": `: 'a'`")
	case 10:
		b.WriteString("case a in a) ")
		inside()
		b.WriteString(";; esac")
	case 11:
		b.WriteString(": $'a' $$ \\\n")
	case 12:
		b.WriteString("{ ")
		inside()
		b.WriteString("; }")
	default:
		inside()
		b.WriteString([]string{"\n", "; ", " && ", " ", "|", "\n# it's\n"}[rng.IntN(6)])
		inside()
	}
}

// No value breaks out of its place, in any script: right or wrong, and
// whichever shell reads it. The values try to write a file.
func TestShellTemplateHolds(t *testing.T) {
	t.Parallel()
	const scripts = 60
	dir := t.TempDir()
	attacks := []string{
		": >pwned", "$(: >pwned)", "`: >pwned`", "'; : >pwned; '", `"; : >pwned; "`, "\n: >pwned\n", "\nE\n: >pwned\n", "E\n: >pwned\n", "')); : >pwned; '",
		"'\n: >pwned\n'", "\"\n: >pwned\n\"", ")\n: >pwned\n", "}; : >pwned; ", "a[$(: >pwned)]", `\"; : >pwned; #`, `\'; : >pwned; #`, "\n\tE\n: >pwned", "\\\nE\n: >pwned\n",
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	bits := []string{"'", "\"", "\\", "$", "`", "(", ")", "{", "}", "\n", "E", "#", "<<E", "<<'E'", " ", "{x}", "$(", "$((", "((", "))", "${y:-", "\\\n", "case", "\t"}
	parsed, all := 0, shells(t)
	for range scripts {
		var b strings.Builder
		writeShell(rng, &b, 3)
		template := b.String()
		for range rng.IntN(3) {
			at := rng.IntN(len(template) + 1)
			template = template[:at] + bits[rng.IntN(len(bits))] + template[at:]
		}
		tmpl, err := ParseShellTemplate(template)
		if err != nil || len(tmpl.Names()) == 0 {
			continue
		}
		parsed++
		for _, i := range rng.Perm(len(attacks))[:4] {
			text, err := tmpl.Execute(lookupIn(map[string]string{"x": attacks[i]}))
			if err != nil {
				continue
			}
			sh := all[rng.IntN(len(all))]
			cmd := exec.CommandContext(t.Context(), sh[0], append(slices.Clone(sh[1:]), "-c", text)...)
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir}
			out, err := cmd.CombinedOutput() // most scripts are wrong
			if _, there := os.Stat(filepath.Join(dir, "pwned")); there == nil {
				t.Fatalf("seed %d: %v ran a value:\n%s\nof\n%s\n%v: %s", seed, sh, text, fmt.Sprintf("%q", template), err, out)
			}
		}
	}
	if parsed < scripts/10 {
		t.Errorf("only %d of %d scripts take values", parsed, scripts)
	}
}
