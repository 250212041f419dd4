// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"cmp"
	"slices"
	"strings"
)

// Constructs of a shell line that can be open. A quote stands for itself.
const (
	inCommand  = '(' // a subshell
	inSubst    = 's' // $(…), and what bash knows as <(…) and >(…)
	inMath     = 'm' // $((…)) or ((…))
	inGroup    = 'g' // parentheses in it, its own second pair included
	inBraces   = '{' // ${…}
	inANSI     = '$' // $'…'
	inComment  = '#'
	inHere     = 'h' // the body of a here-document
	inHereText = 'H' // of one whose delimiter is quoted
)

// position is a byte of a part's literal, or its end.
type position struct{ part, offset int }

// shellState follows the quoting of a POSIX shell line, byte by byte.
type shellState struct {
	at      position // of the byte that step gets
	stack   []byte   // open constructs
	escaped bool
	prev    byte // last byte at this level; 0 at the start of a construct
	before  byte // prev of the backslash
	word    []byte
	here    hereState
	// lost says what made the quoting uncertain from here on.
	lost string
	// substituted: a value stands in the outermost $( that is open. clash: one
	// stands in a $( with a here-document behind it.
	substituted, clash bool
}

func (s *shellState) top() byte {
	if len(s.stack) == 0 {
		return 0
	}
	return s.stack[len(s.stack)-1]
}

func (s *shellState) push(c byte) { s.stack, s.prev = append(s.stack, c), 0 }
func (s *shellState) pop()        { s.stack = s.stack[:len(s.stack)-1] }

// lose ends the certainty; the first reason stays.
func (s *shellState) lose(why string) { s.lost = cmp.Or(s.lost, why) }

func (s *shellState) inside(c byte) bool { return slices.Contains(s.stack, c) }

// place is how a value must be quoted here, or why it cannot be.
func (s *shellState) place() (quoting, string) {
	switch {
	case s.lost != "":
		return 0, s.lost
	case s.here.reading != noDelimiter:
		return 0, "the delimiter of a here-document"
	case s.escaped:
		return 0, "the place after a backslash"
	}
	expansion := ""
	for i, c := range s.stack {
		switch c {
		case '`':
			return 0, "backquotes (write $(…) for them)"
		case inBraces:
			return 0, "${…}"
		case inANSI:
			return 0, "$'…'"
		case inHere:
			if i < len(s.stack)-1 {
				expansion = "an expansion in a here-document"
			}
		}
	}
	if expansion != "" {
		return 0, expansion
	}
	switch s.top() {
	case inComment:
		return insideComment, ""
	case inHereText:
		if s.here.open[0].dash {
			return insideTabbed, ""
		}
		return insideQuoted, ""
	}
	if s.prev == '$' {
		return 0, "the place after $"
	}
	if s.top() == inHere {
		return insideHere, ""
	}
	for i := len(s.stack) - 1; i >= 0 && s.stack[i] != inCommand && s.stack[i] != inSubst; i-- {
		if s.stack[i] == inMath {
			return insideMath, ""
		}
	}
	switch s.top() {
	case '"':
		return insideDouble, ""
	case '\'':
		return insideSingle, ""
	}
	return bareWord, ""
}

// value goes over a value, which whatever it is stays inside its construct:
// part of a word. It reports whether its line needs a guard.
func (s *shellState) value() (guard bool) {
	s.word = s.word[:0]
	s.prev = 'x'
	s.substituted = s.inside(inSubst)
	return s.here.value(s.top())
}

func (s *shellState) step(c byte) {
	if s.here.reading != noDelimiter && s.delimiter(c) {
		return
	}
	if len(s.here.open) > 0 && s.hereLine(c) {
		return
	}
	prev := s.prev
	s.prev = c
	if s.escaped {
		s.escaped, s.prev = false, 'x'
		switch {
		case c == '\n':
			s.prev = s.before // both bytes are as good as not there
		case c == '\'' && s.top() == inANSI:
			s.lose("or after $'…\\'…', which shells read differently")
		}
		return
	}
	switch top := s.top(); {
	case top == '\'':
		if c == '\'' {
			s.pop()
		}
		return
	case top == inHereText:
		return
	case top == inComment:
		if c != '\n' {
			return
		}
		s.pop()
	case c == '\\':
		s.escaped, s.before = true, prev
		return
	case top == inANSI:
		if c == '\'' {
			s.pop()
		}
		return
	case c == '`':
		s.backquote()
		return
	case prev == '$' && c == '$': // the shell's process; no $ is left of it
		s.prev = 'x'
		return
	case prev == '$' && c == '(':
		s.push(inSubst)
		return
	case prev == '$' && c == '{':
		s.push(inBraces)
		return
	case prev == '$' && c == '[':
		s.lose("or after $[…], which shells read differently")
		return
	case top == inHere:
		return
	case top == '"':
		if c == '"' {
			s.pop()
		}
		return
	case c == '"':
		s.push('"')
		return
	}
	s.unquoted(prev, c)
}

// backquote closes the innermost backquotes, with what is open inside, or
// opens new ones.
func (s *shellState) backquote() {
	if at := strings.LastIndexByte(string(s.stack), '`'); at >= 0 {
		s.stack = s.stack[:at]
		return
	}
	s.push('`')
}

func (s *shellState) unquoted(prev, c byte) {
	if isLetter(c) {
		s.word = append(s.word, c)
	} else {
		if string(s.word) == "case" && len(s.stack) > 0 {
			s.lose("or after a case inside (…), whose parentheses do not pair")
		}
		s.word = s.word[:0]
	}
	switch s.top() {
	case inMath:
		if c != ')' {
			s.lose("or after ((…) …), which shells read differently; write ( ( for nested subshells")
			return
		}
		s.pop()
	case inGroup:
		s.math(prev, c)
	case inBraces:
		s.braces(prev, c)
	default:
		s.command(prev, c)
	}
}

// math goes over $((…)). `((` may also be two subshells: shells decide by
// what follows, so what would differ ends the certainty.
func (s *shellState) math(prev, c byte) {
	switch {
	case c == '(':
		s.push(inGroup)
	case c == ')':
		s.pop()
	case c == '\'', c == '#' && wordStart(prev):
		s.lose("or after ((…)) with quotes or comments, which shells read differently")
	case c == '<' && prev == '<':
		s.here.reading = shiftOrDelimiter
	}
}

func (s *shellState) braces(prev, c byte) {
	switch {
	case c == '}':
		s.pop()
	case c == '\'' && len(s.stack) > 1:
		s.lose("or after quotes inside \"${…}\"")
	case c == '\'' && prev == '$':
		s.push(inANSI)
	case c == '\'':
		s.push('\'')
	}
}

func (s *shellState) command(prev, c byte) {
	switch c {
	case '\n':
		s.newline()
	case '\'':
		if prev == '$' {
			s.push(inANSI)
		} else {
			s.push('\'')
		}
	case '(':
		switch {
		case prev == 0 && (s.top() == inCommand || s.top() == inSubst): // ((
			s.pop()
			s.push(inMath)
			s.push(inGroup)
		case prev == '<' || prev == '>':
			s.push(inSubst)
		default:
			s.push(inCommand)
		}
	case ')':
		if s.top() == inCommand || s.top() == inSubst {
			s.pop()
			s.closed()
		}
	case '#':
		if wordStart(prev) {
			s.push(inComment)
		}
	case '<':
		if prev == '<' {
			s.here.reading = afterOperator
			if s.inside('`') {
				s.lose("or after a here-document in backquotes")
			}
			if s.inside(inSubst) {
				s.lose(hereSubst)
				s.clash = s.clash || s.substituted
			}
		}
	}
}

// wordStart reports whether a word begins behind prev.
func wordStart(prev byte) bool {
	return prev == 0 || strings.IndexByte(" \t\n;|&()<>", prev) >= 0
}
