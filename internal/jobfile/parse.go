// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// document is a parsed file with the places of everything in it.
type document struct {
	root *node
	dec  *decoder
	// size is the number of indexes as far as the text says it; 0: the disk
	// does.
	size uint64
}

// Parse reads the text of a job file without looking at the disk; name stands
// in its diagnostics. The error is an *Error.
func Parse(name string, src []byte) (*File, error) {
	return parse(name, src, nil)
}

func parse(name string, src []byte, set []string) (*File, error) {
	text, ds := normalise(name, src)
	if ds != nil {
		return nil, &Error{ds}
	}
	root, ds := parseYAML(newSource(name, text), text)
	if ds == nil {
		ds = override(root, set)
	}
	if ds != nil {
		return nil, &Error{sortDiagnostics(ds)}
	}
	d := &decoder{spec: &volleyv1.JobSpec{}}
	doc := &document{root: root, dec: d}
	d.decode(doc)
	if len(d.diags) > 0 {
		return nil, d.error()
	}
	return &File{Name: name, Spec: d.spec, Warnings: sortDiagnostics(d.warns), doc: doc}, nil
}

func (d *decoder) error() *Error { return &Error{sortDiagnostics(d.diags)} }

func (d *decoder) decode(doc *document) {
	root := doc.root
	if root.kind == kindMap && len(root.entries) == 0 {
		d.err(root, "", "a smallest job file is `command: [/bin/true]`", "the job file is empty")
		return
	}
	if !readFields(d, root, "", jobFields, d.spec) {
		return
	}
	d.crossCheck(root)
	if len(d.diags) > 0 {
		return
	}
	switch k := d.spec.GetSpace().GetKind().(type) {
	case nil:
		doc.size = 1
		d.templates(root, scope{})
	case *volleyv1.Space_Array:
		doc.size = k.Array
		d.templates(root, scope{})
	case *volleyv1.Space_Sweep:
		if k.Sweep.GetSampler() == volleyv1.Sampler_SAMPLER_FILE {
			d.syntaxOnly(root)
			return
		}
		doc.size = d.sweepSpace(root, k.Sweep)
	case *volleyv1.Space_Map:
		d.syntaxOnly(root)
	}
}

// syntaxOnly checks placeholders whose names only the disk knows: their
// braces, and nothing else.
func (d *decoder) syntaxOnly(root *node) {
	seen := len(d.warns)
	isMap := root.get("map") != nil
	d.templates(root, scope{isMap: isMap, open: true})
	d.warns = d.warns[:seen]
}

// tooManyCells bounds a table whose rows have few columns in common.
func tooManyCells(rows, columns int) (string, bool) {
	const most = 16 << 20
	if rows*columns <= most {
		return "", false
	}
	return fmt.Sprintf("%d rows of %d columns are more than %d cells", rows, columns, most), true
}
