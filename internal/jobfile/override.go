// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"strings"
)

// override applies `key.path=value` settings to the tree, so that an override
// is checked exactly as if the file said it. A value is YAML; its diagnostics
// point into the setting.
func override(root *node, set []string) []Diagnostic {
	for _, s := range set {
		src := newSource("--set", s)
		fail := func(from, to int, msg, hint string) []Diagnostic {
			return []Diagnostic{src.at(1, len([]rune(s[:from]))+1, len([]rune(s[from:to])), "", msg, hint)}
		}
		path, _, ok := strings.Cut(s, "=")
		if !ok || path == "" || strings.ContainsAny(s, "\n\r\x00") {
			return fail(0, len(s), "not key=value", "write it such as sweep.points=64")
		}
		at := root
		keys := strings.Split(path, ".")
		from := 0
		for i, k := range keys {
			to := from + len(k)
			if k == "" {
				return fail(from, to, "an empty key", "write it such as sweep.points=64")
			}
			if at.kind != kindMap {
				return fail(from, to, fmt.Sprintf("%s is %s in the file, not a mapping", strings.Join(keys[:i], "."), at.describe()), "set the whole of it: "+strings.Join(keys[:i], ".")+"={…}")
			}
			key := &node{kind: kindString, src: src, line: 1, col: len([]rune(s[:from])) + 1, text: k}
			if i == len(keys)-1 {
				val, ds := overrideValue(src, s, to+1)
				if ds != nil {
					return ds
				}
				if e := at.entry(k); e != nil {
					e.key, e.val = key, val
				} else {
					at.entries = append(at.entries, entry{key, val})
				}
				break
			}
			e := at.entry(k)
			if e == nil || e.val.kind == kindNull {
				val := &node{kind: kindMap, src: src, line: 1, col: key.col}
				if e == nil {
					at.entries = append(at.entries, entry{key, val})
				} else {
					e.val = val
				}
				e = at.entry(k)
			}
			at = e.val
			from = to + 1
		}
	}
	return nil
}

// overrideValue parses what follows the equals sign. The text before it is
// blanked out, not cut off, so that columns stay those of the setting.
func overrideValue(src *source, s string, from int) (*node, []Diagnostic) {
	if strings.TrimSpace(s[from:]) == "" {
		n := len([]rune(s))
		return nil, []Diagnostic{src.at(1, n+1, 1, "", "no value after `=`", `write "" for empty text`)}
	}
	text, ds := normalise(src.name, []byte(s))
	if ds != nil {
		return nil, ds
	}
	pad := strings.Repeat(" ", len([]rune(text[:from])))
	return parseYAML(src, pad+text[from:])
}
