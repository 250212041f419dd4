// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"strings"
)

// quoting is how a value must be written where its placeholder stands.
type quoting uint8

const (
	verbatim      quoting = iota // not a shell line
	bareWord                     // outside quotes
	insideDouble                 // between double quotes
	insideSingle                 // between single quotes
	insideComment                // behind #
	insideMath                   // in $((…))
	insideHere                   // in a here-document
	insideQuoted                 // in a here-document whose delimiter is quoted
	insideTabbed                 // the same after <<-, which removes tabs
)

// ShellQuote returns s as one word of `/bin/sh`.
func ShellQuote(s string) string {
	out, _ := (&part{quote: bareWord}).apply([]byte(s), 0) // any value can be a word
	return string(out)
}

// apply rewrites dst[start:], a raw value, as its place needs it, or says
// what is wrong with it.
func (p *part) apply(dst []byte, start int) ([]byte, string) {
	raw := dst[start:]
	switch p.quote {
	case bareWord:
		if plainWord(raw) {
			return dst, ""
		}
		value := string(raw)
		dst = append(dst[:start], '\'')
		dst = appendSingle(dst, value)
		return append(dst, '\''), ""
	case insideSingle:
		return appendSingle(dst[:start], string(raw)), ""
	case insideDouble:
		return appendEscaped(dst[:start], string(raw), "\"\\$`"), ""
	case insideHere:
		value := string(raw)
		dst = dst[:start]
		if p.guard {
			dst = append(dst, nothing...)
		}
		for i := 0; ; {
			line, _, more := strings.Cut(value[i:], "\n")
			dst = appendEscaped(dst, line, "\\$`")
			if !more {
				return dst, ""
			}
			dst = append(dst, '\n')
			dst = append(dst, nothing...)
			i += len(line) + 1
		}
	case insideComment:
		// Nobody reads it, and older shells look for quotes and parentheses in
		// the comments of $(…).
		for i, c := range raw {
			if c != ' ' && !plainByte(c) {
				raw[i] = '_'
			}
		}
	case insideMath:
		return appendInteger(dst, start)
	case insideTabbed:
		if bytes.Contains(raw, []byte("\n\t")) || p.guard && bytes.HasPrefix(raw, []byte("\t")) {
			return dst, "has a line that begins with a tab, which <<- would remove; use <<"
		}
	}
	return dst, ""
}

// nothing expands to nothing. In front of a value, or of a line of it, it
// keeps that line of a here-document from being the delimiter, whatever the
// value is, and <<- from removing its tabs.
const nothing = "${0+}"

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

func appendEscaped(dst []byte, value, special string) []byte {
	for i := range len(value) {
		if strings.IndexByte(special, value[i]) >= 0 {
			dst = append(dst, '\\')
		}
		dst = append(dst, value[i])
	}
	return dst
}

// appendInteger admits nothing but decimal digits with a sign. No quoting
// helps: $((…)) expands what quotes hold, and evaluates names and subscripts.
func appendInteger(dst []byte, start int) ([]byte, string) {
	digits := dst[start:]
	signed := len(digits) > 0 && (digits[0] == '-' || digits[0] == '+')
	if signed {
		digits = digits[1:]
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			digits = nil
			break
		}
	}
	if len(digits) == 0 {
		return dst, "is not an integer, and stands in ((…)), which knows no other; for nested subshells write ( (…) )"
	}
	if signed { // 1-{x} must not become 1--1
		dst = append(dst, ' ', ')')
		copy(dst[start+1:], dst[start:len(dst)-2])
		dst[start] = '('
	}
	return dst, ""
}

// plainWord reports whether no shell gives raw another meaning.
func plainWord(raw []byte) bool {
	for _, c := range raw {
		if !plainByte(c) {
			return false
		}
	}
	return len(raw) > 0
}

func plainByte(c byte) bool {
	return isLetter(c) || (c >= '0' && c <= '9') || strings.IndexByte("@%+=:,./-", c) >= 0
}

// ParseShellTemplate parses a `run` line. Values are quoted for the place
// where they stand: bare, in "…" or in '…', also within $(…), in a comment,
// or in a here-document outside $(…). Always adding quotes would let a value inside "…" run
// commands: file names and table cells are not always the author's own. Where
// the place cannot be told for sure (backquotes, ${…}, what shells read
// differently) a placeholder is an error. In $((…)) only integers can stand,
// and in a here-document with a quoted delimiter no line may be that
// delimiter; both are known when there is a value, and are errors of Append.
func ParseShellTemplate(src string) (*Template, error) {
	t, err := ParseTemplate(src)
	if err != nil {
		return nil, err
	}
	var sh shellState
	for i := range t.parts {
		p := &t.parts[i]
		for j := range len(p.literal) {
			sh.at = position{i, j}
			sh.step(p.literal[j])
		}
		if sh.clash { // with the value before
			return nil, templateError(src, t.parts[i-1].offset, "a parameter cannot stand in "+hereSubst)
		}
		if p.name == "" {
			continue
		}
		where := ""
		if p.quote, where = sh.place(); where != "" {
			return nil, templateError(src, p.offset, "a parameter cannot stand in "+where+useVariable(p.name))
		}
		p.guard = sh.value()
	}
	sh.at = position{len(t.parts), 0}
	t.docs = sh.finish()
	return t, nil
}

// useVariable is the way out where nothing can be inserted: the task finds
// the value in its environment.
func useVariable(name string) string {
	switch name {
	case "first", "count":
		return ""
	case "index", "attempt", "size", "records":
		return "; use $VOLLEY_" + strings.ToUpper(name) + " there"
	case "job":
		return "; use $VOLLEY_JOB_ID there"
	}
	return "; use $VOLLEY_PARAM_" + strings.ToUpper(name) + " there"
}
