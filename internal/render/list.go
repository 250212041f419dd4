// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/proto"
)

// Format is how a listing is printed.
type Format string

// The formats of -o.
const (
	FormatTable Format = "table"
	FormatWide  Format = "wide"
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
	FormatName  Format = "name"
)

// Formats are all of them.
var Formats = []Format{FormatTable, FormatWide, FormatJSON, FormatYAML, FormatName}

// ParseFormat checks the value of -o.
func ParseFormat(s string) (Format, error) {
	for _, f := range Formats {
		if s == string(f) {
			return f, nil
		}
	}
	names := make([]string, len(Formats))
	for i, f := range Formats {
		names[i] = string(f)
	}
	return "", fmt.Errorf("output format %q: want one of %s", s, strings.Join(names, ", "))
}

// Column is one column of a listing.
type Column[T any] struct {
	Name  string
	Right bool
	// Wide columns are printed with -o wide only.
	Wide bool
	// Sparse columns are left out when no row has anything in them.
	Sparse bool
	Cell   func(T) string
	Paint  func(Style, T, string) string
}

// Listing prints messages of one type in every format.
type Listing[T proto.Message] struct {
	Columns []Column[T]
	// Name is what -o name prints.
	Name func(T) string
}

// Write prints all items, as one array in JSON and YAML. An error of the
// sequence ends it and is returned; what came before may be written already.
func (l Listing[T]) Write(w io.Writer, f Format, s Style, maxWidth int, items iter.Seq2[T, error]) error {
	switch f {
	case FormatJSON, FormatYAML:
		return l.array(w, f, items)
	case FormatName:
		for it, err := range items {
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(w, l.Name(it)); err != nil {
				return err
			}
		}
		return nil
	}
	return l.table(w, f, s, maxWidth, items)
}

func (l Listing[T]) table(w io.Writer, f Format, s Style, maxWidth int, items iter.Seq2[T, error]) error {
	var all []T
	var rows [][]string
	used := make([]bool, len(l.Columns))
	for it, err := range items {
		if err != nil {
			return err
		}
		row := make([]string, len(l.Columns))
		for i, c := range l.Columns {
			row[i] = c.Cell(it)
			used[i] = used[i] || row[i] != "" && row[i] != "-"
		}
		all, rows = append(all, it), append(rows, row)
	}
	t := Table{Style: s, MaxWidth: maxWidth}
	var keep []int
	for i, c := range l.Columns {
		if c.Wide && f != FormatWide || c.Sparse && !used[i] {
			continue
		}
		keep = append(keep, i)
		t.Header, t.Right = append(t.Header, c.Name), append(t.Right, c.Right)
	}
	for r, it := range all {
		cells := make([]string, len(keep))
		for i, k := range keep {
			cells[i] = rows[r][k]
		}
		t.Add(cells...)
		for i, k := range keep {
			if paint := l.Columns[k].Paint; paint != nil {
				t.Paint(i, func(text string) string { return paint(s, it, text) })
			}
		}
	}
	return t.Write(w)
}

func (l Listing[T]) array(w io.Writer, f Format, items iter.Seq2[T, error]) error {
	a := NewArray(w, f)
	for it, err := range items {
		if err != nil {
			return err
		}
		if err := a.Add(Message(it)); err != nil {
			return err
		}
	}
	return a.Close()
}

// Array writes objects as one array of JSON or YAML, each when it comes: a
// listing may have millions.
type Array struct {
	w     io.Writer
	f     Format
	items bool
}

// NewArray begins an array in FormatJSON or FormatYAML.
func NewArray(w io.Writer, f Format) *Array { return &Array{w: w, f: f} }

// Add writes the next element.
func (a *Array) Add(o Object) error {
	first := !a.items
	a.items = true
	if a.f == FormatYAML {
		return writeYAML(a.w, []any{o}) // sequences of one, one after the other, are one
	}
	b, err := indent(o, "  ")
	if err != nil {
		return err
	}
	sep := ",\n"
	if first {
		sep = "[\n"
	}
	_, err = fmt.Fprintf(a.w, "%s  %s", sep, b)
	return err
}

// Close writes the end. An array without it is incomplete.
func (a *Array) Close() error {
	end := "[]\n"
	switch {
	case a.items && a.f == FormatYAML:
		return nil
	case a.items:
		end = "\n]\n"
	}
	_, err := io.WriteString(a.w, end)
	return err
}

// One prints a single object as JSON or YAML.
func One(w io.Writer, f Format, o Object) error {
	if f == FormatYAML {
		return writeYAML(w, o)
	}
	b, err := indent(o, "")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

func indent(o Object, prefix string) ([]byte, error) {
	b, err := o.Compact()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = json.Indent(&buf, b, prefix, "  ")
	return buf.Bytes(), err
}

func writeYAML(w io.Writer, v any) error {
	b, err := yaml.MarshalWithOptions(forYAML(v), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = w.Write(b)
	return err
}

// Slice is a slice as the sequence that Write takes.
func Slice[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}
