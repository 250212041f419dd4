// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

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
	list := sharding.Placeholders(n.text)
	wrong := false
	for _, p := range list {
		switch p.Kind {
		case sharding.PlaceholderLiteral:
			continue
		case sharding.PlaceholderVariable:
			if msg, hint := sc.mistaken(n.text, p.Name, shell); msg != "" {
				used[p.Name] = true // one warning is enough
				d.warns = append(d.warns, n.diagIn(p.From-1, p.To, path, msg, hint))
			}
			continue
		case sharding.PlaceholderValue:
		}
		used[p.Name] = true
		msg, hint := sc.check(p.Name)
		if msg == "" {
			continue
		}
		diag := n.diagIn(p.From, p.To, path, msg, hint)
		if sc.open && indexOf(mapsOnly, p.Name) < 0 {
			d.warns = append(d.warns, diag)
			continue
		}
		d.diags = append(d.diags, diag)
		wrong = true
	}
	if wrong {
		return
	}
	parse := sharding.ParseTemplate
	if shell { // it has places where a value cannot be quoted safely
		parse = sharding.ParseShellTemplate
	}
	var e *sharding.Error
	if _, err := parse(n.text); errors.As(err, &e) && e.Offset >= 0 {
		end := e.Offset + 1
		for _, p := range list {
			if p.From == e.Offset {
				end = p.To
			}
		}
		d.diags = append(d.diags, n.diagIn(e.Offset, end, path, e.Msg, ""))
	}
}

// mistaken says why `${name}` looks as if `{name}` was meant: a parameter has
// that name, and the text does not set a variable of its own.
func (sc scope) mistaken(text, name string, shell bool) (msg, hint string) {
	if indexOf(sc.params, name) < 0 || sc.shared != "" || sets(text, name) {
		return "", ""
	}
	if shell {
		return fmt.Sprintf("${%s} is a variable of the shell, and not the parameter", name), fmt.Sprintf("write {%s}, or $VOLLEY_PARAM_%s", name, strings.ToUpper(name))
	}
	return fmt.Sprintf("${%s} stays as it is, and is not the parameter", name), fmt.Sprintf("write {%s}", name)
}

// sets reports whether a shell script seems to set the variable: `name=`, or
// name as a word behind for, read, export or local.
func sets(text, name string) bool {
	setter := false
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n;|&()`\"'", r) }) {
		switch w {
		case "for", "read", "export", "local", "readonly", "unset":
			setter = true
		case name:
			if setter {
				return true
			}
		default:
			setter = setter && !strings.HasPrefix(w, "$")
		}
		if strings.HasPrefix(w, name+"=") || strings.HasPrefix(w, name+"+=") {
			return true
		}
	}
	return false
}

func (sc scope) check(name string) (msg, hint string) {
	if indexOf(everywhere, name) >= 0 {
		return "", ""
	}
	if indexOf(mapsOnly, name) >= 0 {
		if sc.isMap {
			return "", ""
		}
		return fmt.Sprintf("{%s} is for maps, and this job has no map", name), literalHint(name)
	}
	if indexOf(sc.params, name) >= 0 {
		if sc.shared == "" {
			return "", ""
		}
		return fmt.Sprintf("{%s} is of one record, but with `shard: %s` a task gets many", name, sc.shared), "let the program read the file {records}, or remove `shard`"
	}
	candidates := append(append([]string{}, sc.params...), everywhere...)
	if sc.isMap {
		candidates = append(candidates, mapsOnly...)
	}
	switch near := nearest(name, candidates); {
	case near != "":
		hint = fmt.Sprintf("did you mean {%s}? F", near)
	case len(sc.params) > 0:
		hint = fmt.Sprintf("the %s: %s; f", sc.noun, clip(strings.Join(sc.params, ", "), 200))
	default:
		hint = fmt.Sprintf("this job has no parameters; add `sweep: {params: {%s: […]}}`; f", clip(name, 60))
	}
	return fmt.Sprintf("{%s} is not defined", clip(name, 60)), hint + literalHint(name)[1:]
}

// literalHint is for those who meant no placeholder.
func literalHint(name string) string {
	name = clip(name, 60)
	return fmt.Sprintf("for a literal {%s} write {{%s}}; in the shell ${%s} is left alone", name, name, name)
}

// holdsValue reports whether s has a placeholder for a value.
func holdsValue(s string) bool {
	for _, p := range sharding.Placeholders(s) {
		if p.Kind == sharding.PlaceholderValue {
			return true
		}
	}
	return false
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
