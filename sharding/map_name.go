// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxColumns bounds the parameters of a record.
const maxColumns = 4096

// paramName makes a parameter name of a column or key: spaces around it are
// dropped, every other character that is not an ASCII letter, digit or '_'
// becomes '_', a leading digit gets a '_' in front, an empty name is '_' and
// the column's number, and a reserved name gets a '_' behind. Refusing such
// names instead would refuse most tables in the world: dataframe libraries
// write an index column with an empty name, and "index" is common.
func paramName(raw string, column int) string {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return "_" + strconv.Itoa(column)
	}
	var b strings.Builder
	for i, c := range raw {
		switch {
		case c < 0x80 && isLetter(byte(c)):
			b.WriteByte(byte(c))
		case c >= '0' && c <= '9':
			if i == 0 {
				b.WriteByte('_')
			}
			b.WriteByte(byte(c))
		default:
			b.WriteByte('_')
		}
	}
	if name := b.String(); !ReservedName(name) {
		return name
	}
	b.WriteByte('_')
	return b.String()
}

// columnNames are the parameter names of raw columns. A clash is an error that
// names both.
func columnNames(raw []string, what string) ([]string, error) {
	if len(raw) > maxColumns {
		return nil, fmt.Errorf("%d %ss; at most %d", len(raw), what, maxColumns)
	}
	out := make([]string, len(raw))
	seen := make(map[string]int, len(raw))
	for i, r := range raw {
		name := paramName(r, i+1)
		if len(name) > 128 {
			return nil, fmt.Errorf("%s %d has a name of %d bytes; at most 128", what, i+1, len(name))
		}
		upper := strings.ToUpper(name)
		if j, ok := seen[upper]; ok {
			switch {
			case raw[j] == r:
				return nil, fmt.Errorf("%ss %d and %d have the same name %q", what, j+1, i+1, clipText(r))
			case out[j] != name:
				return nil, fmt.Errorf("the %ss %s", what, sameVariable(name, out[j]))
			}
			return nil, fmt.Errorf("%ss %q and %q both give the parameter name %q; rename one", what, clipText(raw[j]), clipText(r), name)
		}
		seen[upper] = i
		out[i] = name
	}
	return out, nil
}

// nearest is a hint for a name that does not exist: the most similar name in
// its directory, or the part of the path that does not exist.
func nearest(name string) string {
	dir, base := filepath.Split(filepath.Clean(name))
	entries, err := os.ReadDir(dir)
	if err != nil {
		if parent := filepath.Clean(dir); parent != filepath.Clean(name) {
			if _, err := os.Stat(parent); err != nil {
				return fmt.Sprintf(" (%s does not exist%s)", parent, nearest(parent))
			}
		}
		return ""
	}
	best, distance := "", 1+len(base)/3
	for _, e := range entries[:min(len(entries), 10_000)] {
		if d := editDistance(base, e.Name(), distance); d <= distance && (best == "" || d < distance) {
			best, distance = e.Name(), d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is the number of bytes to insert, delete or replace to turn a
// into b; anything above most when it is more than most.
func editDistance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
