// SPDX-License-Identifier: Apache-2.0

package sharding

// maxJSONDepth is the nesting that encoding/json accepts.
const maxJSONDepth = 10_000

// jsonMembers validates a JSON text and calls yield, which may be nil, with the
// raw key and value of every member of the object that it is. Members are
// yielded before the rest is known to be valid. encoding/json would need two
// passes of a slower scanner for the same: every line of a data set comes
// through here.
func jsonMembers(text []byte, yield func(key, value []byte)) (object, valid bool) {
	s := jsonScan{text, 0}
	s.space()
	if s.peek() != '{' {
		return false, s.value(0) && s.end()
	}
	return true, s.object(0, yield) && s.end()
}

// jsonScan is a position in a JSON text. Its methods advance over what they
// name, and answer false when it is not there.
type jsonScan struct {
	b  []byte
	at int
}

// peek is the next byte; 0, which is never valid, at the end.
func (s *jsonScan) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

func (s *jsonScan) space() {
	for s.at < len(s.b) {
		if c := s.b[s.at]; c > ' ' || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return
		}
		s.at++
	}
}

func (s *jsonScan) end() bool {
	s.space()
	return s.at == len(s.b)
}

func (s *jsonScan) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func (s *jsonScan) value(depth int) bool {
	switch s.peek() {
	case '"':
		return s.str()
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *jsonScan) object(depth int, yield func(key, value []byte)) bool {
	s.at++ // {
	if depth++; depth > maxJSONDepth {
		return false
	}
	s.space()
	if s.take('}') {
		return true
	}
	for {
		from := s.at
		if !s.str() {
			return false
		}
		key := s.b[from:s.at]
		s.space()
		if !s.take(':') {
			return false
		}
		s.space()
		from = s.at
		if !s.value(depth) {
			return false
		}
		if yield != nil {
			yield(key, s.b[from:s.at])
		}
		s.space()
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
		s.space()
	}
}

func (s *jsonScan) array(depth int) bool {
	s.at++ // [
	if depth++; depth > maxJSONDepth {
		return false
	}
	s.space()
	if s.take(']') {
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		s.space()
		if s.take(']') {
			return true
		}
		if !s.take(',') {
			return false
		}
		s.space()
	}
}

func (s *jsonScan) str() bool {
	if !s.take('"') {
		return false
	}
	for s.at < len(s.b) {
		switch c := s.b[s.at]; {
		case c == '"':
			s.at++
			return true
		case c == '\\':
			s.at++
			if !s.escape() {
				return false
			}
		case c < ' ':
			return false
		default:
			s.at++
		}
	}
	return false
}

func (s *jsonScan) escape() bool {
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return true
	case 'u':
		s.at++
		for range 4 {
			c := s.peek()
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
			s.at++
		}
		return true
	}
	return false
}

func (s *jsonScan) literal(word string) bool {
	if len(s.b)-s.at < len(word) || string(s.b[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

func (s *jsonScan) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *jsonScan) digits() bool {
	from := s.at
	for s.at < len(s.b) && s.b[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at > from
}
