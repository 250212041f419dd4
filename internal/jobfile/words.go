// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/volley-batch/volley/sharding"
)

// words adds the files that the command names by itself, and checks the
// program when it is one of them.
func (c *collector) words(root *node) {
	for i, n := range listItems(root.get("command")) {
		at := elem("command", i)
		w, abs, ok := c.word(n.text)
		if !ok {
			continue
		}
		info, err := os.Stat(abs)
		if i == 0 && strings.Contains(w, "/") && !c.program(n, at, w, abs, info, err) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if i == 0 && !strings.Contains(w, "/") {
			c.d.warns = append(c.d.warns, n.diag(at, fmt.Sprintf("the program %s is looked up in PATH, although a file of that name is here", w), fmt.Sprintf("write ./%s for the file", w)))
		}
		c.named(abs, n, at)
	}
	n := root.get("run")
	if n == nil {
		return
	}
	for _, w := range shellWords(n.text) {
		w, abs, ok := c.word(w)
		// A bare word is a file by chance (`test`, `data`); a path or a name
		// with an extension is one on purpose.
		if !ok || !strings.ContainsAny(w, "/.") {
			continue
		}
		if info, err := os.Stat(abs); err == nil && info.Mode().IsRegular() {
			c.named(abs, n, "run")
		}
	}
}

// word is the path that a word of the command may be, as it is written and as
// it is found: the word itself, or what follows `--option=`.
func (c *collector) word(w string) (text, abs string, ok bool) {
	if strings.HasPrefix(w, "-") {
		_, w, _ = strings.Cut(w, "=")
	}
	if w == "" || strings.HasPrefix(w, "/") || len(w) > 4096 {
		return "", "", false
	}
	if w, ok = literal(w); !ok {
		return "", "", false
	}
	return w, filepath.Join(c.base, filepath.FromSlash(w)), true
}

// named adds a file that the command names. A job that runs in place may name
// any file; what lies outside has no name relative to the job and stays out.
func (c *collector) named(abs string, n *node, path string) {
	if c.inPlace {
		if _, ok := relWithin(c.dir, abs); !ok {
			if _, ok := relWithin(c.base, abs); !ok {
				c.d.warns = append(c.d.warns, n.diag(path, abs+" lies outside of the job's directories: when it changes, points are not run again", ""))
				return
			}
		}
	}
	c.file(abs, n, path, true)
}

// program checks a first word such as ./train.
func (c *collector) program(n *node, path, w, abs string, info os.FileInfo, err error) bool {
	switch {
	case err != nil && os.IsNotExist(err):
		hint := ""
		if near := nearestFile(abs, false); near != "" {
			hint = fmt.Sprintf("did you mean %s?", beside(w, near))
		}
		c.fail(n, path, hint, "%s: no such file in %s", clip(w, 200), c.base)
	case err != nil:
		c.fail(n, path, "", "%s: %s", clip(w, 200), reason(err))
	case info.IsDir():
		c.fail(n, path, "name the program in it", "%s is a directory", clip(w, 200))
	case !info.Mode().IsRegular():
		c.fail(n, path, "", "%s is not a regular file", clip(w, 200))
	case info.Mode().Perm()&0o111 == 0:
		c.fail(n, path, fmt.Sprintf("`chmod +x %s`, or put its interpreter first, such as [python3, %s]", w, w), "%s is not executable", clip(w, 200))
	default:
		return true
	}
	return false
}

// literal is w as the task gets it; false when that depends on parameters, or
// on variables of a shell.
func literal(w string) (string, bool) {
	for _, p := range sharding.Placeholders(w) {
		if p.Kind == sharding.PlaceholderVariable {
			return "", false
		}
	}
	text, err := sharding.Expand(w, func(string) (string, bool) { return "", false })
	return text, err == nil
}

// shellWords splits a shell script into words, well enough to find file names
// in it: quotes and operators are understood, expansions are left out, and so
// is the target of `>`, which is an output.
func shellWords(s string) []string {
	var words []string
	var cur strings.Builder
	inWord, expands, output, skip := false, false, false, false
	flush := func() {
		if inWord {
			if !expands && !skip {
				words = append(words, cur.String())
			}
			skip = false
		}
		cur.Reset()
		inWord, expands = false, false
	}
	var quote byte
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case quote != 0:
			switch {
			case b == quote:
				quote = 0
			case b == '\\' && quote == '"' && i+1 < len(s):
				i++
				cur.WriteByte(s[i])
			case (b == '$' || b == '`') && quote == '"':
				expands = true
			default:
				cur.WriteByte(b)
			}
		case b == '\'' || b == '"':
			quote, inWord = b, true
		case b == '\\' && i+1 < len(s):
			i++
			if s[i] != '\n' {
				inWord = true
				cur.WriteByte(s[i])
			}
		case b == '#' && !inWord:
			for i+1 < len(s) && s[i+1] != '\n' {
				i++
			}
		case strings.IndexByte(" \t\n;|&()<>", b) >= 0:
			flush()
			switch b {
			case '>':
				output = true
			case ' ', '\t', '|', '&': // `>|` and `>&` are still outputs
			default:
				output = false
			}
		case b == '$' || b == '`' || b == '*' || b == '?':
			inWord, expands = true, true
		default:
			inWord = true
			cur.WriteByte(b)
		}
		if inWord && output {
			skip, output = true, false
		}
	}
	flush()
	return words
}
