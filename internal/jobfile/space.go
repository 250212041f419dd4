// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// sweepSpace validates the space and what refers to it, and returns its size.
func (d *decoder) sweepSpace(root *node, sw *volleyv1.Sweep) uint64 {
	sc := sweepScope(sw)
	used := d.templates(root, sc)
	d.unused(root, sw, used)
	d.sameUpper(root, sc.params)
	space, err := sharding.NewSpace(sw)
	if err != nil {
		d.place(root, err, "sweep", sc.params)
		return 0
	}
	return space.Len()
}

// place turns an error of package sharding, which knows the key, into a
// diagnostic, which knows line and column. names are what an expression may
// hold.
func (d *decoder) place(root *node, err error, fallback string, names []string) {
	var e *sharding.Error
	if !errors.As(err, &e) {
		d.err(root.find(fallback).node, fallback, "", "%s: %s", fallback, err)
		return
	}
	if e.Path == "" {
		e.Path = fallback
	}
	msg := e.Msg
	if e.Err != nil {
		msg = fmt.Sprintf("%s: %s", msg, e.Err)
	}
	at := root.find(e.Path)
	path := e.Path
	if at.exact {
		path = at.path
	}
	if e.Offset >= 0 && at.scalar() && at.text == e.Value {
		word := identifier(e.Value[min(e.Offset, len(e.Value)):])
		hint := ""
		if near := nearest(word, names); near != "" && near != word {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		d.diags = append(d.diags, at.diagIn(e.Offset, e.Offset+max(len(word), 1), path, path+": "+msg, hint))
		return
	}
	n := at.node
	if !at.exact {
		if at.key != nil {
			n = at.key
		}
		if e.Value != "" {
			msg = fmt.Sprintf("%q %s", clip(e.Value, 60), msg)
		}
	}
	d.diags = append(d.diags, n.diag(path, path+": "+msg, ""))
}

// identifier is the name that s begins with, if any.
func identifier(s string) string {
	rest := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
	return s[:len(s)-len(rest)]
}

// sameUpper warns of parameters that share their environment variable.
func (d *decoder) sameUpper(root *node, params []string) {
	seen := make(map[string]string, len(params))
	for _, p := range params {
		up := strings.ToUpper(p)
		if first, ok := seen[up]; ok {
			path := join("sweep.params", p)
			at := root.find(path)
			n := at.node
			if at.key != nil {
				n = at.key
			}
			d.warns = append(d.warns, n.diag(path, fmt.Sprintf("parameters %q and %q differ in case only: both are VOLLEY_PARAM_%s", first, p, up), "rename one of them, or read VOLLEY_PARAMS"))
			continue
		}
		seen[up] = p
	}
}
