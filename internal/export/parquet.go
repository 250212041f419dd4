// SPDX-License-Identifier: Apache-2.0

package export

import (
	"io"
	"reflect"
	"time"

	"github.com/parquet-go/parquet-go"
)

const (
	// rowGroup is how many rows are held before they are written.
	rowGroup = 100_000
	rowBatch = 128
)

// ordered is a group whose fields stay in the given order: parquet.Group sorts
// them by name, and the index would be somewhere in the middle.
type ordered struct {
	parquet.Group
	names []string
}

func (o ordered) Fields() []parquet.Field {
	by := map[string]parquet.Field{}
	for _, f := range o.Group.Fields() {
		by[f.Name()] = f
	}
	out := make([]parquet.Field, len(o.names))
	for i, n := range o.names {
		out[i] = by[n]
	}
	return out
}

// GoType is never built into: rows are written as values. The group's own
// would make struct fields of column names, which need not be identifiers.
func (o ordered) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

type parquetEncoder struct {
	w     *parquet.GenericWriter[any]
	cols  []*column
	batch []parquet.Row
}

func newParquet(w io.Writer, cols []*column) *parquetEncoder {
	g := ordered{Group: parquet.Group{}}
	for _, c := range cols {
		var n parquet.Node
		switch c.kind {
		case kindInt:
			n = parquet.Int(64)
		case kindFloat:
			n = parquet.Leaf(parquet.DoubleType)
		case kindBool:
			n = parquet.Leaf(parquet.BooleanType)
		case kindTime:
			n = parquet.Timestamp(parquet.Millisecond)
		default:
			n = parquet.String()
		}
		g.Group[c.name] = parquet.Optional(n)
		g.names = append(g.names, c.name)
	}
	return &parquetEncoder{
		cols: cols,
		w: parquet.NewGenericWriter[any](w, parquet.NewSchema("result", g),
			parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowGroup), parquet.CreatedBy("volley", "", "")),
	}
}

func (e *parquetEncoder) row(cells []value) error {
	row := make(parquet.Row, len(cells))
	for i, v := range cells {
		// Definition level 0 is null, 1 a value.
		var pv parquet.Value
		level := 1
		switch v := v.(type) {
		case nil:
			level = 0
		case int64:
			pv = parquet.Int64Value(v)
		case float64:
			pv = parquet.DoubleValue(v)
		case bool:
			pv = parquet.BooleanValue(v)
		case time.Time:
			pv = parquet.Int64Value(v.UnixMilli())
		case string:
			pv = parquet.ByteArrayValue([]byte(v))
		}
		row[i] = pv.Level(0, level, i)
	}
	e.batch = append(e.batch, row)
	if len(e.batch) < rowBatch {
		return nil
	}
	return e.flush()
}

func (e *parquetEncoder) flush() error {
	_, err := e.w.WriteRows(e.batch)
	e.batch = e.batch[:0]
	return err
}

func (e *parquetEncoder) close() error {
	if err := e.flush(); err != nil {
		return err
	}
	return e.w.Close()
}
