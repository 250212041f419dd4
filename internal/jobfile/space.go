// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"

	"github.com/volley-batch/volley/sharding"
)

// place turns an error of package sharding, which knows the key, into a
// diagnostic, which knows line and column.
func (d *decoder) place(root *node, err error, fallback string) {
	var e *sharding.Error
	if !errors.As(err, &e) {
		at, _, _ := root.find(fallback)
		d.err(at, fallback, "", "%s", err)
		return
	}
	path := e.Path
	if path == "" {
		path = fallback
	}
	msg := e.Msg
	if e.Err != nil {
		msg = fmt.Sprintf("%s: %s", msg, e.Err)
	}
	n, key, exact := root.find(path)
	if e.Offset >= 0 && n.scalar() && n.text == e.Value {
		d.diags = append(d.diags, n.diagIn(e.Offset, e.Offset+1, path, path+": "+msg, ""))
		return
	}
	if e.Value != "" {
		msg = fmt.Sprintf("%q %s", clip(e.Value, 60), msg)
	}
	if !exact && key != nil {
		n = key
	}
	d.diags = append(d.diags, n.diag(path, path+": "+msg, ""))
}
