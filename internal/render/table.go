// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"strings"
)

// Table is rows of cells under a header. Columns are two blanks apart and as
// wide as their widest cell; nothing follows the last cell of a line.
type Table struct {
	Header []string
	// Right aligns the columns of these positions to the right: numbers.
	Right []bool
	Style Style
	// MaxWidth cuts lines to so many cells. 0: no limit, as for pipes.
	MaxWidth int

	rows [][]cell
}

type cell struct {
	text  string
	paint func(string) string
}

// Add appends a row of plain cells.
func (t *Table) Add(cells ...string) {
	row := make([]cell, len(cells))
	for i, c := range cells {
		row[i] = cell{text: Clean(c)}
	}
	t.rows = append(t.rows, row)
}

// Paint colours a cell of the last row. Widths are taken before it is done.
func (t *Table) Paint(column int, paint func(string) string) {
	row := t.rows[len(t.rows)-1]
	if column < len(row) {
		row[column].paint = paint
	}
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table. An empty one is its header.
func (t *Table) Write(w io.Writer) error {
	widths := make([]int, len(t.Header))
	head := make([]cell, len(t.Header))
	for i, h := range t.Header {
		head[i] = cell{text: h, paint: t.Style.Dim}
		widths[i] = Width(h)
	}
	for _, row := range t.rows {
		for i, c := range row {
			if i < len(widths) {
				widths[i] = max(widths[i], Width(c.text))
			}
		}
	}
	if t.MaxWidth > 0 {
		// Before cells are aligned: a cell that is pushed to the right of its
		// column would be cut by what is left of the line without the blanks.
		start := 0
		for i := range widths {
			widths[i] = max(min(widths[i], t.MaxWidth-start), 0)
			start += widths[i] + 2
		}
	}
	var b strings.Builder
	t.line(&b, head, widths)
	for _, row := range t.rows {
		t.line(&b, row, widths)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) line(b *strings.Builder, row []cell, widths []int) {
	pending := 0 // blanks that are written only when something follows
	for i := range widths {
		var c cell
		if i < len(row) {
			c = row[i]
		}
		text := Truncate(c.text, widths[i])
		pad := widths[i] - Width(text)
		if i < len(t.Right) && t.Right[i] {
			pending += pad
			pad = 0
		}
		if text != "" {
			b.WriteString(strings.Repeat(" ", pending))
			pending = 0
			if c.paint != nil {
				text = c.paint(text)
			}
			b.WriteString(text)
		}
		pending += pad + 2
	}
	b.WriteByte('\n')
}
