// SPDX-License-Identifier: Apache-2.0

package export

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/volley-batch/volley/internal/render"
)

// objectWriter takes one object for each row.
type objectWriter interface {
	Add(o render.Object) error
	Close() error
}

// objectEncoder writes rows as objects with the columns as fields.
type objectEncoder struct {
	w objectWriter
	o render.Object
}

func newObjects(cols []*column, w objectWriter) *objectEncoder {
	e := &objectEncoder{w: w, o: make(render.Object, len(cols))}
	for i, c := range cols {
		e.o[i].Name = c.name
	}
	return e
}

func (e *objectEncoder) row(cells []value) error {
	for i, v := range cells {
		switch v := v.(type) {
		case time.Time:
			e.o[i].Value = v.Format(isoMillis)
		case float64:
			// 1.0 and not 1: readers type a column by its values.
			e.o[i].Value = v
			if s := formatFloat(v); !strings.ContainsAny(s, ".eEIN") {
				e.o[i].Value = json.Number(s + ".0")
			}
		default:
			e.o[i].Value = v
		}
	}
	return e.w.Add(e.o)
}

func (e *objectEncoder) close() error { return e.w.Close() }

// lines writes JSON lines.
type lines struct{ w io.Writer }

func (l *lines) Add(o render.Object) error {
	b, err := o.Compact()
	if err != nil {
		return err
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}

func (*lines) Close() error { return nil }
