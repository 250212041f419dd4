// SPDX-License-Identifier: Apache-2.0

package sharding

import "strings"

// PlaceholderKind is what braces around a name mean.
type PlaceholderKind uint8

const (
	// PlaceholderValue is `{name}`: the value of the parameter.
	PlaceholderValue PlaceholderKind = iota
	// PlaceholderLiteral is `{{name}}`, which stands for `{name}`.
	PlaceholderLiteral
	// PlaceholderVariable is `${name}`, which belongs to whatever reads the
	// text, such as a shell, and stays as it is.
	PlaceholderVariable
)

// Placeholder is a name in braces inside a template.
type Placeholder struct {
	Kind PlaceholderKind
	Name string
	// From and To are the bytes from the first `{` to behind the last `}`,
	// as many as belong to it.
	From, To int
}

// Placeholders finds every name in braces, in order. A name is a letter or
// '_', then letters, digits and '_'. Braces around anything else are text:
// `${HOME:-none}`, `{ echo a; }`, `{a,b}`, `{"json": 1}`, `{}`. To demand
// that they be doubled would break the shell lines and JSON that people have.
//
// Doubling works around a name alone, and as often as there are pairs: of k
// pairs k/2 are text, and where k is odd the innermost one holds the value:
// `{{name}}` is {name}, `{{{name}}}` is the value in braces. Braces without a
// partner on the other side are text: `{"a": {x}}` ends with one.
func Placeholders(src string) []Placeholder {
	var list []Placeholder
	for i := 0; i < len(src); {
		at := strings.IndexByte(src[i:], '{')
		if at < 0 {
			break
		}
		open := i + at
		name := open
		for name < len(src) && src[name] == '{' {
			name++
		}
		end := name
		for end < len(src) && (isLetter(src[end]) || end > name && src[end] >= '0' && src[end] <= '9') {
			end++
		}
		i = end
		if end == name {
			continue
		}
		pairs := 0
		for end+pairs < len(src) && pairs < name-open && src[end+pairs] == '}' {
			pairs++
		}
		if pairs == 0 {
			continue
		}
		p := Placeholder{Name: src[name:end], From: name - pairs, To: end + pairs}
		switch {
		case pairs%2 == 0:
			p.Kind = PlaceholderLiteral
		case name-open == 1 && open > 0 && src[open-1] == '$':
			p.Kind = PlaceholderVariable
		}
		list = append(list, p)
		i = p.To
	}
	return list
}

// inner is how many braces on either side are text.
func (p Placeholder) inner() int {
	pairs := (p.To - p.From - len(p.Name)) / 2
	if p.Kind == PlaceholderVariable {
		return pairs
	}
	return pairs / 2
}
