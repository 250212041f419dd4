// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"slices"
	"strings"
)

// Template is a command word, an environment value or a shell line with
// `{name}` for parameters and `{{`, `}}` for literal braces; parsed once,
// executed per point. It is immutable and safe for concurrent use.
type Template struct {
	src   string
	parts []part
	names []string
	size  int // of the literals
}

// part is a literal followed by a parameter; the last part may lack one.
type part struct {
	literal string
	name    string
	offset  int
	quote   quoting
}

// Lookup appends the text of a name; false when there is none such.
type Lookup func(dst []byte, name string) ([]byte, bool)

// ParseTemplate parses a template whose values are inserted as they are. An
// error is an *Error with the byte offset and no Path.
func ParseTemplate(src string) (*Template, error) {
	t := &Template{src: src}
	var literal strings.Builder
	for i := 0; i < len(src); {
		brace := strings.IndexAny(src[i:], "{}")
		if brace < 0 {
			literal.WriteString(src[i:])
			break
		}
		literal.WriteString(src[i : i+brace])
		i += brace
		if i+1 < len(src) && src[i+1] == src[i] { // {{ or }}
			literal.WriteByte(src[i])
			i += 2
			continue
		}
		if src[i] == '}' {
			return nil, templateError(src, i, "a } without {; write }} for a literal brace")
		}
		end := strings.IndexAny(src[i+1:], "{}")
		if end < 0 || src[i+1+end] == '{' {
			return nil, templateError(src, i, "this { is not closed; write {{ for a literal brace")
		}
		name := src[i+1 : i+1+end]
		if !ValidName(name) {
			return nil, templateError(src, i, "{"+clipText(name)+"} is not a parameter name; write {{ and }} for literal braces")
		}
		t.parts = append(t.parts, part{literal: literal.String(), name: name, offset: i})
		t.size += literal.Len()
		literal.Reset()
		if !slices.Contains(t.names, name) {
			t.names = append(t.names, name)
		}
		i += end + 2
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
		t.size += literal.Len()
	}
	return t, nil
}

func templateError(src string, offset int, msg string) error {
	return &Error{Value: src, Msg: msg, Offset: offset}
}

// String is the template as it was written.
func (t *Template) String() string { return t.src }

// Names are the names used, each once, in the order of first use.
func (t *Template) Names() []string { return slices.Clone(t.names) }

// Append appends the text of the template to dst; it allocates nothing
// beyond that. A name that lookup does not know is an *Error.
func (t *Template) Append(dst []byte, lookup Lookup) ([]byte, error) {
	for i := range t.parts {
		p := &t.parts[i]
		dst = append(dst, p.literal...)
		if p.name == "" {
			continue
		}
		start := len(dst)
		var ok bool
		if dst, ok = lookup(dst, p.name); !ok {
			return dst[:start], templateError(t.src, p.offset, "there is no parameter "+p.name)
		}
		if p.quote != verbatim {
			dst = p.quote.apply(dst, start)
		}
	}
	return dst, nil
}

// AppendPoint appends the text for one point. A parameter that this point
// lacks because of `when` is empty; names that its space does not have go to
// extra (index, attempt, job), which may be nil.
func (t *Template) AppendPoint(dst []byte, p Point, extra Lookup) ([]byte, error) {
	return t.Append(dst, func(dst []byte, name string) ([]byte, bool) {
		if p.names != nil {
			if i, ok := p.names.index[name]; ok {
				return p.values[i].AppendText(dst), true
			}
		}
		if extra != nil {
			return extra(dst, name)
		}
		return dst, false
	})
}

// Execute returns the text of the template.
func (t *Template) Execute(lookup func(name string) (string, bool)) (string, error) {
	out, err := t.Append(make([]byte, 0, t.size+16*len(t.parts)), func(dst []byte, name string) ([]byte, bool) {
		v, ok := lookup(name)
		return append(dst, v...), ok
	})
	if err != nil {
		return "", err
	}
	return string(out), nil
}

// Expand is ParseTemplate and Execute in one.
func Expand(template string, lookup func(name string) (string, bool)) (string, error) {
	t, err := ParseTemplate(template)
	if err != nil {
		return "", err
	}
	return t.Execute(lookup)
}

// TemplateNames are the names that a template uses, in the order of first
// use.
func TemplateNames(template string) ([]string, error) {
	t, err := ParseTemplate(template)
	if err != nil {
		return nil, err
	}
	return t.names, nil
}
