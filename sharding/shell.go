// SPDX-License-Identifier: Apache-2.0

package sharding

import "strings"

// quoting is how a value must be written where its placeholder stands.
type quoting uint8

const (
	verbatim     quoting = iota // not a shell line
	bareWord                    // outside quotes
	insideDouble                // between double quotes
	insideSingle                // between single quotes
)

// ShellQuote returns s as one word of `/bin/sh`.
func ShellQuote(s string) string {
	return string(bareWord.apply([]byte(s), 0))
}

// apply rewrites dst[start:], a raw value, as q needs it.
func (q quoting) apply(dst []byte, start int) []byte {
	raw := dst[start:]
	switch q {
	case bareWord:
		if plainWord(raw) {
			return dst
		}
		value := string(raw)
		dst = append(dst[:start], '\'')
		dst = appendSingle(dst, value)
		return append(dst, '\'')
	case insideSingle:
		return appendSingle(dst[:start], string(raw))
	case insideDouble:
		value := string(raw)
		dst = dst[:start]
		for i := range len(value) {
			if strings.IndexByte("\"\\$`", value[i]) >= 0 {
				dst = append(dst, '\\')
			}
			dst = append(dst, value[i])
		}
	}
	return dst
}

func appendSingle(dst []byte, value string) []byte {
	for i := range len(value) {
		if value[i] == '\'' {
			dst = append(dst, `'\''`...)
		} else {
			dst = append(dst, value[i])
		}
	}
	return dst
}

// plainWord reports whether no shell gives raw another meaning.
func plainWord(raw []byte) bool {
	for _, c := range raw {
		if !isLetter(c) && (c < '0' || c > '9') && strings.IndexByte("@%+=:,./-", c) < 0 {
			return false
		}
	}
	return len(raw) > 0
}

// ParseShellTemplate parses a `run` line. Values are quoted for the place
// where they stand: bare, in "…" or in '…', also within $(…). Always adding
// quotes would let a value inside "…" run commands: file names and table
// cells are not always the author's own. Where the place cannot be told for
// sure (backquotes, ${…}, here-documents) a placeholder is an error.
func ParseShellTemplate(src string) (*Template, error) {
	t, err := ParseTemplate(src)
	if err != nil {
		return nil, err
	}
	var sh shellState
	for i := range t.parts {
		p := &t.parts[i]
		for j := range len(p.literal) {
			sh.step(p.literal[j])
		}
		if p.name == "" {
			continue
		}
		where := ""
		p.quote, where = sh.place()
		if where != "" {
			return nil, templateError(src, p.offset, "a parameter cannot stand in "+where+"; use its environment variable there")
		}
		sh.step('x') // whatever the value: part of a word
	}
	return t, nil
}

// shellState follows the quoting of a POSIX shell line, byte by byte.
type shellState struct {
	// stack of open constructs: ' " ( { ` #, and $ for $'…'.
	stack   []byte
	escaped bool
	prev    byte // last byte at this level; 0 at the start of a construct
	word    []byte
	// lost says what made the quoting uncertain from here on.
	lost string
}

func (s *shellState) top() byte {
	if len(s.stack) == 0 {
		return 0
	}
	return s.stack[len(s.stack)-1]
}

func (s *shellState) push(c byte) { s.stack, s.prev = append(s.stack, c), 0 }
func (s *shellState) pop()        { s.stack = s.stack[:len(s.stack)-1] }

// place is how a value must be quoted here, or why it cannot be.
func (s *shellState) place() (quoting, string) {
	switch {
	case s.lost != "":
		return 0, s.lost
	case s.escaped:
		return 0, "the place after a backslash"
	}
	for _, c := range s.stack {
		switch c {
		case '`':
			return 0, "backquotes"
		case '{':
			return 0, "${…}"
		case '$':
			return 0, "$'…'"
		case '#':
			return 0, "a comment"
		}
	}
	switch s.top() {
	case '"':
		return insideDouble, ""
	case '\'':
		return insideSingle, ""
	}
	if s.prev == '$' {
		return 0, "the place after $"
	}
	return bareWord, ""
}

func (s *shellState) step(c byte) {
	prev := s.prev
	s.prev = c
	if s.escaped {
		s.escaped, s.prev = false, 'x'
		return
	}
	switch top := s.top(); {
	case top == '\'':
		if c == '\'' {
			s.pop()
		}
		return
	case top == '#':
		if c == '\n' {
			s.pop()
			s.prev = 0
		}
		return
	case c == '\\':
		s.escaped = true
		return
	case top == '$':
		if c == '\'' {
			s.pop()
		}
		return
	case c == '`':
		s.backquote()
		return
	case prev == '$' && (c == '(' || c == '{'):
		s.push(c)
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
			s.lost = "or after a case inside $(…), whose parentheses do not pair"
		}
		s.word = s.word[:0]
	}
	switch c {
	case '\'':
		if s.top() == '{' && len(s.stack) > 1 {
			s.lost = "or after quotes inside \"${…}\""
		}
		if prev == '$' {
			s.push('$')
		} else {
			s.push('\'')
		}
	case '(':
		s.push('(')
	case ')':
		if s.top() == '(' {
			s.pop()
		}
	case '}':
		if s.top() == '{' {
			s.pop()
		}
	case '#':
		if prev == 0 || strings.IndexByte(" \t\n;&|()", prev) >= 0 {
			if s.top() != '{' {
				s.push('#')
			}
		}
	case '<':
		if prev == '<' {
			s.lost = "or after a here-document"
		}
	}
}
