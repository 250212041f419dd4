// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// placeholder is one `{name}` of a text, by byte offsets.
type placeholder struct {
	name     string
	from, to int
	// bad says why this is not a placeholder; empty when it is one.
	bad string
}

// placeholders finds every `{name}` of s. Package sharding expands them; this
// is the same grammar with places, and a test holds the two together.
func placeholders(s string) []placeholder {
	var list []placeholder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			i += 2
		case s[i] == '}':
			list = append(list, placeholder{from: i, to: i + 1, bad: "`}` without `{`"})
			i++
		case s[i] == '{':
			n := strings.IndexAny(s[i+1:], "{}")
			if n < 0 || s[i+1+n] != '}' {
				list = append(list, placeholder{from: i, to: i + 1, bad: "`{` without `}`"})
				i++
				continue
			}
			p := placeholder{name: s[i+1 : i+1+n], from: i, to: i + n + 2}
			if !sharding.ValidName(p.name) {
				p.bad = fmt.Sprintf("{%s} is not a placeholder", clip(p.name, 60))
			}
			list = append(list, p)
			i = p.to
		default:
			i++
		}
	}
	return list
}

// scope is what placeholders may name.
type scope struct {
	// params of the sweep or columns of the map, in order.
	params []string
	// what they are called in messages.
	noun string
	// isMap admits {records}, {first} and {count}.
	isMap bool
	// shared says that a task has many records, so that none of their fields
	// is the one to put in; the text is the shard, for the message.
	shared string
	// open scopes have parameters that only the data knows (JSON records
	// that differ); an unknown name is a warning.
	open bool
}

var (
	everywhere = []string{"index", "attempt", "job", "size"}
	mapsOnly   = []string{"records", "first", "count"}
)

// templates checks every place that takes placeholders and reports which
// names are used.
func (d *decoder) templates(root *node, sc scope) map[string]bool {
	used := map[string]bool{}
	for i, it := range listItems(root.get("command")) {
		d.template(it, elem("command", i), sc, used, false)
	}
	if n := root.get("run"); n != nil {
		d.template(n, "run", sc, used, true)
	}
	if env := root.get("env"); env != nil {
		for _, e := range env.entries {
			d.template(e.val, join("env", e.key.text), sc, used, false)
		}
	}
	return used
}

func (d *decoder) template(n *node, path string, sc scope, used map[string]bool, shell bool) {
	if !n.scalar() {
		return
	}
	wrong := false
	for _, p := range placeholders(n.text) {
		used[p.name] = true
		msg, hint := sc.check(p)
		if msg == "" {
			continue
		}
		if shell && p.from > 0 && n.text[p.from-1] == '$' && p.name != "" {
			hint = fmt.Sprintf("for a variable of the shell write ${{%s}}", p.name)
		}
		diag := n.diagIn(p.from, p.to, path, msg, hint)
		if sc.open && p.bad == "" && indexOf(mapsOnly, p.name) < 0 {
			d.warns = append(d.warns, diag)
			continue
		}
		d.diags = append(d.diags, diag)
		wrong = true
	}
	if !shell || wrong {
		return
	}
	// A shell line has places where a value cannot be quoted safely.
	var e *sharding.Error
	if _, err := sharding.ParseShellTemplate(n.text); errors.As(err, &e) && e.Offset >= 0 {
		end := e.Offset + 1
		for _, p := range placeholders(n.text) {
			if p.from == e.Offset {
				end = p.to
			}
		}
		d.diags = append(d.diags, n.diagIn(e.Offset, end, path, e.Msg, ""))
	}
}

func (sc scope) check(p placeholder) (msg, hint string) {
	if p.bad != "" {
		return p.bad, "double the braces for literal ones: {{ and }}"
	}
	if indexOf(everywhere, p.name) >= 0 {
		return "", ""
	}
	if indexOf(mapsOnly, p.name) >= 0 {
		if sc.isMap {
			return "", ""
		}
		return fmt.Sprintf("{%s} is for maps, and this job has no map", p.name), ""
	}
	if indexOf(sc.params, p.name) >= 0 {
		if sc.shared == "" {
			return "", ""
		}
		return fmt.Sprintf("{%s} is of one record, but with `shard: %s` a task gets many", p.name, sc.shared), "let the program read the file {records}, or remove `shard`"
	}
	msg = fmt.Sprintf("{%s} is not defined", p.name)
	candidates := append(append([]string{}, sc.params...), everywhere...)
	if sc.isMap {
		candidates = append(candidates, mapsOnly...)
	}
	switch near := nearest(p.name, candidates); {
	case near != "":
		hint = fmt.Sprintf("did you mean {%s}?", near)
	case len(sc.params) > 0:
		hint = fmt.Sprintf("the %s: %s", sc.noun, clip(strings.Join(sc.params, ", "), 200))
	default:
		hint = fmt.Sprintf("this job has no parameters; add `sweep: {params: {%s: […]}}`, or double the braces for literal ones", p.name)
	}
	return msg, hint
}

// sweepScope is the scope of a sweep whose parameters are known.
func sweepScope(sw *volleyv1.Sweep) scope {
	sc := scope{noun: "parameters of the sweep"}
	for _, p := range sw.GetParams() {
		sc.params = append(sc.params, p.GetName())
	}
	sc.params = append(sc.params, sw.GetTable().GetColumns()...)
	return sc
}

// mapScope is the scope of a map with these columns.
func mapScope(m *volleyv1.Map, columns []string, open bool) scope {
	sc := scope{params: columns, noun: "fields of a record", isMap: true, open: open}
	switch by := m.GetShard().GetBy().(type) {
	case *volleyv1.Shard_Rows:
		if by.Rows > 1 {
			sc.shared = fmt.Sprintf("{rows: %d}", by.Rows)
		}
	case *volleyv1.Shard_Bytes:
		sc.shared = "{bytes: …}"
	case *volleyv1.Shard_TargetMs:
		sc.shared = "{target: …}"
	}
	return sc
}

// unused warns of parameters that the command never sees. `repeat` alone is a
// reason to exist.
func (d *decoder) unused(root *node, sw *volleyv1.Sweep, used map[string]bool) {
	if strings.Contains(strings.Join(d.spec.GetCommand(), " ")+d.spec.GetRun(), "VOLLEY_PARAM") {
		return
	}
	params := root.get("sweep").get("params")
	for _, p := range sw.GetParams() {
		e := params.entry(p.GetName())
		if e == nil || used[p.GetName()] {
			continue
		}
		if _, ok := p.GetAxis().(*volleyv1.Param_Repeat); ok {
			continue
		}
		path := join("sweep.params", p.GetName())
		d.warns = append(d.warns, e.key.diag(path,
			fmt.Sprintf("parameter %q is not used in command, run or env", p.GetName()),
			fmt.Sprintf("put {%s} where it belongs; the tasks also find it in VOLLEY_PARAM_%s", p.GetName(), strings.ToUpper(p.GetName()))))
	}
}
