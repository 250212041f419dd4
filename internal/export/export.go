// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Format is how results are written.
type Format string

// The formats.
const (
	Table   Format = "table"
	CSV     Format = "csv"
	JSON    Format = "json"
	YAML    Format = "yaml"
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
)

// MaxTableRows is where a table ends. Nobody reads a longer one, and it is the
// only format that is held in memory.
const MaxTableRows = 10_000

// ParseFormat checks the value of -o.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Table, JSON, YAML, CSV, JSONL, Parquet:
		return f, nil
	}
	return "", fmt.Errorf("output format %q: want one of table, json, yaml, csv, jsonl, parquet", s)
}

// Options are about tables.
type Options struct {
	Style render.Style
	// Width cuts lines. 0: no limit.
	Width int
	// spool is the memory of the spool; tests make it small.
	spool int
}

// Info says what was written.
type Info struct {
	// Rows read, and those that a table left out.
	Rows, Left uint64
}

// encoder writes rows of one format.
type encoder interface {
	row(cells []value) error
	close() error
}

// Write reads all rows and writes them.
func Write(w io.Writer, f Format, rows iter.Seq2[*volleyv1.Child, error], o Options) (Info, error) {
	if o.spool == 0 {
		o.spool = spoolMemory
	}
	sp := &spool{limit: o.spool}
	defer sp.close()
	s := newSchema()
	for c, err := range rows {
		if err != nil {
			return Info{}, err
		}
		if err := s.observe(c); err != nil {
			return Info{}, err
		}
		if err := sp.add(c); err != nil {
			return Info{}, err
		}
	}
	cols := s.finish()
	info := Info{Rows: sp.rows}
	buf := bufio.NewWriterSize(w, 64<<10)
	var e encoder
	switch f {
	case CSV:
		e = newCSV(buf, cols)
	case JSONL:
		e = newObjects(cols, &lines{w: buf})
	case JSON:
		e = newObjects(cols, render.NewArray(buf, render.FormatJSON))
	case YAML:
		e = newObjects(cols, render.NewArray(buf, render.FormatYAML))
	case Parquet:
		e = newParquet(buf, cols)
	default:
		if sp.rows > MaxTableRows {
			info.Left = sp.rows - MaxTableRows
		}
		e = newTable(buf, cols, o)
	}
	own := f == JSONL || f == JSON || f == YAML // CSV and Parquet have one type for a column
	cells := make([]value, len(cols))
	err := sp.each(func(c *volleyv1.Child) error {
		s.row(cells, c, own)
		return e.row(cells)
	})
	if err == nil {
		err = e.close()
	}
	if err == nil {
		err = buf.Flush()
	}
	if err != nil {
		return info, fmt.Errorf("write results: %w", err)
	}
	return info, nil
}

// isoMillis is RFC 3339 with milliseconds.
const isoMillis = "2006-01-02T15:04:05.000Z07:00"

func cellText(v value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return formatFloat(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.Format(isoMillis)
	case string:
		return v
	}
	return fmt.Sprint(v)
}

type csvEncoder struct {
	w      *csv.Writer
	record []string
}

func newCSV(w io.Writer, cols []*column) *csvEncoder {
	e := &csvEncoder{w: csv.NewWriter(w), record: make([]string, len(cols))}
	for i, c := range cols {
		e.record[i] = c.name
	}
	_ = e.w.Write(e.record) // an error stays in the writer until close
	return e
}

func (e *csvEncoder) row(cells []value) error {
	for i, v := range cells {
		e.record[i] = cellText(v)
	}
	return e.w.Write(e.record)
}

func (e *csvEncoder) close() error {
	e.w.Flush()
	return e.w.Error()
}

type tableEncoder struct {
	w    io.Writer
	t    render.Table
	cols []*column
	used []bool
	rows [][]string
}

func newTable(w io.Writer, cols []*column, o Options) *tableEncoder {
	return &tableEncoder{w: w, cols: cols, used: make([]bool, len(cols)), t: render.Table{Style: o.Style, MaxWidth: o.Width}}
}

func (e *tableEncoder) row(cells []value) error {
	if len(e.rows) == MaxTableRows {
		return nil
	}
	r := make([]string, len(cells))
	for i, v := range cells {
		e.used[i] = e.used[i] || v != nil
		r[i] = tableText(e.cols[i], v)
	}
	e.rows = append(e.rows, r)
	return nil
}

// tableText is for people: units, and no more digits than they read.
func tableText(c *column, v value) string {
	if v == nil {
		return "-"
	}
	switch c.name {
	case "durationMs":
		return render.Duration(time.Duration(v.(float64) * float64(time.Millisecond)))
	case "peakMemory":
		return render.Bytes(v.(int64))
	}
	switch v := v.(type) {
	case time.Time:
		return render.Time(v.UnixMilli())
	case float64:
		return render.Number(v)
	}
	return cellText(v)
}

// close writes the table without the columns that are empty everywhere.
func (e *tableEncoder) close() error {
	headers := map[string]string{"exitCode": "exit", "durationMs": "duration", "peakMemory": "memory", "startedAt": "started", "reusedFrom": "reused"}
	var keep []int
	for i, c := range e.cols {
		if !e.used[i] && len(e.rows) > 0 {
			continue
		}
		keep = append(keep, i)
		name := c.name
		if h, ok := headers[name]; ok {
			name = h
		}
		e.t.Header = append(e.t.Header, render.Clean(name))
		e.t.Right = append(e.t.Right, c.kind == kindInt || c.kind == kindFloat)
	}
	for _, r := range e.rows {
		row := make([]string, len(keep))
		for i, k := range keep {
			row[i] = r[k]
		}
		e.t.Add(row...)
	}
	return e.t.Write(e.w)
}
