// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"slices"
	"strings"
)

// Template is a command word, an environment value or a shell line with
// placeholders (see Placeholders); parsed once, executed per point. It is
// immutable and safe for concurrent use.
type Template struct {
	src   string
	parts []part
	names []string
	docs  []hereDocument // see checkDocuments
	size  int            // of the literals
}

// part is a literal followed by a parameter; the last part may lack one.
type part struct {
	literal string
	name    string
	offset  int
	quote   quoting
	// guard keeps the line of a here-document from becoming its end.
	guard bool
}

// Lookup appends the text of a name; false when there is none such.
type Lookup func(dst []byte, name string) ([]byte, bool)

// ParseTemplate parses a template whose values are inserted as they are. The
// one text that is refused holds a NUL byte, which no program can be given. An
// error is an *Error with the byte offset and no Path.
func ParseTemplate(src string) (*Template, error) {
	if nul := strings.IndexByte(src, 0); nul >= 0 {
		return nil, templateError(src, nul, "a NUL byte ends a word for every program; leave it out")
	}
	t := &Template{src: src}
	var literal strings.Builder
	done := 0
	for _, p := range Placeholders(src) {
		literal.WriteString(src[done:p.From])
		done = p.To
		inner := p.inner()
		literal.WriteString(src[p.From : p.From+inner])
		if p.Kind == PlaceholderValue {
			t.parts = append(t.parts, part{literal: literal.String(), name: p.Name, offset: p.From})
			t.size += literal.Len()
			literal.Reset()
			if !slices.Contains(t.names, p.Name) {
				t.names = append(t.names, p.Name)
			}
		} else {
			literal.WriteString(p.Name)
		}
		literal.WriteString(src[p.To-inner : p.To])
	}
	literal.WriteString(src[done:])
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
// beyond that (but for values in here-documents and quotes). A name that lookup does not know is an *Error, and so is a
// value that cannot stand where a shell line has put it.
func (t *Template) Append(dst []byte, lookup Lookup) ([]byte, error) {
	first := len(dst)
	var at []int
	for i := range t.parts {
		p := &t.parts[i]
		if t.docs != nil {
			at = append(at, len(dst)-first)
		}
		dst = append(dst, p.literal...)
		if p.name == "" {
			continue
		}
		start := len(dst)
		var ok bool
		if dst, ok = lookup(dst, p.name); !ok {
			return dst[:start], templateError(t.src, p.offset, "there is no parameter "+p.name+"; for a literal {"+p.name+"} write {{"+p.name+"}}")
		}
		if p.quote == verbatim {
			continue
		}
		var wrong string
		if dst, wrong = p.apply(dst, start); wrong != "" {
			return dst[:start], templateError(t.src, p.offset, "the value of "+p.name+" "+wrong)
		}
	}
	if t.docs == nil {
		return dst, nil
	}
	return dst, t.checkDocuments(dst[first:], append(at, len(dst)-first))
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
