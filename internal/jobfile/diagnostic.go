// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Diagnostic is one thing that is wrong, or odd, at one place.
type Diagnostic struct {
	// File is the name as the caller gave it, or the file that the job file
	// names (a table of points, an input).
	File string
	// Line and Column count from 1, Column in characters. Line 0: the
	// diagnostic is about the file as a whole.
	Line, Column int
	// Length is how many characters from Column on are meant, at least 1
	// when Line is set.
	Length int
	// Path is the key, such as `sweep.params.lr.log[1]`. Empty for syntax
	// errors.
	Path string
	// Message says what is wrong with which value.
	Message string
	// Hint says what to do. May be empty.
	Hint string
	// Source is the line itself, without its end. Only with Line set.
	Source string
}

// String is the first line of the diagnostic, in the form that editors and
// CI systems recognise: `file:line:column: message`.
func (d Diagnostic) String() string {
	if d.Line == 0 {
		return fmt.Sprintf("%s: %s", d.File, d.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message)
}

// Format is the whole diagnostic: message, source line, caret, hint. With
// colour it holds ANSI sequences.
func (d Diagnostic) Format(colour bool) string {
	var b strings.Builder
	b.WriteString(paint(colour, bold, d.String()))
	if d.Line > 0 {
		src, pad, mark := excerpt(d.Source, d.Column, d.Length)
		num := fmt.Sprintf("%4d", d.Line)
		fmt.Fprintf(&b, "\n%s | %s", num, src)
		fmt.Fprintf(&b, "\n%s | %s%s", strings.Repeat(" ", len(num)), pad, paint(colour, red, mark))
	}
	if d.Hint != "" {
		b.WriteString("\n  ")
		b.WriteString(paint(colour, cyan, "hint:"))
		b.WriteString(" ")
		b.WriteString(d.Hint)
	}
	return b.String()
}

// Error is why a job file was refused. It has at least one diagnostic.
type Error struct {
	// Diagnostics in the order of the file.
	Diagnostics []Diagnostic
}

// maxShown bounds what Error prints: the twentieth error of a file rarely
// helps, and a table of a million wrong rows must not fill a terminal.
const maxShown = 20

// Error is every diagnostic as plain text.
func (e *Error) Error() string { return e.Format(false) }

// Format is every diagnostic, coloured on demand.
func (e *Error) Format(colour bool) string {
	var b strings.Builder
	for i, d := range e.Diagnostics {
		if i == maxShown {
			fmt.Fprintf(&b, "\n… and %d more", len(e.Diagnostics)-maxShown)
			break
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(d.Format(colour))
	}
	return b.String()
}

// sortDiagnostics puts ds in the order of the file, those about the file as a
// whole first, and drops repetitions of one message at one place (an alias
// shows the same mistake once per use).
func sortDiagnostics(ds []Diagnostic) []Diagnostic {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		if a.File != b.File {
			return 0
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return slices.CompactFunc(ds, func(a, b Diagnostic) bool {
		return a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

const (
	bold = "\x1b[1m"
	red  = "\x1b[31m"
	cyan = "\x1b[36m"
)

func paint(on bool, seq, s string) string {
	if !on {
		return s
	}
	return seq + s + "\x1b[0m"
}

// maxExcerpt is how many characters of a source line are shown.
const maxExcerpt = 120

// excerpt returns the part of line around column, the space that puts a caret
// below that column, and the carets. Wide characters count twice; what a
// terminal would obey instead of show (escape sequences in a hostile file)
// becomes U+FFFD.
func excerpt(line string, column, length int) (src, pad, mark string) {
	rs := []rune(line)
	col := min(max(column-1, 0), len(rs))
	length = max(length, 1)
	from, to := 0, len(rs)
	if len(rs) > maxExcerpt {
		from = max(0, col-maxExcerpt/2)
		to = min(len(rs), from+maxExcerpt)
		from = max(0, to-maxExcerpt)
	}
	var s, p strings.Builder
	if from > 0 {
		s.WriteString("…")
		p.WriteString(" ")
	}
	for i := from; i < to; i++ {
		r := rs[i]
		switch {
		case r == '\t':
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
			r = '\uFFFD'
		}
		s.WriteRune(r)
		if i < col {
			p.WriteString(blank(r))
		}
	}
	if to < len(rs) {
		s.WriteString("…")
	}
	n := 0
	for i := col; i < min(col+length, to); i++ {
		n += cells(rs[i])
	}
	return s.String(), p.String(), strings.Repeat("^", max(n, 1))
}

func blank(r rune) string {
	if r == '\t' {
		return "\t" // a tab stays one, whatever the terminal makes of it
	}
	return strings.Repeat(" ", cells(r))
}

// cells is the width of r on a terminal.
func cells(r rune) int {
	if unicode.Is(unicode.Mn, r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
