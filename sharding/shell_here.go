// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"strings"
)

// hereDocument is `<<delimiter`.
type hereDocument struct {
	delimiter string
	quoted    bool // some of the delimiter: nothing is expanded in the body
	dash      bool // <<-: tabs at the start of lines are removed
	depth     int  // open constructs around it
	used      bool // holds a placeholder
	// from and to limit the body.
	from, to position
}

// How far a delimiter has been read.
const (
	noDelimiter      = iota
	shiftOrDelimiter // << in ((…))
	afterOperator    // <<
	beforeDelimiter
	inDelimiter
	inSingleDelimiter
	inDoubleDelimiter
	escapedDelimiter
)

type hereState struct {
	reading int
	next    hereDocument // whose delimiter is being read
	text    []byte       // of that delimiter

	// pending wait for the end of the line; the first of open has its body
	// read. Invariant: one of them is empty.
	pending, open []hereDocument

	line   []byte // of the body, as the shell joins it
	lineAt position
	filled bool // the line holds a value
	// tail is where the last of joined lines begins, and whether that holds a
	// value.
	joined     bool
	tail       int
	tailFilled bool

	done []hereDocument
}

// bash reads $(…), writes it anew and reads that again; its here-documents do
// not survive all of it.
const hereSubst = "$(…) that holds a here-document, or after it; use a file"

const hereLost = "or after a here-document that shells read differently"

// delimiter reads one byte of what follows <<, and reports whether it was
// part of it.
func (s *shellState) delimiter(c byte) bool {
	h := &s.here
	switch h.reading {
	case shiftOrDelimiter:
		if c == ' ' || c == '\t' {
			return true
		}
		if isLetter(c) || strings.IndexByte("-'\"\\\n<", c) >= 0 {
			s.lose("or after << inside ((…)); write the number of bits in digits")
		}
		h.reading = noDelimiter
		return false
	case afterOperator:
		h.next, h.text = hereDocument{depth: len(s.stack)}, h.text[:0]
		h.reading = beforeDelimiter
		if c == '<' { // a here-string: the word follows
			h.reading, s.prev = noDelimiter, ' '
			return true
		}
		h.next.dash = c == '-'
		return h.next.dash || s.delimiter(c)
	case beforeDelimiter:
		if c == ' ' || c == '\t' {
			return true
		}
		h.reading = inDelimiter
		return s.delimiter(c)
	case escapedDelimiter:
		h.reading = inDelimiter
	case inSingleDelimiter, inDoubleDelimiter:
		if c == '\'' && h.reading == inSingleDelimiter || c == '"' && h.reading == inDoubleDelimiter {
			h.reading = inDelimiter
			return true
		}
		if h.reading == inDoubleDelimiter && strings.IndexByte("\\$`", c) >= 0 {
			s.lose(hereLost)
		}
	default:
		switch {
		case strings.IndexByte(" \t\n;|&()<>", c) >= 0:
			s.delimited()
			return false
		case c == '\'':
			h.reading, h.next.quoted = inSingleDelimiter, true
			return true
		case c == '"':
			h.reading, h.next.quoted = inDoubleDelimiter, true
			return true
		case c == '\\':
			h.reading, h.next.quoted = escapedDelimiter, true
			return true
		case c == '$' || c == '`':
			s.lose(hereLost)
		}
	}
	if c == '\n' {
		s.lose(hereLost)
	}
	h.text = append(h.text, c)
	return true
}

func (s *shellState) delimited() {
	h := &s.here
	h.reading, s.prev = noDelimiter, 'x'
	if len(h.text) == 0 {
		s.lose(hereLost) // an empty line ends it, or it is a syntax error
	}
	h.next.delimiter = string(h.text)
	h.pending = append(h.pending, h.next)
}

// newline is the end of a command line, behind which bodies begin.
func (s *shellState) newline() {
	h := &s.here
	if len(h.pending) == 0 {
		return
	}
	for _, d := range h.pending {
		if d.depth != len(s.stack) {
			s.lose(hereLost)
		}
	}
	h.open, h.pending = h.pending, nil
	s.body(position{s.at.part, s.at.offset + 1})
}

// closed goes over the end of (…), whose here-documents must have begun.
func (s *shellState) closed() {
	if !s.inside(inSubst) {
		s.substituted = false
	}
	if n := len(s.here.pending); n > 0 && s.here.pending[n-1].depth > len(s.stack) {
		s.lose(hereLost)
	}
}

// body begins the body of the first open document.
func (s *shellState) body(at position) {
	h := &s.here
	h.open[0].from = at
	h.startLine(at)
	if h.open[0].quoted {
		s.push(inHereText)
	} else {
		s.push(inHere)
	}
}

func (h *hereState) startLine(at position) {
	h.line, h.lineAt, h.filled = h.line[:0], at, false
	h.joined, h.tail, h.tailFilled = false, 0, false
}

// hereLine keeps the line of the body, and reports whether c ended the body.
func (s *shellState) hereLine(c byte) (ended bool) {
	h := &s.here
	if c != '\n' {
		h.line = append(h.line, c)
		return false
	}
	d := &h.open[0]
	next := position{s.at.part, s.at.offset + 1}
	whole := !h.filled && d.ends(h.line)
	if h.joined && (whole || !h.tailFilled && d.ends(h.line[h.tail:])) {
		s.lose(hereLost) // some shells look at the lines before they join them
	}
	inside := s.top() != inHere && s.top() != inHereText
	if whole && (inside || s.escaped) {
		s.lose(hereLost)
	}
	if s.escaped && s.top() == inHere {
		// Joined with the next line. Without its backslash, as the shell has it.
		h.line = h.line[:len(h.line)-1]
		h.joined, h.tail, h.tailFilled = true, len(h.line), false
		return false
	}
	if !whole || inside {
		h.startLine(next)
		return false
	}
	d.to = h.lineAt
	h.close()
	s.pop()
	s.prev, s.escaped = '\n', false
	if len(h.open) > 0 {
		s.body(next)
	}
	return true
}

func (h *hereState) close() {
	if d := h.open[0]; d.used && d.quoted {
		h.done = append(h.done, d)
	}
	h.open = h.open[1:]
}

// ends reports whether a line of the body is its end.
func (d *hereDocument) ends(line []byte) bool {
	return string(d.strip(line)) == d.delimiter
}

func (d *hereDocument) strip(line []byte) []byte {
	if d.dash {
		return bytes.TrimLeft(line, "\t")
	}
	return line
}

// value notes a value in a body. What stands before it decides whether the
// line could still become the delimiter; for a document that takes text as it
// is, whether the value begins the line.
func (h *hereState) value(top byte) (guard bool) {
	if len(h.open) == 0 {
		return false
	}
	d := &h.open[0]
	d.used = true
	before := string(d.strip(h.line))
	switch {
	case top == inHereText:
		guard = before == ""
	case !h.filled:
		guard = strings.HasPrefix(d.delimiter, before)
	}
	// A line behind a joined one may be taken alone.
	guard = guard || h.joined && top == inHere
	h.filled, h.tailFilled = true, true
	return guard
}

// finish returns the documents whose text depends on values. One without an
// end goes to the end of the line.
func (s *shellState) finish() []hereDocument {
	h := &s.here
	if len(h.open) > 0 {
		h.open[0].to = s.at
		if !h.filled && h.open[0].ends(h.line) {
			h.open[0].to = h.lineAt
		}
		h.close()
	}
	return h.done
}

// checkDocuments refuses text in which a value has ended a here-document
// early. at is where the parts of the template lie in out.
func (t *Template) checkDocuments(out []byte, at []int) error {
	for i := range t.docs {
		d := &t.docs[i]
		body := out[at[d.from.part]+d.from.offset : at[d.to.part]+d.to.offset]
		for line := range bytes.Lines(body) {
			msg := ""
			switch line := bytes.TrimSuffix(line, []byte("\n")); {
			case d.ends(line):
				msg = "would end the here-document"
			case d.damages(line):
				msg = "goes on with a character that is not ASCII, of which dash drops a byte"
			default:
				continue
			}
			return templateError(t.src, t.parts[d.from.part].offset,
				"a value makes a line that begins like "+clipText(d.delimiter)+" and "+msg+"; choose another delimiter, or do not quote it")
		}
	}
	return nil
}

// damages reports whether dash drops a byte of the line: the first one above
// 127 behind what the line and the delimiter begin with.
func (d *hereDocument) damages(line []byte) bool {
	line = d.strip(line)
	n := 0
	for n < len(line) && n < len(d.delimiter) && line[n] == d.delimiter[n] {
		n++
	}
	return n > 0 && n < len(line) && line[n] >= 0x80
}
