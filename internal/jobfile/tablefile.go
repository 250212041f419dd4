// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

const (
	// MaxTableRows is the number of points of a `sampler: file`.
	MaxTableRows  = 1_000_000
	maxTableBytes = 64 << 20
)

// tableFile reads the points of a `sampler: file`. It stops at the first
// mistake: in a generated file one is often as many as there are rows.
type tableFile struct {
	ctx   context.Context //nolint:containedctx // lives for one file
	name  string
	text  []byte
	build tableBuilder
	// values that occurred, so that a million rows of three choices are not
	// three million messages.
	values map[string]*volleyv1.Value
}

func newTableFile(ctx context.Context, name string, text []byte) *tableFile {
	return &tableFile{ctx: ctx, name: name, text: text, values: map[string]*volleyv1.Value{}}
}

// readTable returns nil when it has reported what is wrong.
func (l *loader) readTable(ctx context.Context, root *node) (*volleyv1.Table, error) {
	const path = "sweep.file"
	n := root.get("sweep").get("file")
	file := filepath.FromSlash(n.text)
	abs, name := file, file
	if !filepath.IsAbs(file) {
		abs, name = filepath.Join(l.dir, file), filepath.Join(filepath.Dir(l.Name), file)
	}
	t := newTableFile(ctx, name, nil)
	var read func() *Diagnostic
	switch ext := strings.ToLower(filepath.Ext(abs)); ext {
	case ".csv":
		read = func() *Diagnostic { return t.csv(',') }
	case ".tsv", ".tab":
		read = func() *Diagnostic { return t.csv('\t') }
	case ".jsonl", ".ndjson":
		read = t.jsonl
	default:
		l.d.err(n, path, "name it .csv, .tsv, .jsonl or .ndjson", "%s: %s is not a table that can be read", path, n.describe())
		return nil, nil
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := ""
		if near := nearestFile(abs, false); near != "" {
			hint = fmt.Sprintf("did you mean %s?", beside(n.text, near))
		}
		l.d.err(n, path, hint, "%s: %s: no such file", path, clip(n.text, 200))
		return nil, nil
	case err != nil:
		l.d.err(n, path, "", "%s: %s: %s", path, clip(n.text, 200), reason(err))
		return nil, nil
	case !info.Mode().IsRegular():
		l.d.err(n, path, "", "%s: %s is not a regular file", path, clip(n.text, 200))
		return nil, nil
	case info.Size() > maxTableBytes:
		l.d.err(n, path, "use `map: {over: …}` for data sets", "%s: %s has %d MiB; a table of points has at most %d", path, clip(n.text, 200), info.Size()>>20, maxTableBytes>>20)
		return nil, nil
	}
	if t.text, err = os.ReadFile(abs); err != nil {
		l.d.err(n, path, "", "%s: %s: %s", path, clip(n.text, 200), reason(err))
		return nil, nil
	}
	t.text = bytes.TrimPrefix(t.text, []byte("\uFEFF"))
	diag := read()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if diag == nil && len(t.build.rows) == 0 {
		l.d.err(n, path, "", "%s: %s has no rows: an empty sweep does nothing", path, clip(n.text, 200))
		return nil, nil
	}
	if diag == nil {
		if msg, bad := tooManyCells(len(t.build.rows), len(t.build.columns)); bad {
			diag = t.at(0, 0, msg, "")
		}
	}
	if diag != nil {
		diag.Path = path
		l.d.diags = append(l.d.diags, *diag)
		return nil, nil
	}
	return t.build.table(), nil
}

// at is a diagnostic in the table; col counts bytes from 1.
func (t *tableFile) at(line, col int, msg, hint string) *Diagnostic {
	if line == 0 {
		return &Diagnostic{File: t.name, Message: msg, Hint: hint}
	}
	text := ""
	for i, l := 1, t.text; ; i++ {
		head, tail, more := bytes.Cut(l, []byte("\n"))
		if i == line {
			text = strings.ToValidUTF8(strings.TrimSuffix(string(head), "\r"), "\uFFFD")
			break
		}
		if !more {
			break
		}
		l = tail
	}
	col = min(max(col, 1), len(text)+1)
	d := newSource(t.name, text).at(1, utf8.RuneCountInString(text[:col-1])+1, 1, "", msg, hint)
	d.Line = line
	return &d
}

func (t *tableFile) full() bool { return len(t.build.rows) >= MaxTableRows }

var errRows = fmt.Sprintf("more than %d rows", MaxTableRows)

func (t *tableFile) csv(comma rune) *Diagnostic {
	r := csv.NewReader(bytes.NewReader(t.text))
	r.Comma = comma
	r.ReuseRecord = true
	r.FieldsPerRecord = -1 // counted here, for a better message
	var header []string
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			if header == nil {
				return t.at(0, 0, "the table is empty", "its first line names the parameters")
			}
			return nil
		}
		if err != nil {
			if pe, ok := errors.AsType[*csv.ParseError](err); ok {
				return t.at(pe.Line, pe.Column, pe.Err.Error(), "a field with quotes is quoted as a whole, and each quote in it doubled")
			}
			return t.at(0, 0, err.Error(), "")
		}
		if header == nil {
			header = append([]string{}, rec...)
			for i, name := range header {
				line, col := r.FieldPos(i)
				header[i] = strings.TrimSpace(name)
				if d := t.column(header[i], line, col); d != nil {
					return d
				}
				if len(t.build.columns) != i+1 {
					return t.at(line, col, fmt.Sprintf("column %q is there twice", clip(header[i], 60)), "")
				}
			}
			continue
		}
		line, col := r.FieldPos(0)
		if len(rec) != len(header) {
			return t.at(line, col, fmt.Sprintf("this row has %d fields, the header has %d", len(rec), len(header)), "")
		}
		if t.full() {
			return t.at(line, col, errRows, "use `map: {over: …}` for data sets")
		}
		if len(t.build.rows)%1024 == 0 && t.ctx.Err() != nil {
			return nil
		}
		row := t.build.row()
		for i, cell := range rec {
			v, msg := t.cell(cell)
			if msg != "" {
				line, col := r.FieldPos(i)
				return t.at(line, col, fmt.Sprintf("%s: %s", header[i], msg), "")
			}
			if v != nil {
				t.build.set(row, header[i], v)
			}
		}
	}
}

// cell reads a field of a CSV as the same text in a job file would be read;
// an empty one is absent.
func (t *tableFile) cell(s string) (v *volleyv1.Value, msg string) {
	if v, ok := t.values[s]; ok {
		return v, ""
	}
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return nil, "this is not text in UTF-8"
	}
	var n node
	n.resolve(strings.TrimSpace(s))
	if n.kind == kindString {
		n.text = s
	} else if n.kind != kindNull {
		n.text = strings.TrimSpace(s)
	}
	if v, msg = plainValue(&n); msg == "" {
		t.remember(s, v)
	}
	return v, msg
}

func (t *tableFile) remember(s string, v *volleyv1.Value) {
	const most = 1 << 16
	if len(t.values) < most {
		t.values[strings.Clone(s)] = v
	}
}

// plainValue is the value of a scalar outside of YAML.
func plainValue(n *node) (*volleyv1.Value, string) {
	if n.kind == kindNull {
		return nil, ""
	}
	n.src = newSource("", "")
	var d decoder
	v, ok := d.value(n, "")
	if !ok {
		return nil, strings.TrimPrefix(d.diags[0].Message, ": ")
	}
	return v, ""
}

func (t *tableFile) column(name string, line, col int) *Diagnostic {
	switch {
	case !sharding.ValidName(name) || len(name) > maxName:
		return t.at(line, col, fmt.Sprintf("%q is not the name of a parameter", clip(name, 60)), "a letter or '_', then letters, digits and '_'")
	case indexOf(reserved, name) >= 0:
		return t.at(line, col, fmt.Sprintf("{%s} has a meaning of its own: it cannot be a parameter", name), "choose another name")
	}
	if _, ok := t.build.column(name); !ok {
		return t.at(line, col, fmt.Sprintf("more than %d columns", sharding.MaxParams), "")
	}
	return nil
}

// jsonl reads one JSON object in each line; its keys are the parameters.
func (t *tableFile) jsonl() *Diagnostic {
	rest := t.text
	for line := 1; len(rest) > 0; line++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if t.full() {
			return t.at(line, 1, errRows, "use `map: {over: …}` for data sets")
		}
		if line%1024 == 1 && t.ctx.Err() != nil {
			return nil
		}
		if d := t.object(text, line); d != nil {
			return d
		}
	}
	return nil
}

func (t *tableFile) object(text []byte, line int) *Diagnostic {
	const want = `write one object in each line, such as {"lr": 0.1}`
	if !utf8.Valid(text) {
		return t.at(line, 1, "this is not text in UTF-8", "")
	}
	// The whole line first: the offsets of the token reader's own errors are
	// not those of the line.
	if err := json.Unmarshal(text, new(json.RawMessage)); err != nil {
		col := len(text)
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			col = int(se.Offset)
		}
		return t.at(line, col, "this is not JSON: "+err.Error(), want)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return t.at(line, 1, "this is not a JSON object", want)
	}
	row, seen := t.build.row(), map[string]bool{}
	for dec.More() {
		keyAt := nextToken(text, int(dec.InputOffset()))
		tok, err := dec.Token()
		if err != nil {
			return t.at(line, keyAt+1, err.Error(), want)
		}
		key, _ := tok.(string) // inside an object it is one
		if d := t.column(key, line, keyAt+1); d != nil {
			return d
		}
		if seen[key] {
			return t.at(line, keyAt+1, fmt.Sprintf("key %q is there twice", clip(key, 60)), "")
		}
		seen[key] = true
		valueAt := nextToken(text, int(dec.InputOffset()))
		if tok, err = dec.Token(); err != nil {
			return t.at(line, valueAt+1, err.Error(), want)
		}
		v, msg := jsonValue(tok)
		if msg != "" {
			return t.at(line, valueAt+1, fmt.Sprintf("%s: %s", key, msg), "")
		}
		if v != nil {
			t.build.set(row, key, v)
		}
	}
	return nil
}

// nextToken skips what may stand between two tokens of an object.
func nextToken(text []byte, at int) int {
	for at < len(text) && bytes.IndexByte([]byte(" \t\r,:"), text[at]) >= 0 {
		at++
	}
	return at
}

func jsonValue(tok json.Token) (*volleyv1.Value, string) {
	switch v := tok.(type) {
	case nil:
		return nil, ""
	case bool:
		return &volleyv1.Value{Kind: &volleyv1.Value_BoolValue{BoolValue: v}}, ""
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return nil, "text with a zero byte"
		}
		return &volleyv1.Value{Kind: &volleyv1.Value_StringValue{StringValue: v}}, ""
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return &volleyv1.Value{Kind: &volleyv1.Value_IntValue{IntValue: n}}, ""
		}
		f, err := v.Float64()
		if err != nil || math.IsInf(f, 0) || isInteger(strings.TrimPrefix(v.String(), "-"), 10) {
			return nil, fmt.Sprintf("%s does not fit", clip(v.String(), 60))
		}
		return &volleyv1.Value{Kind: &volleyv1.Value_DoubleValue{DoubleValue: f}}, ""
	}
	return nil, "a value is a number, text, true or false, not a list or an object"
}
