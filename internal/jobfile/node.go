// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindList
	kindMap
)

// String is the kind in the words of error messages.
func (k kind) String() string {
	return [...]string{"an empty value", "a boolean", "an integer", "a number", "text", "a list", "a mapping"}[k]
}

type style uint8

const (
	stylePlain style = iota
	styleSingle
	styleDouble
	styleBlock // literal and folded
)

// node is a YAML value with its place. The tree holds no alias and no merge
// key: both are expanded, so that nothing after this has to know them.
type node struct {
	kind      kind
	style     style
	src       *source
	line, col int
	// text of a scalar: of a quoted one its content, of a plain one the word
	// as written (so that `version: 1.10` stays 1.10 where text is wanted).
	text string
	// Invariant: set for the kind only. Integers beyond int64 keep neg
	// and mag alone.
	b   bool
	neg bool
	mag uint64
	f   float64

	items   []*node
	entries []entry
}

type entry struct{ key, val *node }

// get returns the value of key, or nil.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if e.key.text == key {
			return e.val
		}
	}
	return nil
}

func (n *node) entry(key string) *entry {
	if n == nil {
		return nil
	}
	for i := range n.entries {
		if n.entries[i].key.text == key {
			return &n.entries[i]
		}
	}
	return nil
}

func (n *node) scalar() bool { return n.kind < kindList }

// describe names the value in a message: `"abc"`, `-5`, `a list`.
func (n *node) describe() string {
	switch {
	case n.kind == kindString:
		return fmt.Sprintf("%q", clip(n.text, 60))
	case n.kind == kindNull || !n.scalar():
		return n.kind.String()
	default:
		return clip(n.text, 60)
	}
}

// clip shortens s for a message.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}

// diag points at the node itself.
func (n *node) diag(path, msg, hint string) Diagnostic {
	length := 1
	switch {
	case !n.scalar() || n.style == styleBlock:
	case n.style == stylePlain:
		length = utf8.RuneCountInString(n.text)
	default:
		_, end := n.place(utf8.RuneCountInString(n.text))
		line, _ := n.place(0)
		if l, _ := n.place(utf8.RuneCountInString(n.text)); l == line {
			length = end - n.col + 1
		}
	}
	return n.src.at(n.line, n.col, length, path, msg, hint)
}

// diagIn points at the characters [from, to) (byte offsets) of the text of a
// scalar, wherever escapes and line folds have put them.
func (n *node) diagIn(from, to int, path, msg, hint string) Diagnostic {
	if !n.scalar() || from < 0 || from > len(n.text) {
		return n.diag(path, msg, hint)
	}
	to = min(max(to, from), len(n.text))
	line, col := n.place(utf8.RuneCountInString(n.text[:from]))
	length := 1
	if l, c := n.place(utf8.RuneCountInString(n.text[:to])); l == line {
		length = c - col
	}
	return n.src.at(line, col, length, path, msg, hint)
}

// place returns line and column of character i of the text of a scalar, by
// walking text and source side by side. White space is the only thing that
// folding changes, so every other character is found exactly.
func (n *node) place(i int) (line, col int) {
	line, col = n.line, n.col
	switch n.style {
	case styleSingle, styleDouble:
		col++
	case styleBlock:
		line, col = line+1, 1
	case stylePlain:
	}
	rs := []rune(n.src.line(line))
	next := func() {
		if col > len(rs) {
			line, col = line+1, 1
			rs = []rune(n.src.line(line))
			return
		}
		col++
	}
	here := func() (rune, bool) {
		switch {
		case col <= len(rs):
			return rs[col-1], true
		case line < len(n.src.lines):
			return '\n', true
		default:
			return 0, false
		}
	}
	skipSpace := func() {
		for s, ok := here(); ok && isSpace(s); s, ok = here() {
			next()
		}
	}
	text := []rune(n.text)
	for k := range text {
		escaped := false
		for {
			s, ok := here()
			if !ok {
				return n.line, n.col
			}
			if n.style == styleDouble && s == '\\' {
				if col == len(rs) { // an escaped line end is nothing at all
					next()
					next()
					skipSpace()
					continue
				}
				escaped = true
				break
			}
			if isSpace(s) && !isSpace(text[k]) {
				next()
				continue
			}
			break
		}
		if k == i {
			return line, col
		}
		switch s, _ := here(); {
		case escaped:
			for range escapeLength(rs, col) {
				next()
			}
		case n.style == styleSingle && s == '\'':
			next()
			next()
		case isSpace(text[k]) && !isSpace(s):
			// A fold that left more white space than its source has.
		default:
			next()
		}
	}
	return line, col
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }

// escapeLength is the length of the escape sequence at column col of rs.
func escapeLength(rs []rune, col int) int {
	if col >= len(rs) {
		return 1
	}
	switch rs[col] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}

// found is the end of a path.
type found struct {
	*node
	// key is the last key on the way, nil when an index came after it.
	key *node
	// path as the file spells it, as far as it goes.
	path string
	// exact: all of it is there.
	exact bool
}

// find follows a path such as `sweep.params.lr.log[1]` as far as it goes.
// Package sharding has one name for what a job file can spell in several
// ways (the bounds of `int:` are its `range`); those are tried too.
func (n *node) find(path string) found {
	f := found{node: n, exact: true}
	step := func(e *entry) { f.node, f.key, f.path = e.val, e.key, join(f.path, e.key.text) }
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			num, rest, _ := strings.Cut(path[1:], "]")
			path = rest
			if f.kind == kindMap {
				if e := f.firstOf("values", "choice", "points"); e != nil {
					step(e)
				}
			}
			i, err := strconv.Atoi(num)
			if err != nil || f.kind != kindList || i < 0 || i >= len(f.items) {
				f.exact = false
				return f
			}
			f.node, f.key, f.path = f.items[i], nil, elem(f.path, i)
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			seg := path[:end]
			path = path[end:]
			e := f.entry(seg)
			if e == nil && (seg == "range" || seg == "log") {
				e = f.firstOf("float", "int", "range", "log")
			}
			if e == nil {
				f.exact = false
				continue
			}
			step(e)
		}
	}
	return f
}

func (n *node) firstOf(keys ...string) *entry {
	for _, k := range keys {
		if e := n.entry(k); e != nil {
			return e
		}
	}
	return nil
}
