// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// source is a text that nodes point into: the job file, or one override of
// the command line.
type source struct {
	name  string
	lines []string
}

// newSource splits text, whose line ends are \n already.
func newSource(name, text string) *source {
	return &source{name: name, lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
}

func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// at makes a diagnostic for length characters from line:col on.
func (s *source) at(line, col, length int, path, msg, hint string) Diagnostic {
	line = min(max(line, 1), max(len(s.lines), 1))
	text := s.line(line)
	n := utf8.RuneCountInString(text)
	col = min(max(col, 1), n+1)
	length = max(min(length, n-col+1), 1)
	return Diagnostic{
		File: s.name, Line: line, Column: col, Length: length,
		Path: path, Message: msg, Hint: hint, Source: text,
	}
}

// normalise makes one text of what editors write: no byte order mark, \n for
// line ends. It refuses what is not text.
func normalise(name string, src []byte) (string, []Diagnostic) {
	whole := func(msg, hint string) []Diagnostic {
		return []Diagnostic{{File: name, Message: msg, Hint: hint}}
	}
	if len(src) > MaxFileBytes {
		return "", whole(
			fmt.Sprintf("the file has %d bytes, more than the %d MiB that a job file may have", len(src), MaxFileBytes>>20),
			"put long lists of points into a table: sweep: {sampler: file, file: points.csv}")
	}
	text := strings.TrimPrefix(string(src), "\uFEFF")
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return "", whole("the file is UTF-16", "save it as UTF-8")
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	s := newSource(name, text)
	for i, l := range s.lines {
		for j, r := range l {
			if r == utf8.RuneError && strings.HasPrefix(l[j:], "\uFFFD") {
				continue
			}
			if r == utf8.RuneError {
				d := s.at(i+1, utf8.RuneCountInString(l[:j])+1, 1, "", fmt.Sprintf("byte 0x%02x is not UTF-8", l[j]), "save the file as UTF-8")
				d.Source = strings.ToValidUTF8(d.Source, "\uFFFD")
				return "", []Diagnostic{d}
			}
			if r < ' ' && r != '\t' || r == 0x7f {
				return "", []Diagnostic{s.at(i+1, utf8.RuneCountInString(l[:j])+1, 1, "",
					fmt.Sprintf("control character U+%04X", r), `remove it, or write it in double quotes as "\x1b"`)}
			}
		}
	}
	return text, nil
}
